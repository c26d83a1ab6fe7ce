"""mob's MessagePack extensions: their codes, and what stands for those that have a name.

Limits. Says nothing of how something becomes an extension or a value again: see `ways.py` and `codec.py`.
"""

from __future__ import annotations

from typing import Any, ClassVar

CALLBACK, BIG_INT, ARRAY, COMPLEX, RANGE, REGISTERED, SHARED, DESCRIPTOR, FOREIGN = 1, 2, 3, 4, 5, 6, 7, 8, 10
OBJECT, WRITABLE, VIEWED, TAGGED, WITH_TAGS = 16, 19, 20, 21, 22
"""The codes of mob's MessagePack extensions."""
NESTING = (REGISTERED, FOREIGN, TAGGED, WITH_TAGS)
"""Those whose data is the MessagePack of a name and of what goes by it."""


class Named:
    """What a registered encoder returned. (Not a dataclass, which msgspec would encode by itself.)"""

    __slots__ = ("data", "name")
    code: int = REGISTERED
    """The extension that it travels as."""

    def __init__(self, name: Any, data: Any) -> None:
        self.name: Any = name
        self.data: Any = data


class Foreign(Named):
    """The parts of a table or tensor of another library."""

    __slots__ = ()
    code: int = FOREIGN


class Tagged(Named):
    """What is sent of an object, with the names of its class and of its bases (see `unions`)."""

    __slots__ = ()
    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # no key has tags
    code: int = TAGGED


class WithTags(Named):
    """A whole body in which objects are tagged."""

    __slots__ = ()
    __hash__: ClassVar[None] = None  # type: ignore[assignment]
    code: int = WITH_TAGS
