"""What somebody sees who takes nothing: pages of entries, of dead letters and of producers."""

from osmo_transport.queues.redis.scripts.producers import LEASE
from osmo_transport.queues.redis.scripts.script import SIZE, script

# Each message may be large, so that few of them are read at a time.
_READ = (
    SIZE
    + """
local function read(stream, from, looks, budget, show)
  while looks > 0 and budget > 0 do
    local asked = math.min(looks, 8)
    local page = redis.call('XRANGE', stream, from, '+', 'COUNT', asked)
    for _, entry in ipairs(page) do
      if budget <= 0 then return end
      show(entry[1], entry[2])
      budget = budget - size_of(entry[2])
      from = '(' .. entry[1]
    end
    if #page < asked then return end
    looks = looks - asked
  end
end
"""
)

LETTERS = script(
    _READ
    + """
local found = {}
read(KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), function(id, fields)
  found[#found + 1] = {id, fields}
end)
return found
"""
)
"""Reads dead letters. KEYS: dead. ARGV: where to begin, how many and how many bytes to read.
Returns [id, fields] of each, none at the end."""

ENTRIES = script(
    _READ
    + """
local stream, found, group = KEYS[1], {}, nil
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local groups = redis.pcall('XINFO', 'GROUPS', stream)
if not groups.err and groups[1] then group = groups[1][2] end
read(stream, ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), function(id, fields)
  local age = math.max(0, now - tonumber(id:match('^%d+')))
  local pending = group and redis.call('XPENDING', stream, group, id, id, 1)[1]
  if pending then
    found[#found + 1] = {id, fields, age, pending[2], pending[4]}
  else
    found[#found + 1] = {id, fields, age}
  end
end)
return found
"""
)
"""Reads entries of a stream. KEYS: stream. ARGV: as `LETTERS`. Returns of each [id, fields,
milliseconds since it was added], and of one that is pending also the member and how often it was
delivered."""

PRODUCERS = script(
    LEASE
    + """
local from, after, score = 0, ARGV[2], ARGV[3]
if after ~= '' then
  if tonumber(redis.call('ZSCORE', KEYS[2], after) or -1) == tonumber(score) then
    from = redis.call('ZRANK', KEYS[2], after) + 1
  else
    from = redis.call('ZCOUNT', KEYS[2], '-inf', '(' .. score)
  end
end
local now, found = clock(), {}
local names = redis.call('ZRANGE', KEYS[2], from, from + ARGV[1] - 1, 'WITHSCORES')
for i = 1, #names, 2 do
  local producer = names[i]
  local till, since, _, who = lease(KEYS[3], producer)
  local held = lasts(till, now, ARGV[4])
  local place = redis.call('HGET', KEYS[1], producer) or '0 0 '
  found[#found + 1] = {producer, names[i + 1], place, held and since or '', held and who or ''}
end
return found
"""
)
"""Tells who reports, in the order in which they connected last. KEYS: producers, when each
connected, leases. ARGV: how many, the producer and its time behind which to begin (nothing: at the
beginning), and the most milliseconds of a lease. Returns of each its name, when it connected, its
place, and while a lease lasts since when and by whom it is held."""
