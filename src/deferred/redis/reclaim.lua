-- Takes over from the dead. ARGV: worker, lease in ms, then a cursor for each priority.
-- Gives the next cursors, then for each job: priority, stream entry, key, bytes, deliveries.
-- One at a time, and none while this worker still has one: should it die over that one, it is the only one that is charged
-- with it once more.
local worker, lease, most = ARGV[1], tonumber(ARGV[2]), 1
local cursors, claimed = {}, {}
for priority = 1, 3 do
  local mine = redis.pcall('XPENDING', KEYS[1 + priority], 'workers', '-', '+', 10000, worker)
  if not mine.err then
    for _, entry in ipairs(mine) do
      if entry[4] > 1 then most = 0 end
    end
  end
end
for priority = 1, 3 do
  local stream = KEYS[1 + priority]
  cursors[priority] = '0-0'
  if most > 0 then
    local reply = redis.pcall('XAUTOCLAIM', stream, 'workers', worker, lease, ARGV[2 + priority], 'COUNT', most)
    if reply.err then
      if string.sub(reply.err, 1, 7) ~= 'NOGROUP' then return reply end
    else
      cursors[priority] = reply[1]
      for _, entry in ipairs(reply[2]) do
        local key = entry[2][2]
        local bytes = redis.call('HGET', KEYS[1], key)
        if bytes then
          local pending = redis.call('XPENDING', stream, 'workers', entry[1], entry[1], 1)
          claimed[#claimed + 1] = {priority, entry[1], key, bytes, pending[1][4]}
        else
          redis.call('XACK', stream, 'workers', entry[1])
          redis.call('XDEL', stream, entry[1])
        end
      end
      most = most - #reply[2]
      -- Workers that are gone and have nothing any more. Whoever still lives comes back under its name by itself.
      for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', stream, 'workers')) do
        local fact = {}
        for at = 1, #consumer, 2 do fact[consumer[at]] = consumer[at + 1] end
        if fact.pending == 0 and fact.idle > 10 * lease and fact.name ~= worker then
          redis.call('XGROUP', 'DELCONSUMER', stream, 'workers', fact.name)
        end
      end
    end
  end
end
return {cursors, claimed}
