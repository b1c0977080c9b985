-- Dead letters of given keys. ARGV: keys. Gives for each that is there: key, bytes.
local found = {}
for _, key in ipairs(ARGV) do
  local bytes = redis.call('HGET', KEYS[8], key)
  if bytes then found[#found + 1] = {key, bytes} end
end
return found
