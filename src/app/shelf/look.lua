-- KEYS: answer, state, tags. ARGV: name of a new epoch, tags of the answer.
-- Gives {epoch, number} and, when there is an answer and none of its tags was forgotten since, {…, answer, ms left}.
local epoch, number, floor = unpack(redis.call('HMGET', KEYS[2], 'epoch', 'number', 'floor'))
if not epoch then
  epoch, number, floor = ARGV[1], '0', '0'
  redis.call('HSET', KEYS[2], 'epoch', epoch, 'number', number, 'floor', floor)
  redis.call('DEL', KEYS[3])
end
local kept = redis.call('HMGET', KEYS[1], 'epoch', 'number', 'answer')
if kept[1] ~= epoch or tonumber(kept[2]) < tonumber(floor) then
  return {epoch, number}
end
for i = 2, #ARGV do
  local at = redis.call('ZSCORE', KEYS[3], ARGV[i])
  if at and tonumber(at) > tonumber(kept[2]) then
    return {epoch, number}
  end
end
return {epoch, number, kept[3], tostring(redis.call('PTTL', KEYS[1]))}
