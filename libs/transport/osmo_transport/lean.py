"""`dataclass` of the standard library, without the code that it generates: for what is made once.

The standard one writes six methods for each class and compiles them: 0.6 ms for a class of nine
fields, and a sixth of the start of a program that has fifty. Here all classes share theirs, and one
takes 0.03 ms. To make an object takes some µs more, so what is made for each message or each object
of a cluster is better off with the standard one, or as a struct.
"""

import dataclasses
from typing import TYPE_CHECKING, Any, TypeVar

__all__ = ("dataclass",)

if TYPE_CHECKING:
    from dataclasses import dataclass
else:
    C = TypeVar("C")

    def dataclass(*, kw_only, frozen=False):
        """Make a dataclass, which takes keywords alone: no other kind is made here.

        `dataclasses.fields`, `replace` and the like take it. What inherits from it has to be made
        here, too.
        """
        if not kw_only:
            raise TypeError("only what is kw_only is made without generated code")
        shared = _Frozen if frozen else _Shared

        def made(cls: type[C]) -> type[C]:
            dataclasses.dataclass(init=False, repr=False, eq=False, kw_only=True)(cls)
            for name in _METHODS:
                if name not in cls.__dict__:
                    setattr(cls, name, getattr(shared, name))
            return cls

        return made


class _Shared:  # noqa: PLW1641  (as in any dataclass that can be changed)
    """The methods of what can be changed, for whatever fields there are."""

    def __init__(self, **given: object) -> None:
        values = vars(self)
        for field in _fields(self):
            if field.name in given:
                values[field.name] = given.pop(field.name)
            elif field.default is not dataclasses.MISSING:
                values[field.name] = field.default
            elif field.default_factory is not dataclasses.MISSING:
                values[field.name] = field.default_factory()
            else:
                raise TypeError(f"{type(self).__qualname__}() needs {field.name!r}")
        if given:
            raise TypeError(f"{type(self).__qualname__}() has no {next(iter(given))!r}")
        if hasattr(self, "__post_init__"):
            self.__post_init__()

    def __repr__(self) -> str:
        shown = (
            f"{field.name}={getattr(self, field.name)!r}" for field in _fields(self) if field.repr
        )
        return f"{type(self).__qualname__}({', '.join(shown)})"

    def __eq__(self, other: object) -> bool:
        return _compared(self) == _compared(other) if type(other) is type(self) else NotImplemented


class _Frozen(_Shared):
    """Those of what cannot."""

    def __hash__(self) -> int:
        return hash(_compared(self))

    def __setattr__(self, name: str, value: object) -> None:
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


_METHODS = ("__init__", "__repr__", "__eq__", "__hash__", "__setattr__", "__delattr__")


def _fields(made: Any) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(made)


def _compared(made: object) -> tuple[object, ...]:
    return tuple(getattr(made, field.name) for field in _fields(made) if field.compare)
