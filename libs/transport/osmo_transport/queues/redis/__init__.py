"""The queue in Redis streams.

`queue` is the whole of it, and `consumer` decides what a member of the group does next, which
`member` says to Redis in `scripts`, over a `client` at an `address`. `layout` and `keys` are how
messages lie there.
"""
