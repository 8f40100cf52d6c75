"""What the members of a consumer group do with the entries of a stream.

An attempt is counted in Redis when an entry becomes a member's: by the read of a new one, by
`CLAIM` of what another member had. `TAKE` hands out what is pending for the member already, under a
number that the member says, and so counts nothing twice.
"""

from osmo_transport.queues.redis.scripts.script import SIZE, script

# Moves an entry of this group to the dead letters. The letter is written first and the entry
# removed after, so that a refused write leaves everything as it was. Returns the number of older
# letters dropped, or the error's text, and the entry's fields if there is a letter of it now.
_BURY = """
local function remove(stream, counts, due, group, ids)
  redis.call('XACK', stream, group, unpack(ids))
  local gone = redis.call('XDEL', stream, unpack(ids))
  if gone > 0 then redis.call('HINCRBY', counts, stream .. ' out', gone) end
  redis.call('ZREM', due, unpack(ids))
end
local function bury(stream, counts, due, dead, name, group, limit, id, attempt, reason)
  local entry = redis.call('XRANGE', stream, id, id)[1]
  local dropped, fields = 0, nil
  if entry then
    local backend, raw = '', nil
    fields = entry[2]
    for i = 1, #fields, 2 do
      if fields[i] == 'b' or fields[i] == 'backend' then backend = fields[i + 1] end
      if fields[i] == 'm' or fields[i] == 'message' then raw = fields[i + 1] end
    end
    local added = redis.pcall('XADD', dead, '*', 's', name, 'i', id, 'n', attempt, 'r', reason,
                              'b', backend, 'm', raw or table.concat(fields, ' '))
    if type(added) == 'table' and added.err then return added.err end
    dropped = redis.call('XTRIM', dead, 'MAXLEN', limit)
  end
  remove(stream, counts, due, group, {id})
  return dropped, fields
end
"""

JOIN = script("""
for _, stream in ipairs(KEYS) do
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  if not groups.err then
    for _, group in ipairs(groups) do
      if group[2] ~= ARGV[1] then return group[2] end
    end
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

CLAIM = script(
    SIZE
    + _BURY
    + """
local epoch, dead, counts, due, stream = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local group, consumer, name, limit = ARGV[1], ARGV[2], ARGV[3], ARGV[5]
local most, spare, former = tonumber(ARGV[4]), ARGV[7] == '1', ARGV[8]
local lease, room, budget = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local from, looks = ARGV[12], tonumber(ARGV[13])
local function is_ours(name) return name:match(':' .. ('%x'):rep(12) .. '$') end
local page
if former == '' then
  page = redis.pcall('XPENDING', stream, group, from, '+', looks)
else
  page = redis.pcall('XPENDING', stream, group, from, '+', looks, former)
end
local known = redis.call('GET', epoch) or ''
if page.err then return {{}, 0, 0, '', '', {}, known} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local taken, lost, dropped, failure, at, buried = {}, 0, 0, '', '', {}
for _, pending in ipairs(page) do
  local id, owner, idle, attempts = unpack(pending)
  if room <= 0 or budget <= 0 then break end
  at = '(' .. id
  if owner ~= consumer and (former ~= '' or idle >= lease) then
    local later = tonumber(redis.call('ZSCORE', due, id) or 0) - now
    if later > 0 then
      local rest = math.max(0, lease - later)
      redis.call('XCLAIM', stream, group, owner, 0, id, 'IDLE', rest, 'RETRYCOUNT', attempts,
                 'JUSTID')
    elseif attempts >= most and not (spare and not is_ours(owner)) then
      local reason = ARGV[6]:gsub('{}', attempts)
      local n, fields = bury(stream, counts, due, dead, name, group, limit, id, attempts, reason)
      if type(n) == 'number' then dropped = dropped + n else failure = n end
      if fields then
        buried[#buried + 1] = {id, fields, attempts}
        budget = budget - size_of(fields)
      end
    else
      local attempt = math.min(attempts + 1, most)
      local entry = redis.call('XCLAIM', stream, group, consumer, 0, id, 'RETRYCOUNT', attempt)[1]
      redis.call('ZREM', due, id)
      if entry then
        taken[#taken + 1] = {id, entry[2], attempt}
        room, budget = room - 1, budget - size_of(entry[2])
      else
        redis.call('XACK', stream, group, id)
        lost = lost + 1
      end
    end
  end
end
if at == '(' .. ((page[#page] or {''})[1]) and #page < looks then at = '' end
if #page == 0 then at = '' end
return {taken, lost, dropped, failure, at, buried, known}
"""
)
"""Takes over entries of other members: those whose lease has ended, or all of one member. Each
counts as another attempt; one whose attempts are used up becomes a dead letter. KEYS: epoch, dead,
counts, due, stream. ARGV: group, consumer, stream's name, most attempts, most dead letters, reason,
1 if what a foreign member had may be tried once more all the same, the member (nothing: all),
milliseconds of the lease, most entries and bytes to take, where to begin, how many to look at.
Returns [id, fields, attempt] of each, the number of entries that somebody deleted, of dead letters
dropped, the error of a refused dead letter, where to go on (nothing: at the end), [id, fields,
attempts] of each that became a dead letter, and the queue epoch."""

TAKE = script(
    SIZE
    + _BURY
    + """
local epoch, dead, counts, due, stream = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local group, consumer, name, limit = ARGV[1], ARGV[2], ARGV[3], ARGV[5]
local most, budget = tonumber(ARGV[4]), tonumber(ARGV[7])
local taken, lost, dropped, failure, looked, buried = {}, 0, 0, '', 0, {}
for i = 8, #ARGV, 2 do
  if budget <= 0 then break end
  looked = looked + 1
  local id, attempt = ARGV[i], tonumber(ARGV[i + 1])
  local page = redis.pcall('XPENDING', stream, group, id, id, 1, consumer)
  local pending = not page.err and page[1]
  if pending and attempt > most then
    local reason = ARGV[6]:gsub('{}', most)
    local n, fields = bury(stream, counts, due, dead, name, group, limit, id, most, reason)
    if type(n) == 'number' then dropped = dropped + n else failure = n end
    if fields then
      buried[#buried + 1] = {id, fields, most}
      budget = budget - size_of(fields)
    end
  elseif pending then
    local entry = redis.call('XCLAIM', stream, group, consumer, 0, id, 'RETRYCOUNT', attempt)[1]
    if entry then
      taken[#taken + 1] = {id, entry[2], attempt}
      budget = budget - size_of(entry[2])
    else
      redis.call('XACK', stream, group, id)
      lost = lost + 1
    end
  end
end
return {taken, lost, dropped, failure, looked, buried, redis.call('GET', epoch) or ''}
"""
)
"""Reads entries that are pending for this member, each as the attempt that is said. KEYS: epoch,
dead, counts, due, stream. ARGV: group, consumer, stream's name, most attempts, most dead letters,
reason, most bytes, then id and attempt of each. Returns as `CLAIM`, but instead of where to go on
how many of the ids were looked at before the bytes were used up."""

SETTLE = script(
    _BURY
    + """
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
local counts, due, stream, group, consumer = KEYS[3], KEYS[4], KEYS[5], ARGV[2], ARGV[3]
local function pending(first, last, count)
  return redis.pcall('XPENDING', stream, group, first, last, count, consumer)
end
local last = 4 + tonumber(ARGV[4])
if last > 4 then
  -- Most follow each other: they are asked for at once.
  local known, ids = {}, {}
  for _, each in ipairs(pending(ARGV[5], ARGV[last], last - 4)) do known[each[1]] = true end
  for i = 5, last do
    if known[ARGV[i]] or last > 5 and pending(ARGV[i], ARGV[i], 1)[1] then
      ids[#ids + 1] = ARGV[i]
    end
  end
  if ids[1] then remove(stream, counts, due, group, ids) end
end
if last == #ARGV then return 0 end
local name, limit = ARGV[last + 1], ARGV[last + 2]
local dropped, failure, buried = 0, '', {}
for i = last + 3, #ARGV, 2 do
  local id, reason = ARGV[i], ARGV[i + 1]
  local mine = pending(id, id, 1)[1]
  if mine then
    local n, fields =
      bury(stream, counts, due, KEYS[2], name, group, limit, id, mine[4], reason)
    if type(n) == 'number' then dropped = dropped + n else failure = n end
    if fields then buried[#buried + 1] = id end
  end
end
return {dropped, failure, buried}
"""
)
"""Removes this member's pending entries, some of them to the dead letters. KEYS: epoch, dead,
counts, due, stream. ARGV: queue epoch, group, consumer, number of ids to acknowledge, these ids,
and if there are dead letters the stream's name, most of them, then id and reason of each. What is
not pending for this member, or belongs to an earlier memory of the store, is left alone. Returns 0
if there is nothing to tell, else the number of dead letters dropped, the error of a refused one,
and the ids of those that were made."""

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
"""Starts the lease of this member's entries anew. KEYS: stream. ARGV: group, consumer, ids. Returns
the ids that are still this member's."""

GIVE_BACK = script("""
local due, stream, group, consumer = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease = tonumber(ARGV[3])
for i = 5, #ARGV, 3 do
  local id, wait, attempts = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2]
  local page = redis.pcall('XPENDING', stream, group, id, id, 1, consumer)
  if not page.err and page[1] then
    local idle = ARGV[4]
    if wait > 0 then
      idle = math.max(0, lease - wait)
      redis.call('ZADD', due, now + wait, id)
    end
    redis.call('XCLAIM', stream, group, consumer, 0, id, 'IDLE', idle, 'RETRYCOUNT', attempts,
               'JUSTID')
  end
end
return 0
""")
"""Ends the leases of entries of a member that leaves. KEYS: due, stream. ARGV: group, consumer,
milliseconds of a lease, idle milliseconds of an ended one, then of each entry its id, the
milliseconds for which nobody may have it, and the attempts to count."""

LEAVE = script("""
local stream, group, consumer = KEYS[1], ARGV[1], ARGV[2]
local page = redis.pcall('XPENDING', stream, group, '-', '+', 1, consumer)
if not page.err and #page == 0 then redis.call('XGROUP', 'DELCONSUMER', stream, group, consumer) end
return 0
""")
"""Removes the name of a member for which nothing is pending. KEYS: stream. ARGV: group,
consumer."""

FORMER = script("""
local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])
local names = {}
if consumers.err then return names end
for _, fields in ipairs(consumers) do
  local consumer = {}
  for i = 1, #fields, 2 do consumer[fields[i]] = fields[i + 1] end
  local name = consumer.name
  if name ~= ARGV[2] then
    local rest = name:sub(1, #ARGV[3]) == ARGV[3] and name:sub(#ARGV[3] + 1)
    if consumer.pending == 0 and consumer.idle > tonumber(ARGV[4]) then
      redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], name)
    elseif rest == '' or rest and #rest == 13 and rest:match('^:%x+$') then
      names[#names + 1] = name
    end
  end
end
return names
""")
"""The members that had this member's name before it, and removes the names of those that have been
silent and hold nothing. KEYS: stream. ARGV: group, consumer, its name, milliseconds of silence."""

ADOPT = script("""
local stream, group = KEYS[1], ARGV[1]
local groups = redis.pcall('XINFO', 'GROUPS', stream)
if groups.err then return {0, ''} end
local state = {}
for _, fields in ipairs(groups) do
  if fields[2] == group then
    for i = 1, #fields, 2 do state[fields[i]] = fields[i + 1] end
  end
end
local last = state['last-delivered-id']
if not last then return {0, ''} end
local newest = math.huge
if ARGV[4] ~= '0' then newest = redis.call('TIME')[1] * 1000 - ARGV[4] end
local from = ARGV[5]
if from == '-' then
  if redis.call('XLEN', stream) <= state.pending then return {0, ''} end
  if redis.call('XRANGE', stream, '(' .. last, '+', 'COUNT', 1)[1] then return {0, ''} end
end
local page = redis.call('XRANGE', stream, from, last, 'COUNT', ARGV[6])
local adopted = 0
for _, entry in ipairs(page) do
  local id = entry[1]
  if tonumber(id:match('^%d+')) > newest then return {adopted, ''} end
  if #redis.call('XPENDING', stream, group, id, id, 1) == 0 then
    redis.call('XCLAIM', stream, group, ARGV[2], 0, id, 'IDLE', ARGV[3], 'FORCE', 'JUSTID')
    adopted = adopted + 1
  end
  from = '(' .. id
end
if #page < tonumber(ARGV[6]) then from = '' end
return {adopted, from}
""")
"""If every entry has been delivered, looks for some that are pending for nobody, because somebody
removed their member by hand, and makes them pending again with an ended lease. KEYS: stream. ARGV:
group, the member that they are given to, idle milliseconds, age in milliseconds of an entry to be
looked for (0: any), where to begin, how many to look at. Returns the number of entries found so,
and where to go on (nothing: at the end)."""
