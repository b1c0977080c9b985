-- Takes jobs in. ARGV: most jobs, then for each key, bytes, priority (1 to 3), due (0: now).
-- Gives for each: 1 queued, 2 there already, 3 full.
-- The dead letter with the key of one that is queued is gone: it is alive again.
-- A job is in the hash for as long as it is not done: that is what makes two with one key one.
local room = tonumber(ARGV[1]) - redis.call('HLEN', KEYS[1])
local answers = {}
for at = 2, #ARGV, 4 do
  local key, bytes, priority, due = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2]), ARGV[at + 3]
  local answer = 1
  if redis.call('HEXISTS', KEYS[1], key) == 1 then
    answer = 2
  elseif room <= 0 then
    answer = 3
  else
    room = room - 1
    redis.call('HSET', KEYS[1], key, bytes)
    if redis.call('HDEL', KEYS[8], key) == 1 then redis.call('ZREM', KEYS[9], key) end
    if due == '0' then
      redis.call('XADD', KEYS[1 + priority], '*', 'k', key)
    else
      redis.call('ZADD', KEYS[4 + priority], due, key)
    end
  end
  answers[#answers + 1] = answer
end
return answers
