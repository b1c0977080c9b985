-- Dead letters: the newest first, or those of given keys. ARGV: most, keys. Gives for each: key, bytes.
local keys = redis.call('ZREVRANGE', KEYS[9], 0, tonumber(ARGV[1]) - 1)
if #ARGV > 1 then
  keys = {}
  for at = 2, #ARGV do keys[#keys + 1] = ARGV[at] end
end
local found = {}
for _, key in ipairs(keys) do
  local bytes = redis.call('HGET', KEYS[8], key)
  if bytes then found[#found + 1] = {key, bytes} end
end
return found
