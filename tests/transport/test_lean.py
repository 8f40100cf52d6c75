"""One contract for the dataclasses of the standard library and for those without generated code."""

import dataclasses
import pickle
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from osmo_transport import lean

Decorator = Callable[..., Any]


class Point:
    """Of which each test makes a dataclass, and its heir."""

    x: int
    y: int = 2
    tags: list[str] = dataclasses.field(default_factory=list)
    secret: str = dataclasses.field(default="s3", repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.x < 0:
            raise ValueError("x is negative")


class Named:
    """Another base."""

    name: str = "n"


@pytest.fixture(params=[dataclasses.dataclass, lean.dataclass], ids=["standard", "lean"])
def decorator(request: pytest.FixtureRequest) -> Decorator:
    found: Decorator = request.param
    return found


def made(decorator: Decorator, *, frozen: bool = True) -> Any:
    """A class made of a fresh copy of `Point`."""
    body = {name: value for name, value in vars(Point).items() if name not in SLOTS}
    return decorator(frozen=frozen, kw_only=True)(type("Point", (), body))


SLOTS = {"__dict__", "__weakref__"}


def test_fields_and_defaults(decorator: Decorator) -> None:
    """Each object has its own of what a factory makes."""
    point = made(decorator)
    assert [field.name for field in dataclasses.fields(point)] == ["x", "y", "tags", "secret"]
    one, other = point(x=1), point(x=1, y=3)
    assert dataclasses.asdict(one) == {"x": 1, "y": 2, "tags": [], "secret": "s3"}
    assert (other.y, point.y) == (3, 2)
    assert one.tags is not other.tags


def test_repr_leaves_out_what_it_is_told_to(decorator: Decorator) -> None:
    """A secret is not shown."""
    assert repr(made(decorator)(x=1)) == "Point(x=1, y=2, tags=[])"


def test_equality(decorator: Decorator) -> None:
    """Of one class and equal fields, those aside that are not compared."""
    point = made(decorator)
    assert point(x=1) == point(x=1, secret="other")
    assert point(x=1) != point(x=2)
    assert point(x=1) != made(decorator)(x=1)
    assert hash(point(x=1, tags=())) == hash(point(x=1, tags=(), secret="other"))


def test_frozen(decorator: Decorator) -> None:
    """Nothing is set, and nothing removed."""
    one = made(decorator)(x=1)
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'x'"):
        one.x = 2
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot delete field 'x'"):
        del one.x
    assert one.x == 1


def test_not_frozen(decorator: Decorator) -> None:
    """What can be changed is no key."""
    one = made(decorator, frozen=False)(x=1)
    one.x = 2
    assert one.x == 2
    with pytest.raises(TypeError, match="unhashable"):
        hash(one)


@pytest.mark.parametrize(
    ("given", "said"), [({}, "'x'"), ({"x": 1, "z": 2}, "'z'"), ({"z": 2}, "'[xz]'")]
)
def test_wrong_arguments(decorator: Decorator, given: dict[str, int], said: str) -> None:
    """The error names the field that is missing, or that there is not."""
    with pytest.raises(TypeError, match=said):
        made(decorator)(**given)


def test_only_keywords(decorator: Decorator) -> None:
    """None is told apart by its place."""
    with pytest.raises(TypeError):
        made(decorator)(1)


def test_replace_and_convert_check_again(decorator: Decorator) -> None:
    """What was given stays, and what a class refuses is refused."""
    one = made(decorator)(x=1, secret="other")
    assert dataclasses.replace(one, x=5).secret == "other"
    with pytest.raises(ValueError, match="negative"):
        dataclasses.replace(one, x=-1)
    assert msgspec.convert({"x": 7}, type(one)).x == 7
    with pytest.raises(msgspec.ValidationError, match="negative"):
        msgspec.convert({"x": -7}, type(one))


def test_heirs_of_several(decorator: Decorator) -> None:
    """An heir has the fields of all of them, its own default wins, and its own methods stay."""
    named = decorator(frozen=True, kw_only=True)(type("Named", (), dict(Named.__dict__)))
    body = {"__annotations__": {"y": int}, "y": 9, "__repr__": lambda _: "mine"}
    heir = decorator(frozen=True, kw_only=True)(type("Heir", (made(decorator), named), body))
    one = heir(x=1)
    assert (one.x, one.y, one.name) == (1, 9, "n")
    assert repr(one) == "mine"


def test_pickled(decorator: Decorator, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the same again."""
    point = made(decorator)
    monkeypatch.setitem(globals(), "Point", point)
    assert pickle.loads(pickle.dumps(point(x=1, y=4))) == point(x=1, y=4)


def test_only_keywords_are_made() -> None:
    """Others are refused where they are defined."""
    with pytest.raises(TypeError, match="kw_only"):
        lean.dataclass(kw_only=False)
