-- Takes dead letters back that may have been lost. ARGV: most, then for each key, bytes, since when. Gives how many came in.
local room = tonumber(ARGV[1]) - redis.call('HLEN', KEYS[8])
local count = 0
for at = 2, #ARGV, 3 do
  local key = ARGV[at]
  if room > 0 and redis.call('HEXISTS', KEYS[1], key) == 0 and redis.call('HEXISTS', KEYS[8], key) == 0 then
    redis.call('HSET', KEYS[8], key, ARGV[at + 1])
    redis.call('ZADD', KEYS[9], ARGV[at + 2], key)
    room = room - 1
    count = count + 1
  end
end
return count
