"""Implementations of the transport contract, a module or a folder each; `registry` finds them."""
