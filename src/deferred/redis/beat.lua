-- A sign of life. ARGV: worker, then for each claim: priority, stream entry, deliveries. Gives 1 for each that is still ours.
local worker = ARGV[1]
local answers = {}
for at = 2, #ARGV, 3 do
  local stream, entry = KEYS[1 + tonumber(ARGV[at])], ARGV[at + 1]
  local pending = redis.pcall('XPENDING', stream, 'workers', entry, entry, 1)
  local ours = not pending.err and pending[1] and pending[1][2] == worker and pending[1][4] == tonumber(ARGV[at + 2])
  if ours then
    -- JUSTID: the number of deliveries stays.
    redis.call('XCLAIM', stream, 'workers', worker, 0, entry, 'JUSTID')
  end
  answers[#answers + 1] = ours and 1 or 0
end
return answers
