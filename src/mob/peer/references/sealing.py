"""Makes memory that the program writes read-only while other processes read it.

Strategy. An array or a memoryview leads to its memory through the objects that it is a view of (`ndarray.base`,
`memoryview.obj`). When a loan is sent, the sent object, everything between it and the loan, and the loan itself become
read-only. What was writable before is remembered, and made writable again when the others have given the loan back.

Limits. Other views that the program made are unknown, and stay as they are. If something else is in between (a tensor,
a buffer of ctypes) that could still be written through, the loan is not shared: the caller copies it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from weakref import ReferenceType, ref

from mob.rim.segments import CAN_SET_READONLY, key_of, set_readonly
from mob.wire.kinds import is_a


def way_to_memory(value: Any) -> Iterator[Any]:
    """Yield an array or a memoryview, the object that it is a view of, and so on, up to the holder of the memory."""
    while value is not None:
        yield value
        if type(value) is memoryview:
            value = value.obj
        elif is_a(type(value), "numpy.ndarray"):
            value = value.base
        else:
            return


class Loan:
    """Memory that was handed out, known by a weak reference to the array or memoryview that the program has."""

    __slots__ = ("_sealed", "_shown")

    def __init__(self, shown: Any) -> None:
        self._shown: ReferenceType[Any] = ref(shown)
        self._sealed: list[ReferenceType[Any]] = []

    def show(self, shown: Any) -> None:
        """Note the array over it that the program was given instead."""
        self._shown = ref(shown)

    def seal(self, sent: Any) -> bool:
        """Make the sent object read-only, and all that it is a view of, up to the loan.

        Return False, and change nothing, if something in between could still be written through.
        """
        shown, way = self._shown(), list[Any]()
        for each in way_to_memory(sent):
            if each is shown:
                break
            way.append(each)
        else:
            if key_of(way.pop()) is None:
                return False
        writable = [each for each in (*way, shown) if each is not None and not _is_readonly(each)]
        if not CAN_SET_READONLY and any(type(each) is memoryview for each in writable):
            return False
        for each in writable:
            _set_readonly(each, True)
            self._sealed.append(ref(each))
        return True

    def unseal(self) -> None:
        """Make writable again what `seal` made read-only."""
        found = [each for known in self._sealed if (each := known()) is not None]
        self._sealed.clear()
        for each in sorted(found, key=lambda each: type(each) is not memoryview):  # arrays over them come later
            with contextlib.suppress(ValueError):  # the program itself made the underlying object read-only
                _set_readonly(each, False)


def _is_readonly(view: Any) -> bool:
    return view.readonly if type(view) is memoryview else not view.flags.writeable


def _set_readonly(view: Any, is_readonly: bool) -> None:
    if type(view) is memoryview:
        set_readonly(view, is_readonly)  # pyright: ignore[reportUnknownArgumentType]
    else:
        view.flags.writeable = not is_readonly
