-- What is in the queue: for each priority waiting, running, later, age of the oldest that waits in ms; then dead letters.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local answer = {}
for priority = 1, 3 do
  local stream = KEYS[1 + priority]
  local running, last, oldest = 0, '-', 0
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  if not groups.err and groups[1] then
    local fact = {}
    for at = 1, #groups[1], 2 do fact[groups[1][at]] = groups[1][at + 1] end
    running, last = fact.pending, '(' .. fact['last-delivered-id']
  end
  local first = redis.call('XRANGE', stream, last, '+', 'COUNT', 1)
  if first[1] then
    oldest = math.max(0, now - tonumber(string.match(first[1][1], '^%d+')))
  end
  answer[#answer + 1] = redis.call('XLEN', stream) - running
  answer[#answer + 1] = running
  answer[#answer + 1] = redis.call('ZCARD', KEYS[4 + priority])
  answer[#answer + 1] = oldest
end
answer[#answer + 1] = redis.call('HLEN', KEYS[8])
return answer
