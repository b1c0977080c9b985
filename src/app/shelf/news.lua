-- KEYS: state, tags. ARGV: name of a new epoch, known epoch, known number.
-- Gives {epoch, number, 1 when everything was forgotten, tags forgotten since…}.
local epoch, number, floor = unpack(redis.call('HMGET', KEYS[1], 'epoch', 'number', 'floor'))
if not epoch then
  epoch, number, floor = ARGV[1], '0', '0'
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'number', number, 'floor', floor)
  redis.call('DEL', KEYS[2])
end
if epoch ~= ARGV[2] or tonumber(floor) > tonumber(ARGV[3]) then
  return {epoch, number, '1'}
end
local news = {epoch, number, '0'}
if tonumber(number) > tonumber(ARGV[3]) then
  for _, tag in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[3], '+inf')) do
    news[#news + 1] = tag
  end
end
return news
