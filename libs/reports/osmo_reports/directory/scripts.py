"""What Redis carries out atomically in the directory; see `osmo_transport.queues.redis.scripts`."""

from osmo_transport.queues.redis.scripts.script import script

# The store's own clock, because the clocks of those who ask do not agree.
_NOW = """
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
"""

_CLAIMS = (
    _NOW
    + """
local function claim_of(backend)
  local since, freed = (redis.call('HGET', KEYS[2], backend) or ''):match('^(%d+) (%d+)$')
  return redis.call('HGET', KEYS[1], backend), tonumber(since) or 0, tonumber(freed) or 0
end

local function keep(backend, noted, since, freed)
  if noted then redis.call('HSET', KEYS[1], backend, noted)
  else redis.call('HDEL', KEYS[1], backend) end
  redis.call('HSET', KEYS[2], backend, string.format('%.0f %.0f', since, freed))
  redis.call('XADD', KEYS[3], 'MAXLEN', 1, '*', 'backend', backend)
end

local function keep_freed(backend, freed, most)
  keep(backend, false, 0, freed)
  if redis.call('HLEN', KEYS[2]) - redis.call('HLEN', KEYS[1]) <= most then return end
  local all = redis.call('HGETALL', KEYS[2])
  local oldest, when
  for place = 1, #all, 2 do
    local since, freed = all[place + 1]:match('^(%d+) (%d+)$')
    since, freed = tonumber(since) or -1, tonumber(freed) or 0
    if since < freed and not (when and when <= freed) then oldest, when = all[place], freed end
  end
  if oldest then redis.call('HDEL', KEYS[2], oldest) end
end

local function owner_of(noted) return noted:match('^(.*)\\n') or '' end

local function is_before(noted, since, other, others)
  local uid, uids = owner_of(noted), owner_of(other)
  if (uid == '') ~= (uids == '') then return uids == '' end
  return since < others or since == others and uid < uids
end

local function restore()
  local backend, most, most_freed = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
  local since, freed = tonumber(ARGV[4]), tonumber(ARGV[5])
  local noted = ARGV[6] ~= '' and ARGV[6]
  local kept, kept_since, kept_freed = claim_of(backend)
  freed = math.max(freed, kept_freed)
  local first, first_since = kept and kept_since >= freed and kept, kept_since
  if noted and since >= freed and (not first or is_before(noted, since, first, first_since)) then
    first, first_since = noted, since
  end
  if first == kept and freed == kept_freed and first_since == kept_since then return end
  if not first then return keep_freed(backend, freed, most_freed) end
  if not kept and redis.call('HLEN', KEYS[1]) >= most then return end
  keep(backend, first, first_since, freed)
end
"""
)
"""What the scripts of claims share. KEYS: backends, by name the time since when each is taken and
when it was freed last, and the changes of both. ARGV of `restore`: backend, the most backends and
the most freed ones, and what is known: since when it is taken, when it was freed last, and who
reports it, empty if nobody. It does what `abc.merged` says."""

RESTORE_CLAIM = script(f"{_CLAIMS} restore()")
"""Puts back what somebody knows of a backend's name. KEYS and ARGV: see `_CLAIMS`."""

REGISTER = script(
    _CLAIMS
    + """
restore()
local backend, uid = ARGV[1], ARGV[7]
local stored, since, freed = claim_of(backend)
local owner = stored and owner_of(stored)
if stored and owner ~= '' then
  if uid == '' then return 0 end
  if uid ~= owner then return owner end
elseif not stored and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[2]) then
  return -1
end
local noted = uid .. '\\n' .. ARGV[8]
if noted == stored then return 0 end
if KEYS[4] then
  local held = redis.call('XLEN', KEYS[4])
  if held >= tonumber(ARGV[9]) then return {held} end
  local notice = stored and ARGV[11] or ARGV[10]
  redis.call('XADD', KEYS[4], '*', 'message', notice, 'backend', backend)
end
if uid ~= owner then since = math.max(now(), freed) end
keep(backend, noted, since, freed)
return stored and 0 or 1
"""
)
"""Notes who reports a backend. KEYS: those of `_CLAIMS`, and the stream that is told, if any. ARGV:
those of `_CLAIMS`, cluster uid, registration, and for the stream its most entries and what is added
to it of a backend that is new and of one that has changed. Returns 1 if it is new, 0 if it was
known, -1 if there are as many already, the uid of the other cluster that has the name, or if the
stream has no room a list of the number of entries held."""

# A version that falls back after the store was wiped would never be told. Returns what is stored.
_SET_RULES = """
local function text_of(stored) return stored:match('^[^{]*(.*)$') end

local function is_declared(stored) return stored and stored:match('^%d+ file {') end

local function set_rules(rules, changes, backend, origin, text)
  local stored = redis.call('HGET', rules, backend)
  local version = stored and tonumber(stored:match('^(%d+)')) or 0
  version = math.max(version + 1, now())
  stored = string.format('%.0f', version) .. ' ' .. origin .. ' ' .. text
  redis.call('HSET', rules, backend, stored)
  redis.call('XADD', changes, 'MAXLEN', 1, '*', 'backend', backend)
  return stored
end
"""

# An error is no reason to keep the rules from our own listeners: the key is somebody else's.
_TELL_OTHERS = """
local function tell_others(list, text, most)
  if not list then return end
  redis.pcall('LPUSH', list, '{"rules":' .. text .. '}')
  redis.pcall('LTRIM', list, 0, most - 1)
end
"""

SET_RULES = script(
    _NOW
    + _SET_RULES
    + _TELL_OTHERS
    + """
local backend, text, origin = ARGV[1], ARGV[2], ARGV[4]
local stored = redis.call('HGET', KEYS[1], backend)
if origin == 'command' and is_declared(stored) then return '' end
if origin == 'default' and not is_declared(stored) then return stored or '' end
if origin == 'file' and is_declared(stored) and text_of(stored) == text then return stored end
stored = set_rules(KEYS[1], KEYS[2], backend, origin, text)
tell_others(KEYS[3], text, ARGV[3])
return stored
"""
)
"""Decides a backend's rules, and tells who waits. KEYS: rules, their changes, and the list by which
others are told, if any. ARGV: backend, rules, the most entries of the list, and who decides: a
`file`, over everybody; a `command`, unless a file does; or, as `default`, a file no longer. Returns
what is stored then, for a command that decides nothing and where there is nothing an empty text."""

RESTORE = script(
    _TELL_OTHERS
    + """
local stored = redis.call('HGET', KEYS[1], ARGV[1])
local version = stored and tonumber(stored:match('^(%d+)')) or 0
if version >= tonumber(ARGV[5]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[5] .. ' ' .. ARGV[4] .. ' ' .. ARGV[2])
redis.call('XADD', KEYS[2], 'MAXLEN', 1, '*', 'backend', ARGV[1])
if KEYS[3] and redis.pcall('LLEN', KEYS[3]) == 0 then tell_others(KEYS[3], ARGV[2], ARGV[3]) end
return 1
"""
)
"""Puts back a backend's rules under the version that they had, unless there are as new ones. KEYS
and ARGV: as `SET_RULES` has them, and the version. What others have told since is newer, and stays
first in their list. Returns 1 if it did, else 0."""

FORGET = script(
    _CLAIMS
    + _SET_RULES
    + _TELL_OTHERS
    + """
local backend = ARGV[1]
local registered, since, freed = claim_of(backend)
keep_freed(backend, math.max(now(), since + 1, freed), tonumber(ARGV[2]))
local stored = redis.call('HGET', KEYS[4], backend)
if stored and (is_declared(stored) or text_of(stored) ~= ARGV[3]) then
  set_rules(KEYS[4], KEYS[5], backend, 'default', ARGV[3])
  tell_others(KEYS[6], ARGV[3], ARGV[4])
  return 1
end
return registered and 1 or 0
"""
)
"""Forgets who reports a backend, and puts the default rules in the place of its own. KEYS: those of
`_CLAIMS`, and those of `SET_RULES`. ARGV: backend, the most freed ones, default rules, the most
entries of the list. Returns 1 if it was known or had rules of its own, else 0."""

ADOPT = script(
    _NOW
    + _SET_RULES
    + """
if redis.call('LINDEX', KEYS[3], 0) ~= ARGV[2] then return 0 end
redis.call('DEL', KEYS[3])
if ARGV[3] == '' then return 0 end
local stored = redis.call('HGET', KEYS[1], ARGV[1])
if stored and text_of(stored) == ARGV[3] then return 0 end
if is_declared(stored) then return -1 end
set_rules(KEYS[1], KEYS[2], ARGV[1], 'deployed', ARGV[3])
return 1
"""
)
"""Replaces a backend's rules by those that others told last, if they still did, and takes all from
their list. KEYS: rules, their changes, the list. ARGV: backend, its newest entry, and the rules in
it, empty if they cannot be read. Returns 1 if there are other rules now, -1 if a file decides."""
