-- Claims jobs. ARGV: now, worker, how many of high, medium, low. Gives for each: priority (1 to 3), stream
-- entry, key, bytes.
-- First moves what has become due into the streams.
local now, worker = ARGV[1], ARGV[2]
local claimed, left = {}, 0

local function read(priority, most)
  if most <= 0 then return 0 end
  local stream = KEYS[1 + priority]
  local function ask()
    return redis.pcall('XREADGROUP', 'GROUP', 'workers', worker, 'COUNT', most, 'STREAMS', stream, '>')
  end
  local reply = ask()
  if reply and reply.err then
    if string.sub(reply.err, 1, 7) ~= 'NOGROUP' then return reply end
    redis.call('XGROUP', 'CREATE', stream, 'workers', '0', 'MKSTREAM')
    reply = ask()
    if reply and reply.err then return reply end
  end
  if not reply then return 0 end
  for _, entry in ipairs(reply[1][2]) do
    local key = entry[2][2]
    local bytes = redis.call('HGET', KEYS[1], key)
    if bytes then
      claimed[#claimed + 1] = {priority, entry[1], key, bytes}
    else
      -- Nothing belongs to it: it can only be a leftover.
      redis.call('XACK', stream, 'workers', entry[1])
      redis.call('XDEL', stream, entry[1])
    end
  end
  return #reply[1][2]
end

for priority = 1, 3 do
  local later = KEYS[4 + priority]
  for _, key in ipairs(redis.call('ZRANGEBYSCORE', later, '-inf', now, 'LIMIT', 0, 500)) do
    redis.call('XADD', KEYS[1 + priority], '*', 'k', key)
    redis.call('ZREM', later, key)
  end
end
for priority = 1, 3 do
  local wanted = tonumber(ARGV[2 + priority])
  local got = read(priority, wanted)
  if type(got) == 'table' then return got end
  left = left + wanted - got
end
for priority = 1, 3 do
  local got = read(priority, left)
  if type(got) == 'table' then return got end
  left = left - got
end
return claimed
