-- What is in the queue: for each priority waiting, running, later, age of the oldest that waits in ms; then dead letters.
-- ARGV: now, lease in ms. What a worker claimed and gave no sign of life for a lease waits again, whether or not somebody has
-- taken it over by now, and so does what has become due.
local due, lease = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local answer = {}
for priority = 1, 3 do
  local stream, later = KEYS[1 + priority], KEYS[4 + priority]
  local running, lost, last, oldest = 0, 0, '-', 0
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  if not groups.err and groups[1] then
    local fact = {}
    for at = 1, #groups[1], 2 do fact[groups[1][at]] = groups[1][at + 1] end
    running, last = fact.pending, '(' .. fact['last-delivered-id']
    if running > 0 then
      for _, entry in ipairs(redis.call('XPENDING', stream, 'workers', 'IDLE', lease, '-', '+', 10000)) do
        lost = lost + 1
        oldest = math.max(oldest, entry[3] - lease)
      end
    end
  end
  local first = redis.call('XRANGE', stream, last, '+', 'COUNT', 1)
  if first[1] then
    oldest = math.max(oldest, now - tonumber(string.match(first[1][1], '^%d+')))
  end
  local come = redis.call('ZCOUNT', later, '-inf', due)
  if come > 0 then
    local first = redis.call('ZRANGE', later, 0, 0, 'WITHSCORES')
    oldest = math.max(oldest, due - tonumber(first[2]))
  end
  answer[#answer + 1] = redis.call('XLEN', stream) - running + lost + come
  answer[#answer + 1] = running - lost
  answer[#answer + 1] = redis.call('ZCARD', later) - come
  answer[#answer + 1] = oldest
end
answer[#answer + 1] = redis.call('HLEN', KEYS[8])
return answer
