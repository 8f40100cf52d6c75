"""Who appends, and appending.

A *lease* is `UNTIL SINCE CONNECTION WHO`, in milliseconds of Redis's own clock; `WHO` is a
`Who`, which means nothing here.

A backend's *border* is `HIGHEST LOWEST`: the highest epoch that was handed out to one of its
producers or is remembered elsewhere, and the lowest that still counts.
"""

from typing import NamedTuple

import msgspec

from osmo_transport.queues.redis.scripts.script import Script, script


class Who(NamedTuple):
    """Who holds a lease, for people; see `queues.leases.Claim`."""

    address: str
    credential: str


encode_who = msgspec.json.Encoder().encode
decode_who = msgspec.json.Decoder(Who).decode

_BORDER = """
local function border(borders, backend)
  local text = redis.call('HGET', borders, backend)
  if not text then return 0, 0 end
  local highest, lowest = text:match('^(%d+) (%d+)$')
  return tonumber(highest), tonumber(lowest)
end
local function set_border(borders, backend, highest, lowest)
  redis.call('HSET', borders, backend, string.format('%.0f %.0f', highest, lowest))
end
"""

LEASE = """
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function lease(leases, producer)
  local text = redis.call('HGET', leases, producer)
  if not text then return 0 end
  local till, since, connection, who = text:match('^(%d+) (%d+) (%S*) (.*)$')
  return tonumber(till), since, connection, who
end
local function lasts(till, now, most)
  return till > now and till - now <= tonumber(most)
end
local function set_lease(leases, producer, till, since, connection, who)
  local text = string.format('%.0f %s %s ', till, since, connection) .. who
  redis.call('HSET', leases, producer, text)
end
"""

OPEN = script(
    _BORDER
    + LEASE
    + """
local queue_epoch = redis.call('GET', KEYS[1])
if not queue_epoch then
  queue_epoch = ARGV[7]
  redis.call('SET', KEYS[1], queue_epoch)
end
local producer, instance, backend = ARGV[1], ARGV[2], ARGV[8]
local known_queue_epoch, known_epoch, known_sequence = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local now = tonumber(ARGV[6])
local highest, lowest = border(KEYS[5], backend)
local function forget(key, before)
  for _, silent in ipairs(redis.call('ZRANGEBYSCORE', key, 0, before, 'LIMIT', 0, 20)) do
    local place = redis.call('HGET', KEYS[2], silent)
    if place and tonumber(place:match('^%d+')) > now then
      redis.call('ZADD', key, before, silent)
    else
      redis.call('HDEL', KEYS[2], silent)
      redis.call('ZREM', KEYS[3], silent)
      redis.call('ZREM', KEYS[4], silent)
      redis.call('HDEL', KEYS[6], silent)
      local whose = cjson.decode(silent)[1]
      local handed_out, counts = border(KEYS[5], whose)
      if counts == 0 and handed_out <= now then redis.call('HDEL', KEYS[5], whose) end
    end
  end
end
local waits, lasting, connection, who = ARGV[13] == '1', tonumber(ARGV[14]), ARGV[15], ARGV[16]
local function take(holder)
  if lasting == 0 then
    redis.call('HDEL', KEYS[6], producer)
    return
  end
  local _, since = lease(KEYS[6], producer)
  local moment = clock()
  if holder ~= instance or not since then since = string.format('%.0f', moment) end
  set_lease(KEYS[6], producer, moment + lasting, since, connection, who)
end
local stored = redis.call('HGET', KEYS[2], producer)
local holder
if stored then
  local e, s, name = stored:match('^(%d+) (%d+) ?(.*)$')
  holder = name
  if waits and holder ~= instance then
    local till, since, _, holding = lease(KEYS[6], producer)
    if lasts(till, clock(), ARGV[17]) then return {'OCCUPIED', holder, holding, since} end
  end
  local held, sequence = tonumber(e), tonumber(s)
  local asks_again = known_epoch < held and holder == instance
  if known_epoch < held and known_epoch > 0 and not (asks_again or waits) then return 'FENCED' end
  local agrees = known_queue_epoch == queue_epoch and known_epoch == held
    and known_sequence <= sequence
  redis.call('ZADD', KEYS[3], now, producer)
  if held >= lowest and (asks_again or agrees) then
    take(holder)
    return {queue_epoch, e, s}
  end
  highest = math.max(highest, held)
else
  forget(KEYS[4], ARGV[11])
  forget(KEYS[3], ARGV[10])
  if redis.call('HLEN', KEYS[2]) >= tonumber(ARGV[12]) then return 'FULL' end
  redis.call('ZADD', KEYS[3], now, producer)
end
redis.call('ZADD', KEYS[4], now, producer)
local believed = 0
if known_epoch <= math.max(highest, now + ARGV[9]) then believed = known_epoch end
local epoch = math.max(highest + 1, believed + 1, now)
set_border(KEYS[5], backend, epoch, lowest)
epoch = string.format('%.0f', epoch)
redis.call('HSET', KEYS[2], producer, epoch .. ' 0 ' .. instance)
take(holder)
return {queue_epoch, epoch, '0'}
"""
)
"""Admits a producer, by the rule of `session.admission.admit`, and when it makes a place also
forgets some that nobody has asked for since long. KEYS: epoch, producers, when each connected, when
each that has appended nothing yet connected, borders, leases. ARGV: producer, instance, its known
queue epoch, epoch and sequence, milliseconds since the Unix epoch, a fresh queue epoch, backend,
milliseconds by which a claim may be ahead, the milliseconds before which any is forgotten and
before which one is that appended nothing, most producers, 1 if it waits, milliseconds of its lease,
its connection and who it is, and the most milliseconds of a lease. Returns its state, FENCED, FULL,
or OCCUPIED with the holder, who that is, and since when it holds the place."""

RENEW = script(
    LEASE
    + """
local now, most, count = clock(), ARGV[1], tonumber(ARGV[2])
for i = 3, 2 + 3 * count, 3 do
  local producer, connection, rest = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  local till, since, holding, who = lease(KEYS[1], producer)
  if holding == connection then
    set_lease(KEYS[1], producer, now + rest, since, connection, who)
  end
end
local free = {}
for i = 3 + 3 * count, #ARGV do
  if not lasts(lease(KEYS[1], ARGV[i]), now, most) then free[#free + 1] = ARGV[i] end
end
return free
"""
)
"""Renews leases, by the rule of `queues.leases`. KEYS: leases. ARGV: the most milliseconds of a
lease, how many are renewed, producer, connection and milliseconds from now of each, then the
producers that are waited for. Returns those of them whose place nobody holds."""

RAISE = script(
    _BORDER
    + """
local now = tonumber(ARGV[1])
for i = 2, #ARGV, 2 do
  local backend, epoch = ARGV[i], tonumber(ARGV[i + 1])
  local highest = border(KEYS[1], backend)
  if epoch > highest and epoch >= now then set_border(KEYS[1], backend, epoch, epoch + 1) end
end
return 0
"""
)
"""Lets every epoch of a backend be higher than one that is remembered elsewhere, where the clock
alone does not see to that. KEYS: borders. ARGV: milliseconds since the Unix epoch, then backend and
epoch of each."""

RESET = script("""
local begins, known = ARGV[1], 0
for _, producer in ipairs(redis.call('HKEYS', KEYS[1])) do
  if producer:sub(1, #begins) == begins then
    redis.call('HDEL', KEYS[1], producer)
    redis.call('ZREM', KEYS[2], producer)
    redis.call('ZREM', KEYS[3], producer)
    redis.call('HDEL', KEYS[4], producer)
    known = known + 1
  end
end
redis.call('HDEL', KEYS[5], ARGV[2])
return known
""")
"""Forgets the producers of a backend and its border. In one step: one of its producers that came in
between would get an epoch above the old ones. KEYS: producers, when each connected, when each that
has appended nothing yet connected, leases, borders. ARGV: what the names of the backend's producers
begin with, backend. Returns how many there were."""

_APPEND = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'LOST' end
local producer, backend, limit = ARGV[2], ARGV[3], ARGV[4]
local before, after, ways, count = ARGV[5], ARGV[6], ARGV[7], #ARGV - 7
local stored = redis.call('HGET', KEYS[2], producer)
if not stored then return 'LOST' end
local skip, instance = 0, stored:sub(#before + 1)
if stored:sub(1, #before) ~= before then
  local epoch, last, holder = stored:match('^(%d+) (%d+) ?(.*)$')
  local own, known = before:match('^(%d+) (%d+) $')
  epoch, own = tonumber(epoch), tonumber(own)
  if epoch > own then return 'FENCED' end
  skip, instance = last - known, holder
  if epoch < own or skip < 0 then return 'LOST' end
end
local border = redis.call('HGET', KEYS[4], backend)
if border and border:sub(-2) ~= ' 0' then
  local lowest = border:match('%d+$')
  if tonumber(before:match('^%d+')) < tonumber(lowest) then return 'LOST' end
end
if skip >= count then return 'STORED' end

local alike = #ways == 1 and ways:byte() - 48
local held = 0
for i = 6, #KEYS do held = held + redis.call('XLEN', KEYS[i]) end
if held + count - skip > tonumber(limit) then
  if alike then ways = ways:rep(count) end
  local _, room = ways:sub(skip + 1):gsub('[^0]', '')
  if room > 0 and held + room > tonumber(limit) then return {held} end
end

local added = {}
for i = skip + 1, count do
  local way = alike or ways:byte(i) - 48
  if way > 0 then
    local message = ARGV[7 + i]
    redis.call('XADD', KEYS[5 + way], '*', FIELDS)
    added[way] = (added[way] or 0) + 1
  end
end
for way, number in pairs(added) do
  redis.call('HINCRBY', KEYS[5], KEYS[5 + way] .. ' in', number)
end
if before:sub(-3) == ' 0 ' then redis.call('ZREM', KEYS[3], producer) end
redis.call('HSET', KEYS[2], producer, after .. instance)
return 'STORED'
"""


def append(fields: str) -> Script:
    """Adds what is new of one batch, each message as an entry with these `fields`, in which
    `backend` is the backend and `message` the message's bytes.

    KEYS: epoch, producers, when each that has appended nothing yet connected, borders, counts,
    streams. ARGV: queue epoch, producer, backend, most entries allowed, where the producer stands
    before the batch and after it (`EPOCH SEQUENCE `), ways, and each message: cut from one piece
    it would become a string of Lua's twice. The ways have a character for each message, or one for
    all of them: 0 for one that is refused, else the character that is as many behind 0 as the
    stream is among the streams. Returns STORED, FENCED, LOST, or if there is no room a list of the
    number of entries held.

    A report that comes alone finds nothing of this in a cache: so where all is as it should be, the
    place is compared as it stands, and nothing is taken apart.
    """
    return script(_APPEND.replace("FIELDS", fields))
