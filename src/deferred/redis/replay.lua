-- Puts dead letters into the queue again. ARGV: for each key, bytes as new, priority. Gives how many.
-- One whose key is in the queue already stays a dead letter.
local count = 0
for at = 1, #ARGV, 3 do
  local key = ARGV[at]
  if redis.call('HEXISTS', KEYS[8], key) == 1 and redis.call('HEXISTS', KEYS[1], key) == 0 then
    redis.call('HSET', KEYS[1], key, ARGV[at + 1])
    redis.call('XADD', KEYS[1 + tonumber(ARGV[at + 2])], '*', 'k', key)
    redis.call('HDEL', KEYS[8], key)
    redis.call('ZREM', KEYS[9], key)
    count = count + 1
  end
end
return count
