"""The errors of the all-in-one process, and of the commands."""


class DemoError(Exception):
    """The store does not equal the cluster; the text says where."""


class NothingFoundError(Exception):
    """There is nothing that a command could show or act upon; the text says what was looked for."""


class StoppedError(Exception):
    """A command was told to stop half-way; the text says what it has done by then."""


class RefusedError(Exception):
    """A command would do harm as things are; the text says what is in its way."""
