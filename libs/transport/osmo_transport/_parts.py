"""Importing modules of somebody's package without all that the package itself imports."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any


@contextmanager
def only_parts_of(package: str) -> Iterator[None]:
    """Within it, modules of a package are imported, and the package itself is not: for one of which
    little is needed, and whose whole takes a good part of a program's start. The package is
    executed when somebody first asks it for what is not there.

    Where it is imported already, nothing is different. Not for two threads that ask at once.

    Raises:
        ModuleNotFoundError: there is no such package.
    """
    spec = None if package in sys.modules else find_spec(package)
    if spec is None:
        import_module(package)
        yield
        return
    made = module_from_spec(spec)
    made.__class__ = _Unexecuted
    sys.modules[package] = made
    try:
        yield
    except BaseException:
        del sys.modules[package]
        raise


class _Unexecuted(ModuleType):
    """A package that is there for its modules alone."""

    def __getattr__(self, name: str) -> Any:
        self.__class__ = ModuleType  # type: ignore[assignment]  # from here on it is one like any
        assert self.__spec__ is not None
        assert self.__spec__.loader is not None
        try:
            self.__spec__.loader.exec_module(self)
        except BaseException:
            self.__class__ = _Unexecuted  # the next one is told why, too
            raise
        return getattr(self, name)
