"""What Redis carries out atomically in the directory; see `osmo_transport.queues.redis.scripts`."""

from osmo_transport.queues.redis.scripts.script import script

REGISTER = script("""
local uid = ARGV[2]
local stored = redis.call('HGET', KEYS[1], ARGV[1])
if stored then
  local owner = stored:match('^(.*)\\n')
  if owner ~= '' then
    if uid == '' then return 0 end
    if uid ~= owner then return owner end
  end
elseif redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[4]) then
  return -1
end
local noted = uid .. '\\n' .. ARGV[3]
if KEYS[2] and noted ~= stored then
  local held = redis.call('XLEN', KEYS[2])
  if held >= tonumber(ARGV[5]) then return {held} end
  local notice = stored and ARGV[7] or ARGV[6]
  redis.call('XADD', KEYS[2], '*', 'message', notice, 'backend', ARGV[1])
end
redis.call('HSET', KEYS[1], ARGV[1], noted)
return stored and 0 or 1
""")
"""Notes who reports a backend. KEYS: backends, and the stream that is told, if any. ARGV: backend,
cluster uid, registration, the most backends, and for the stream its most entries and what is added
to it of a backend that is new and of one that has changed. Returns 1 if it is new, 0 if it was
known, -1 if there are as many already, the uid of the other cluster that has the name, or if the
stream has no room a list of the number of entries held."""

# The store's own clock, because the clocks of those who ask do not agree: a version that falls back
# after the store was wiped would never be told. Returns the version.
_SET_RULES = """
local function set_rules(rules, changes, backend, text)
  local stored = redis.call('HGET', rules, backend)
  local version = stored and tonumber(stored:match('^(%d+)')) or 0
  local time = redis.call('TIME')
  version = math.max(version + 1, time[1] * 1000 + math.floor(time[2] / 1000))
  version = string.format('%.0f', version)
  redis.call('HSET', rules, backend, version .. ' ' .. text)
  redis.call('XADD', changes, 'MAXLEN', 1, '*', 'backend', backend)
  return version
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
    _SET_RULES
    + _TELL_OTHERS
    + """
local version = set_rules(KEYS[1], KEYS[2], ARGV[1], ARGV[2])
tell_others(KEYS[3], ARGV[2], ARGV[3])
return version
"""
)
"""Replaces a backend's rules, and tells who waits. KEYS: rules, their changes, and the list by
which others are told, if any. ARGV: backend, rules, the most entries of the list. Returns the
version."""

RESTORE = script(
    _TELL_OTHERS
    + """
local stored = redis.call('HGET', KEYS[1], ARGV[1])
local version = stored and tonumber(stored:match('^(%d+)')) or 0
if version >= tonumber(ARGV[4]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[4] .. ' ' .. ARGV[2])
redis.call('XADD', KEYS[2], 'MAXLEN', 1, '*', 'backend', ARGV[1])
if KEYS[3] and redis.pcall('LLEN', KEYS[3]) == 0 then tell_others(KEYS[3], ARGV[2], ARGV[3]) end
return 1
"""
)
"""Puts back a backend's rules under the version that they had, unless there are as new ones. KEYS
and ARGV: as `SET_RULES` has them, and the version. What others have told since is newer, and stays
first in their list. Returns 1 if it did, else 0."""

FORGET = script(
    _SET_RULES
    + _TELL_OTHERS
    + """
local known = redis.call('HDEL', KEYS[1], ARGV[1])
local stored = redis.call('HGET', KEYS[2], ARGV[1])
if stored and stored:match('^%d+ (.*)$') ~= ARGV[2] then
  set_rules(KEYS[2], KEYS[3], ARGV[1], ARGV[2])
  tell_others(KEYS[4], ARGV[2], ARGV[3])
  return 1
end
return known
"""
)
"""Forgets who reports a backend, and puts the default rules in the place of its own. KEYS:
backends, rules, their changes, and the list as `SET_RULES` has it. ARGV: backend, default rules,
the most entries of the list. Returns 1 if it was known or had rules of its own, else 0."""

ADOPT = script(
    _SET_RULES
    + """
if redis.call('LINDEX', KEYS[3], 0) ~= ARGV[2] then return 0 end
redis.call('DEL', KEYS[3])
if ARGV[3] == '' then return 0 end
local stored = redis.call('HGET', KEYS[1], ARGV[1])
if stored and stored:match('^%d+ (.*)$') == ARGV[3] then return 0 end
set_rules(KEYS[1], KEYS[2], ARGV[1], ARGV[3])
return 1
"""
)
"""Replaces a backend's rules by those that others told last, if they still did, and takes all from
their list. KEYS: rules, their changes, the list. ARGV: backend, its newest entry, and the rules in
it, empty if they cannot be read. Returns 1 if there are other rules now."""
