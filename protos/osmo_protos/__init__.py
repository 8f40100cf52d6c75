"""The wire contract in protobuf, and the code generated from it; importing this needs neither."""
