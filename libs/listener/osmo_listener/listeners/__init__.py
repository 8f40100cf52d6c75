"""The listeners: pure functions from an object's change to a message."""
