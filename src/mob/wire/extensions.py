"""mob's MessagePack extensions: their codes, and the classes whose objects are encoded as extensions with a name.

Limits. How a value becomes an extension, or an extension a value, is the business of `encoders.py` and `codec.py`.
"""

from __future__ import annotations

from typing import Any, ClassVar

CALLBACK, BIG_INT, ARRAY, COMPLEX, RANGE, REGISTERED, SHARED, DESCRIPTOR, FOREIGN = 1, 2, 3, 4, 5, 6, 7, 8, 10
OBJECT, WRITABLE, VIEWED, TAGGED, WITH_TAGS = 16, 19, 20, 21, 22
"""The codes of mob's MessagePack extensions."""
NESTING = (REGISTERED, FOREIGN, TAGGED, WITH_TAGS)
"""Extensions whose data is the MessagePack of a name and of a value."""


class Named:
    """A value returned by a registered encoder. Not a dataclass, which msgspec would encode by itself."""

    __slots__ = ("data", "name")
    code: int = REGISTERED
    """Code of the extension that carries it."""

    def __init__(self, name: Any, data: Any) -> None:
        self.name: Any = name
        self.data: Any = data


class Foreign(Named):
    """The parts of a table or tensor of another library."""

    __slots__ = ()
    code: int = FOREIGN


class Tagged(Named):
    """An encoded object with the names of its class and of that class's bases (see `unions`)."""

    __slots__ = ()
    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # never a key
    code: int = TAGGED


class WithTags(Named):
    """A whole body in which objects are tagged."""

    __slots__ = ()
    __hash__: ClassVar[None] = None  # type: ignore[assignment]
    code: int = WITH_TAGS
