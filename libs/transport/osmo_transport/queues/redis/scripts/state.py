"""The queue as a whole.

The *counts* of a stream say how many entries were appended and how many were removed by those who
settled them, so that what somebody else removes is missed.
"""

from osmo_transport.queues.redis.scripts.script import script

EPOCH = script("""
local epoch = redis.call('GET', KEYS[1])
if not epoch then
  epoch = ARGV[1]
  redis.call('SET', KEYS[1], epoch)
end
return epoch
""")
"""The queue epoch, which is made if there is none. KEYS: epoch. ARGV: a fresh one."""

STATUS = script("""
local epoch = redis.call('GET', KEYS[1])
local lost, figures = 0, {}
for i = 4, #KEYS do
  local stream = KEYS[i]
  local length, pending = redis.call('XLEN', stream), 0
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  if not groups.err then
    for _, fields in ipairs(groups) do
      for j = 1, #fields, 2 do
        if fields[j] == 'pending' then pending = pending + fields[j + 1] end
      end
    end
  end
  figures[#figures + 1] = length
  figures[#figures + 1] = pending
  if ARGV[2] == '1' then
    local counts = redis.call('HMGET', KEYS[3], stream .. ' in', stream .. ' out')
    local missing = (counts[1] or 0) - (counts[2] or 0) - length
    if missing > 0 then lost = lost + missing end
    if missing ~= 0 then redis.call('HINCRBY', KEYS[3], stream .. ' out', missing) end
  end
end
if not epoch or lost > 0 then
  epoch = ARGV[1]
  redis.call('SET', KEYS[1], epoch)
end
return {epoch, lost, redis.call('XLEN', KEYS[2]), figures}
""")
"""The figures, and whether entries are missing: then the queue gets another epoch, as after any
other loss. KEYS: epoch, dead, counts, streams. ARGV: a fresh epoch, 1 if the counts can be trusted.
Returns the epoch, the number of entries that are missing, of dead letters, and of each stream its
length and how many of its entries are pending."""
