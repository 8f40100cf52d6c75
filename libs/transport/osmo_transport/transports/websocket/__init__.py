"""`ws://` and `wss://`: one WebSocket message per frame.

`transport` dials and listens; `over_websockets` and `over_picows` are its two engines, and
`handshake` what they let in alike.
"""
