"""The errors of the all-in-one process."""


class DemoError(Exception):
    """The store does not equal the cluster; the text says where."""
