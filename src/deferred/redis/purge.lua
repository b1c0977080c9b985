-- Throws dead letters away. ARGV: keys; none: all. Gives how many.
if #ARGV == 0 then
  local count = redis.call('HLEN', KEYS[8])
  redis.call('DEL', KEYS[8], KEYS[9])
  return count
end
local count = 0
for _, key in ipairs(ARGV) do
  count = count + redis.call('HDEL', KEYS[8], key)
  redis.call('ZREM', KEYS[9], key)
end
return count
