"""The steps that Redis carries out atomically, in Lua.

Every script takes its keys through KEYS, which share one hash tag, and everything else through
ARGV. They keep to what Redis 6.2 knows. A script that may be refused for want of memory writes
nothing before the command that is refused, or catches the refusal.
"""

import hashlib
from typing import NamedTuple


class Script(NamedTuple):
    """A script and the name by which EVALSHA knows it."""

    text: str
    sha: str


def script(text: str) -> Script:
    """The script with this text."""
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


# Moves an entry of this group to the dead letters. The letter is written first and the entry
# removed after, so that a refused write leaves everything as it was. Returns the number of older
# letters dropped, or the error's text.
_BURY = """
local function bury(stream, dead, name, group, limit, id, attempt, reason)
  local entry = redis.call('XRANGE', stream, id, id)[1]
  local dropped = 0
  if entry then
    local fields, backend, raw = entry[2], '', nil
    for i = 1, #fields, 2 do
      if fields[i] == 'b' or fields[i] == 'backend' then backend = fields[i + 1] end
      if fields[i] == 'm' or fields[i] == 'message' then raw = fields[i + 1] end
    end
    local added = redis.pcall('XADD', dead, '*', 's', name, 'i', id, 'n', attempt, 'r', reason,
                              'b', backend, 'm', raw or table.concat(fields, ' '))
    if type(added) == 'table' and added.err then return added.err end
    dropped = redis.call('XTRIM', dead, 'MAXLEN', limit)
  end
  redis.call('XACK', stream, group, id)
  redis.call('XDEL', stream, id)
  return dropped
end
"""

EPOCH = script("""
local epoch = redis.call('GET', KEYS[1])
if not epoch then
  epoch = ARGV[1]
  redis.call('SET', KEYS[1], epoch)
end
return epoch
""")
"""The queue epoch, which is made if there is none. KEYS: epoch. ARGV: a fresh one."""

OPEN_PRODUCER = script("""
local queue_epoch = redis.call('GET', KEYS[1])
if not queue_epoch then
  queue_epoch = ARGV[7]
  redis.call('SET', KEYS[1], queue_epoch)
end
local producer, listener = ARGV[1], ARGV[2]
local known_queue_epoch, known_epoch, known_sequence = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local stored = redis.call('HGET', KEYS[2], producer)
local epoch, sequence = 0, 0
if stored then
  local e, s, holder = stored:match('^(%d+) (%d+) ?(.*)$')
  epoch, sequence = tonumber(e), tonumber(s)
  local asks_again = known_epoch < epoch and holder == listener
  if known_epoch < epoch and known_epoch > 0 and not asks_again then return 'FENCED' end
  local agrees = known_queue_epoch == queue_epoch and known_epoch == epoch
    and known_sequence <= sequence
  redis.call('ZADD', KEYS[3], ARGV[6], producer)
  if asks_again or agrees then return {queue_epoch, e, s} end
end
for _, silent in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], 0, ARGV[8], 'LIMIT', 0, 10)) do
  redis.call('HDEL', KEYS[2], silent)
  redis.call('ZREM', KEYS[3], silent)
end
redis.call('ZADD', KEYS[3], ARGV[6], producer)
epoch = string.format('%.0f', math.max(epoch + 1, known_epoch + 1, tonumber(ARGV[6])))
redis.call('HSET', KEYS[2], producer, epoch .. ' 0 ' .. listener)
return {queue_epoch, epoch, '0'}
""")
"""Admits a producer, by the rule of `admission.admit`, and when it makes a place also forgets some
that nobody has asked for since long. KEYS: epoch, producers, when each connected. ARGV: producer,
listener, its known queue epoch, epoch and sequence, milliseconds since the Unix epoch, a fresh
queue epoch, the milliseconds before which they are forgotten. Returns its state, or FENCED."""

_APPEND = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'LOST' end
local stored = redis.call('HGET', KEYS[2], ARGV[2])
if not stored then return 'LOST' end
local epoch, last, listener = stored:match('^(%d+) (%d+) ?(.*)$')
epoch, last = tonumber(epoch), tonumber(last)
local own, first, count = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
if epoch > own then return 'FENCED' end
if epoch < own or first > last + 1 then return 'LOST' end
if first + count - 1 <= last then return 'STORED' end

local skip = last - first + 1
local position, added = 0, 0
for stream, length in ARGV[8]:gmatch('(%d+):(%d+)') do
  position = position + length
  if stream ~= '0' then added = added + math.max(0, math.min(length, position - skip)) end
end
if added > 0 then
  local held, limit = 0, tonumber(ARGV[7])
  for i = 3, #KEYS do held = held + redis.call('XLEN', KEYS[i]) end
  if held + added > limit then return {held} end
end

local backend = ARGV[3]
local arg = 9
position = 0
for stream, length in ARGV[8]:gmatch('(%d+):(%d+)') do
  if stream == '0' then
    position = position + length
  else
    local key = KEYS[2 + stream]
    for _ = 1, length do
      position = position + 1
      if position > skip then redis.call('XADD', key, '*', ENTRY) end
      arg = arg + 1
    end
  end
end
local place = string.format('%.0f %.0f ', epoch, first + count - 1) .. listener
redis.call('HSET', KEYS[2], ARGV[2], place)
return 'STORED'
"""

APPEND = script(_APPEND.replace("ENTRY", "'b', backend, 'm', ARGV[arg]"))
"""Adds what is new of one batch. KEYS: epoch, producers, streams. ARGV: queue epoch, producer,
backend, epoch, first sequence, count, most entries allowed, runs, then each message that is not
rejected. The runs are `STREAM:LENGTH …`: STREAM is an index into the streams from 1, or 0 for
rejected messages. Returns STORED, FENCED, LOST, or if there is no room a list of the number of
entries held."""

APPEND_DEPLOYED = script(_APPEND.replace("ENTRY", "'message', ARGV[arg], 'backend', backend"))
"""The same for `OsmoLayout`."""

JOIN = script("""
for _, stream in ipairs(KEYS) do
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  for _, group in ipairs(groups) do
    if group[2] ~= ARGV[1] then return group[2] end
  end
  local made = redis.pcall('XGROUP', 'CREATE', stream, ARGV[1], '0', 'MKSTREAM')
  if made.err and not made.err:find('BUSYGROUP', 1, true) then
    return redis.error_reply(made.err)
  end
end
return ''
""")
"""Makes the group, from the beginning of each stream, where it is missing. KEYS: streams. ARGV:
group. Returns the name of another group that is in the way, else nothing."""

TAKE = script(
    _BURY
    + """
local dead, stream = KEYS[1], KEYS[2]
local group, consumer, name, limit = ARGV[1], ARGV[2], ARGV[3], ARGV[5]
local most, spare = tonumber(ARGV[4]), ARGV[7] == '1'
local taken, lost, dropped, failure = {}, 0, 0, ''
for i = 8, #ARGV do
  local id = ARGV[i]
  local page = redis.pcall('XPENDING', stream, group, id, id, 1, consumer)
  local pending = not page.err and page[1]
  if pending and pending[4] >= most and not spare then
    local reason = ARGV[6]:gsub('{}', pending[4])
    local n = bury(stream, dead, name, group, limit, id, pending[4], reason)
    if type(n) == 'number' then dropped = dropped + n else failure = n end
  elseif pending then
    local attempt = math.min(pending[4] + 1, most)
    local entry = redis.call('XCLAIM', stream, group, consumer, 0, id, 'RETRYCOUNT', attempt)[1]
    if entry then
      taken[#taken + 1] = {id, entry[2], attempt}
    else
      redis.call('XACK', stream, group, id)
      lost = lost + 1
    end
  end
end
return {taken, lost, dropped, failure}
"""
)
"""Counts another attempt of this consumer's pending entries and returns them, or makes them dead
letters if their attempts are used up. KEYS: dead, stream. ARGV: group, consumer, stream's name,
most attempts, most dead letters, reason, 1 if each may be tried once more all the same, ids.
Returns [id, fields, attempt] of each, the number of entries that somebody deleted, of dead letters
dropped, and the error of a refused dead letter."""

SETTLE = script(
    _BURY
    + """
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return {0, ''} end
local dead, stream = KEYS[2], KEYS[3]
local group, consumer, name, limit = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local function mine(id)
  local pending = redis.pcall('XPENDING', stream, group, id, id, 1, consumer)
  return not pending.err and pending[1]
end
local acks = 6 + tonumber(ARGV[6])
local ids, n = {}, 0
for i = 7, acks do
  if mine(ARGV[i]) then
    n = n + 1
    ids[n] = ARGV[i]
  end
end
if n > 0 then
  redis.call('XACK', stream, group, unpack(ids))
  redis.call('XDEL', stream, unpack(ids))
end
local dropped, failure = 0, ''
for i = acks + 1, #ARGV, 2 do
  local pending = mine(ARGV[i])
  if pending then
    local n = bury(stream, dead, name, group, limit, ARGV[i], pending[4], ARGV[i + 1])
    if type(n) == 'number' then dropped = dropped + n else failure = n end
  end
end
return {dropped, failure}
"""
)
"""Removes this consumer's pending entries, some of them to the dead letters. KEYS: epoch, dead,
stream. ARGV: queue epoch, group, consumer, stream's name, most dead letters, number of ids to
acknowledge, these ids, then id and reason of each dead letter. What is not pending for this
consumer, or belongs to an earlier memory of the store, is left alone. Returns the number of dead
letters dropped and the error of a refused one."""

RENEW = script("""
local ids, n = {}, 0
for i = 3, #ARGV do
  local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2])
  if not pending.err and pending[1] then
    n = n + 1
    ids[n] = ARGV[i]
  end
end
if n == 0 then return {} end
ids[n + 1] = 'JUSTID'
return redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, unpack(ids))
""")
"""Starts the lease of this consumer's entries anew. KEYS: stream. ARGV: group, consumer, ids.
Returns the ids that are still this consumer's."""

GIVE_BACK = script("""
local group, consumer = ARGV[1], ARGV[2]
local known = {}
for i = 4, #ARGV, 3 do known[ARGV[i]] = i end
local from = '-'
while true do
  local page = redis.pcall('XPENDING', KEYS[1], group, from, '+', 1000, consumer)
  if page.err then return 0 end
  for _, pending in ipairs(page) do
    local id, attempts, idle = pending[1], pending[4], ARGV[3]
    if known[id] then
      idle = ARGV[known[id] + 1]
      if ARGV[known[id] + 2] ~= '' then attempts = ARGV[known[id] + 2] end
    end
    redis.call('XCLAIM', KEYS[1], group, consumer, 0, id, 'IDLE', idle, 'RETRYCOUNT', attempts,
               'JUSTID')
  end
  if #page < 1000 then break end
  from = '(' .. page[#page][1]
end
if #redis.call('XPENDING', KEYS[1], group, '-', '+', 1, consumer) == 0 then
  redis.call('XGROUP', 'DELCONSUMER', KEYS[1], group, consumer)
end
return 1
""")
"""Ends the leases of a consumer that leaves, and removes its name if nothing is pending for it.
KEYS: stream. ARGV: group, consumer, idle milliseconds of what is not listed, then for some: id,
idle milliseconds, attempts to count (nothing: as they are)."""

SWEEP = script("""
local stream, group = KEYS[1], ARGV[1]
local consumers = redis.pcall('XINFO', 'CONSUMERS', stream, group)
if consumers.err then return 0 end
for _, fields in ipairs(consumers) do
  local consumer = {}
  for i = 1, #fields, 2 do consumer[fields[i]] = fields[i + 1] end
  if consumer.pending == 0 and consumer.idle > tonumber(ARGV[3]) and consumer.name ~= ARGV[2] then
    redis.call('XGROUP', 'DELCONSUMER', stream, group, consumer.name)
  end
end

local state = {}
for _, fields in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  if fields[2] == group then
    for i = 1, #fields, 2 do state[fields[i]] = fields[i + 1] end
  end
end
local last = state['last-delivered-id']
local newest = math.huge
if ARGV[5] ~= '0' then newest = redis.call('TIME')[1] * 1000 - ARGV[5] end
local orphans = redis.call('XLEN', stream) - state.pending
if orphans <= 0 or redis.call('XRANGE', stream, '(' .. last, '+', 'COUNT', 1)[1] then return 0 end
local adopted, from = 0, '-'
while adopted < orphans do
  local page = redis.call('XRANGE', stream, from, last, 'COUNT', 100)
  if #page == 0 then break end
  for _, entry in ipairs(page) do
    local id = entry[1]
    if tonumber(id:match('^%d+')) > newest then return adopted end
    if #redis.call('XPENDING', stream, group, id, id, 1) == 0 then
      redis.call('XCLAIM', stream, group, ARGV[2], 0, id, 'IDLE', ARGV[4], 'FORCE', 'JUSTID')
      adopted = adopted + 1
    end
    from = '(' .. id
  end
end
return adopted
""")
"""Removes the names of consumers that have been silent and hold nothing. If every entry has been
delivered, looks for some that are pending for nobody, because somebody removed their consumer by
hand, and makes them pending again with an ended lease. KEYS: stream. ARGV: group, the caller's
name, milliseconds of silence, idle milliseconds, age in milliseconds of an entry to be looked for
(0: any). Returns the number of entries found so."""

STATUS = script("""
local figures = {redis.call('XLEN', KEYS[1])}
for i = 2, #KEYS do
  local pending = 0
  for _, fields in ipairs(redis.pcall('XINFO', 'GROUPS', KEYS[i])) do
    for j = 1, #fields, 2 do
      if fields[j] == 'pending' then pending = pending + fields[j + 1] end
    end
  end
  figures[#figures + 1] = redis.call('XLEN', KEYS[i])
  figures[#figures + 1] = pending
end
return figures
""")
"""KEYS: dead, streams. Returns the number of dead letters, then of each stream its length and how
many of its entries are pending."""
