-- Takes in dead letters. ARGV: most, then for each key, bytes, since when. Gives how many came in.
-- When there are as many as may be, a newer one takes the place of the oldest.
local most = tonumber(ARGV[1])
local count = 0
for at = 2, #ARGV, 3 do
  local key, since = ARGV[at], tonumber(ARGV[at + 2])
  local new = redis.call('HEXISTS', KEYS[1], key) == 0 and redis.call('HEXISTS', KEYS[8], key) == 0
  if new and redis.call('ZCARD', KEYS[9]) >= most then
    local oldest = redis.call('ZRANGE', KEYS[9], 0, 0, 'WITHSCORES')
    new = oldest[1] and since > tonumber(oldest[2])
    if new then
      redis.call('HDEL', KEYS[8], oldest[1])
      redis.call('ZREM', KEYS[9], oldest[1])
    end
  end
  if new then
    redis.call('HSET', KEYS[8], key, ARGV[at + 1])
    redis.call('ZADD', KEYS[9], since, key)
    count = count + 1
  end
end
return count
