-- Takes in a dead letter that was never a job here. ARGV: most dead letters, since when, key, bytes.
redis.call('HSET', KEYS[8], ARGV[3], ARGV[4])
redis.call('ZADD', KEYS[9], ARGV[2], ARGV[3])
local surplus = redis.call('ZCARD', KEYS[9]) - tonumber(ARGV[1])
if surplus > 0 then
  for _, key in ipairs(redis.call('ZRANGE', KEYS[9], 0, surplus - 1)) do
    redis.call('HDEL', KEYS[8], key)
    redis.call('ZREM', KEYS[9], key)
  end
end
return 1
