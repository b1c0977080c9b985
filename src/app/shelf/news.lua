-- KEYS: state, tags. ARGV: name of a new epoch, known epoch, known number.
-- Gives {epoch, number, 1 when everything was forgotten, tags forgotten since…}.
local epoch, number, floor, run = unpack(redis.call('HMGET', KEYS[1], 'epoch', 'number', 'floor', 'run'))
-- A server that has started anew, or another in its place, may not remember what was forgotten last.
local server = redis.pcall('INFO', 'server')
local now = type(server) == 'string' and string.match(server, 'run_id:(%x+)')
local lost = (run and now and run ~= now) or (epoch == ARGV[2] and tonumber(number) < tonumber(ARGV[3]))
if not epoch or lost then
  epoch, number, floor = ARGV[1], '0', '0'
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'number', number, 'floor', floor)
  redis.call('DEL', KEYS[2])
end
if now and run ~= now then
  redis.call('HSET', KEYS[1], 'run', now)
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
