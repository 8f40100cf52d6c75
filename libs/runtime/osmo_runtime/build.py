"""Which build of the distribution runs."""

from osmo_runtime import __version__


def core() -> str:
    """`compiled core`, or `pure Python`: see `hatch_build.py`."""
    from osmo_transport.session import outbox  # noqa: PLC0415  (only who asks has to wait for it)

    return "pure Python" if outbox.__file__.endswith(".py") else "compiled core"


def version() -> str:
    """The version of the distribution, and its build."""
    return f"{__version__} ({core()})"
