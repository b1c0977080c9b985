-- Dead letters: the newest first. ARGV: most, time and key of the one after which they begin (empty: none).
-- Gives for each: key, bytes.
local most, ms, after = tonumber(ARGV[1]), ARGV[2], ARGV[3]
local found, skip = {}, 0
while #found < most do
  local keys = redis.call('ZREVRANGEBYSCORE', KEYS[9], ms, '-inf', 'WITHSCORES', 'LIMIT', skip, most)
  if #keys == 0 then break end
  for at = 1, #keys, 2 do
    local bytes = redis.call('HGET', KEYS[8], keys[at])
    -- Of those that died at one time, the keys go backwards.
    local new = ms == '+inf' or tonumber(keys[at + 1]) < tonumber(ms) or keys[at] < after
    if bytes and new and #found < most then found[#found + 1] = {keys[at], bytes} end
  end
  skip = skip + most
end
return found
