"""`grpc://` and `grpcs://`: a protobuf message per frame in a bidirectional stream, by grpc.aio.

`transport` dials and listens, `connection` moves frames, `frames` is their protobuf, and `health`
is the health service on the same port. Companions (`transports.abc.Companion`) of the transport
`grpc` open a `services.Service`.
"""
