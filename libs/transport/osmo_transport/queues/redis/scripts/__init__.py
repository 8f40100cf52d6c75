"""The steps that Redis carries out atomically, in Lua.

Every script takes its keys through KEYS, which share one hash tag, and everything else through
ARGV. They keep to what Redis 6.2 knows. A script that may be refused for want of memory writes
nothing before the command that is refused, or catches the refusal. Each looks at no more entries
than it is told to, because Redis serves nobody else meanwhile. Each is safe to repeat: a client
that does not know whether it was carried out sends it again.

`producers` is about appending, `entries` about what a consumer does with what is in the streams,
`looks` about what somebody sees who takes nothing, `letters` about what becomes of dead letters,
and `state` about the queue as a whole.
"""
