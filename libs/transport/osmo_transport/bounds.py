"""What numbers a setting may hold: types for the fields of configuration dataclasses.

A program refuses what is out of bounds when it reads its settings. Code that makes such a dataclass
by itself is trusted to keep them.
"""

from typing import Annotated

import msgspec

Count = Annotated[int, msgspec.Meta(ge=1)]
"""How many, where with none at all everything would stand still."""
CountOrZero = Annotated[int, msgspec.Meta(ge=0)]
"""How many, where none makes sense."""
Bytes = Annotated[int, msgspec.Meta(ge=1)]
"""How large."""
Seconds = Annotated[float, msgspec.Meta(gt=0)]
"""How long, where without any time nothing would be done in it, or the same without a pause."""
SecondsOrZero = Annotated[float, msgspec.Meta(ge=0)]
"""How long, where no time makes sense."""
ShortWait = Annotated[float, msgspec.Meta(ge=0, le=0.01)]
"""Seconds of a wait that takes a whole CPU."""
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
"""A part of the whole."""
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
"""Where to listen; 0 takes a free one."""
Seed = Annotated[int, msgspec.Meta(ge=0)]
"""Of `random.Random`, for which -1 is the same as 1."""
