"""The queue as a whole.

The *counts* of a stream say how many entries were appended and how many were removed by those who
settled them, so that what somebody else removes is missed. Whoever has no right to `SET` may only
look: for him nothing is made and nothing is missed, which those find out who may.
"""

from osmo_transport.queues.redis.scripts.script import script

EPOCH = script("""
local epoch = redis.call('GET', KEYS[1])
if not epoch and not redis.pcall('SET', KEYS[1], ARGV[1]).err then epoch = ARGV[1] end
return epoch or ''
""")
"""The queue epoch, which is made if there is none, by whoever may; else empty. KEYS: epoch. ARGV: a
fresh one."""

STATUS = script("""
local epoch = redis.call('GET', KEYS[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lost, figures, alive, gone = 0, {}, {}, {}
local function map(fields)
  local values = {}
  for i = 1, #fields, 2 do values[fields[i]] = fields[i + 1] end
  return values
end
for i = 4, #KEYS do
  local stream = KEYS[i]
  local length, pending, age = redis.call('XLEN', stream), 0, 0
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  if not groups.err then
    for _, fields in ipairs(groups) do
      local group = map(fields)
      pending = pending + group.pending
      for _, each in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group.name)) do
        local consumer = map(each)
        if consumer.name ~= ARGV[4] and consumer.idle <= tonumber(ARGV[3]) then
          alive[consumer.name] = true
        end
      end
    end
  end
  local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  if first then age = math.max(0, now - tonumber(first[1]:match('^%d+'))) end
  figures[#figures + 1] = length
  figures[#figures + 1] = pending
  figures[#figures + 1] = age
  if ARGV[2] == '1' then
    local counts = redis.call('HMGET', KEYS[3], stream .. ' in', stream .. ' out')
    local missing = (counts[1] or 0) - (counts[2] or 0) - length
    if missing > 0 then lost = lost + missing end
    if missing ~= 0 then gone[stream] = missing end
  end
end
if not epoch or next(gone) then
  local next_epoch = epoch
  if not epoch or lost > 0 then next_epoch = ARGV[1] end
  if redis.pcall('SET', KEYS[1], next_epoch).err then
    epoch, lost = epoch or '', 0
  else
    epoch = next_epoch
    for stream, missing in pairs(gone) do
      redis.call('HINCRBY', KEYS[3], stream .. ' out', missing)
    end
  end
end
local consumers = 0
for _ in pairs(alive) do consumers = consumers + 1 end
return {epoch, lost, redis.call('XLEN', KEYS[2]), consumers, figures}
""")
"""The figures, and whether entries are missing: then the queue gets another epoch, as after any
other loss. KEYS: epoch, dead, counts, streams. ARGV: a fresh epoch, 1 if the counts can be trusted,
milliseconds of silence after which a consumer does not count, and the name of one that never does.
Returns the epoch, the number of entries that are missing, of dead letters, of consumers, and of
each stream its length, how many of its entries are pending, and milliseconds since its oldest one
was added."""
