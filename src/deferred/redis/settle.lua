-- Settles claims. ARGV: worker, now, most dead letters, lease in ms, then for each claim: priority, stream entry, deliveries, key, what
-- (done, again, dead, back), due, bytes. Gives 1 for each that was still ours; of others nothing is changed.
-- An entry leaves its stream here and nowhere else, together with its acknowledgement: nothing is trimmed, and so nothing that
-- waits or is worked on can be trimmed away.
local worker, now, most, lease = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local answers = {}
local buried = false
for at = 5, #ARGV, 7 do
  local priority, entry, deliveries = tonumber(ARGV[at]), ARGV[at + 1], tonumber(ARGV[at + 2])
  local key, what, due, bytes = ARGV[at + 3], ARGV[at + 4], ARGV[at + 5], ARGV[at + 6]
  local stream = KEYS[1 + priority]
  local pending = redis.pcall('XPENDING', stream, 'workers', entry, entry, 1)
  local ours = not pending.err and pending[1] and pending[1][2] == worker and pending[1][4] == deliveries
  if ours and what == 'back' and deliveries > 1 then
    -- Others have lost it before: that is not forgotten. It stays claimed, by nobody and since a lease ago, with one delivery
    -- less.
    redis.call('XCLAIM', stream, 'workers', 'nobody', 0, entry, 'IDLE', lease, 'RETRYCOUNT', deliveries - 1, 'JUSTID')
  elseif ours then
    if what == 'dead' then
      redis.call('HSET', KEYS[8], key, bytes)
      redis.call('ZADD', KEYS[9], now, key)
      buried = true
    end
    if what == 'again' then
      redis.call('HSET', KEYS[1], key, bytes)
      redis.call('ZADD', KEYS[4 + priority], due, key)
    elseif what == 'back' then
      redis.call('XADD', stream, '*', 'k', key)
    else
      redis.call('HDEL', KEYS[1], key)
    end
    redis.call('XACK', stream, 'workers', entry)
    redis.call('XDEL', stream, entry)
  end
  answers[#answers + 1] = ours and 1 or 0
end
if buried then
  local surplus = redis.call('ZCARD', KEYS[9]) - most
  if surplus > 0 then
    for _, key in ipairs(redis.call('ZRANGE', KEYS[9], 0, surplus - 1)) do
      redis.call('HDEL', KEYS[8], key)
      redis.call('ZREM', KEYS[9], key)
    end
  end
end
return answers
