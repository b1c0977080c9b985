-- KEYS: state, tags. ARGV: name of a new epoch, most tags remembered, tags (none: everything).
if not redis.call('HGET', KEYS[1], 'epoch') then
  redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'number', 0, 'floor', 0)
  redis.call('DEL', KEYS[2])
end
local number = redis.call('HINCRBY', KEYS[1], 'number', 1)
if #ARGV == 2 then
  redis.call('HSET', KEYS[1], 'floor', number)
  redis.call('DEL', KEYS[2])
  return number
end
for i = 3, #ARGV do
  redis.call('ZADD', KEYS[2], number, ARGV[i])
end
-- A tag that is not remembered any more: what is older than its forgetting is not good, whatever it is about.
local over = redis.call('ZCARD', KEYS[2]) - tonumber(ARGV[2])
if over > 0 then
  local gone = redis.call('ZPOPMIN', KEYS[2], over)
  redis.call('HSET', KEYS[1], 'floor', gone[#gone])
end
return number
