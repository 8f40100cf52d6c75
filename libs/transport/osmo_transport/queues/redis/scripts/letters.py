"""What becomes of dead letters."""

from osmo_transport.queues.redis.scripts.script import SIZE, Script, script

_REPLAY = (
    SIZE
    + """
local dead, counts, streams = KEYS[1], KEYS[2], #KEYS - 2
local limit, spare, budget = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local held, stream_of = 0, {}
for i = 1, streams do
  held = held + redis.call('XLEN', KEYS[2 + i])
  stream_of[ARGV[3 + i]] = KEYS[2 + i]
end
local done, looked = 0, 0
for i = 4 + streams, #ARGV do
  if budget <= 0 then break end
  looked = looked + 1
  local letter = redis.call('XRANGE', dead, ARGV[i], ARGV[i])[1]
  if letter then
    local values = {}
    for j = 1, #letter[2], 2 do values[letter[2][j]] = letter[2][j + 1] end
    local backend, raw = values.b, values.m
    if backend and raw then
      if held >= limit then return {done, looked, held, ''} end
      local stream = stream_of[values.s] or stream_of[spare]
      local added = redis.pcall('XADD', stream, '*', FIELDS)
      if type(added) == 'table' and added.err then return {done, looked, -1, added.err} end
      redis.call('HINCRBY', counts, stream .. ' in', 1)
      redis.call('XDEL', dead, ARGV[i])
      held, done, budget = held + 1, done + 1, budget - size_of(letter[2])
    end
  end
end
return {done, looked, -1, ''}
"""
)


def replay(fields: str) -> Script:
    """Puts dead letters back into their streams, each as an entry with these `fields`, in which
    `backend` is the backend and `raw` the message's bytes.

    KEYS: dead, counts, streams. ARGV: most entries allowed, the stream for letters of another one,
    most bytes to move, the streams' names, then the letters' ids. What has no backend or no message
    stays. Returns how many were put back, how many of the ids were looked at, the number of entries
    held if there was no room for one more (else -1), and the error of one that was refused.
    """
    return script(_REPLAY.replace("FIELDS", fields))
