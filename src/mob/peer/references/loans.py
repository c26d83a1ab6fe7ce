"""Memory that lies in the pool from the start: `mob.empty`, `mob.zeros`, `mob.buffer`, and its reuse: `mob.lend`.

Sending such a buffer copies nothing. From its first sending on it is read-only at its owner, because its receivers look
at the same memory. `lend` waits until they have given it back, and makes it writable again.

Limits. Views that the program made before the first sending, and that are not on the way from what it sends to the
loan, stay writable (see `sealing`). A buffer that is too small, or that finds no room in the pool, is ordinary memory:
sending it copies.
"""

from __future__ import annotations

import asyncio
import importlib
import math
from collections.abc import Callable, Sequence
from operator import index
from threading import Condition
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar
from weakref import ReferenceType, WeakValueDictionary, ref

from mob.peer.references.sealing import way_to_memory
from mob.rim.segments import key_of
from mob.wire.kinds import is_a
from mob.wire.sharing import LARGE

if TYPE_CHECKING:
    from mob.peer.references.buffers import Buffers
    from mob.peer.results.blocking import Blocking

T = TypeVar("T")


class Home:
    """The buffers of this process's part in an app, and how to wait in it."""

    def __init__(self, buffers: Buffers, blocking: Blocking) -> None:
        self.buffers: Buffers = buffers
        self.blocking: Blocking = blocking


_homes: list[ReferenceType[Home]] = []
"""Of a mobster there is one; of a process from outside, one for each client, the newest last."""


def enter(home: Home) -> None:
    """From now on loans lie there."""
    _homes.append(ref(home, _homes.remove))


def _home() -> Home | None:
    for each in reversed(_homes):
        home = each()
        if home is not None and home.buffers.can_lend:
            return home
    return None


def _leave_as_it_is(memory: memoryview) -> None:
    """For memory whose content does not matter."""


def _fill_with_zeros(memory: memoryview) -> None:
    memory[:] = bytes(1) * len(memory) if len(memory) < LARGE else memoryview(bytes(len(memory)))


class _OrdinaryBytes(bytearray):
    """Ordinary memory of `mob.buffer`; unlike a bytearray it can be known by a weak reference."""


_handed_out: WeakValueDictionary[int, Any] = WeakValueDictionary()
"""By `id`, what holds the memory of each buffer that the program was given, shared or ordinary."""


def _note(memory: Any) -> None:
    _handed_out[id(memory)] = memory


def _is_handed_out(loan: Any) -> bool:
    return any(_handed_out.get(id(each)) is each for each in way_to_memory(loan))


def buffer(nbytes: int) -> memoryview:
    """Return a writable memoryview of so many bytes, all zero, that is sent without a copy.

    Write into it, then send it: the receivers look at the same memory, and get read-only memoryviews. From its first
    sending on it is read-only here too, and writing raises `TypeError: cannot modify read-only memory`. To use it again
    see `mob.lend`. Slices that were taken before stay writable, except the one that is sent; what is written through
    them is seen by the receivers.

    It lies in the shared memory of this mobster, or of the newest client of this process (`mob.connect`), and is freed
    when it was dropped here and by all receivers. Where there is none, or no room (the role's `shared_memory`), and
    below 64 KiB, it is ordinary memory, which is copied when it is sent. `ValueError` if `nbytes` is negative,
    `TypeError` if it is not a whole number.

    >>> import mob
    >>> frame = mob.buffer(3)
    >>> frame[:] = b"abc"
    >>> bytes(frame)
    b'abc'
    """
    try:
        length = index(nbytes)
    except TypeError:
        raise TypeError(f"mob.buffer({nbytes!r}): a whole number of bytes, at least 0.") from None
    if length < 0:
        raise ValueError(f"mob.buffer({nbytes}): a whole number of bytes, at least 0.")
    view = _new(length, _fill_with_zeros)
    if view is None:
        view = memoryview(_OrdinaryBytes(length))
    _note(view.obj)
    return view


def empty(shape: int | Sequence[int], dtype: Any = float, order: Literal["C", "F"] = "C") -> Any:
    """Return a NumPy array like `numpy.empty`, which is sent without a copy.

    `shape`, `dtype` and `order` ("C": row by row, "F": column by column) are those of NumPy; there are no others.

    Fill it, then send it: the receivers look at the same memory, and get read-only arrays. From its first sending on it
    is read-only here too: writing raises `ValueError: assignment destination is read-only`. To use it again see
    `mob.lend`. Views of it that were made before stay writable, except the one that is sent; what is written through
    them is seen by the receivers.
    Contiguous slices of 64 KiB and more are sent without a copy as well.

    Where it lies, and when it is ordinary memory instead: see `mob.buffer`. `ImportError` if NumPy is not installed.

    >>> import mob
    >>> picture = mob.empty((2, 3), "u1")
    >>> picture.shape
    (2, 3)
    """
    return _array("empty", shape, dtype, order, _leave_as_it_is)


def zeros(shape: int | Sequence[int], dtype: Any = float, order: Literal["C", "F"] = "C") -> Any:
    """Return a NumPy array of zeros, which is sent without a copy: as `mob.empty`.

    >>> import mob
    >>> mob.zeros(3).tolist()
    [0.0, 0.0, 0.0]
    """
    return _array("zeros", shape, dtype, order, _fill_with_zeros)


def _array(
    name: str, shape: int | Sequence[int], dtype: Any, order: Literal["C", "F"], fill: Callable[[memoryview], None]
) -> Any:
    if order not in ("C", "F"):
        raise ValueError(f"mob.{name}: order={order!r}: 'C' (row by row) or 'F' (column by column).")
    numpy = importlib.import_module("numpy")
    kind = numpy.dtype(dtype)
    length = kind.itemsize * math.prod(map(index, shape if isinstance(shape, Sequence) else (shape,)))
    view = None if kind.hasobject else _new(length, fill)
    if view is None:
        array = getattr(numpy, name)(shape, kind, order)
        _note(array)
        return array
    _note(view.obj)
    array = numpy.ndarray(shape, kind, view, order=order)
    home = _home()
    if home is not None:
        home.buffers.show(view, array)
    return array


def _new(length: int, fill: Callable[[memoryview], None]) -> memoryview | None:
    home = _home() if length >= LARGE else None
    return None if home is None else home.buffers.new_loan(length, fill)


def lend(loan: T, timeout: float | None = None) -> Lending[T]:
    """Write and send a buffer of `mob.empty`, `mob.zeros` or `mob.buffer` within a block, and use it again after that.

    At the end of the block it is waited until all calls with the buffer have ended and all receivers have dropped it;
    then it is writable again. If others have it from before, the same is waited for at the beginning. `with` blocks as
    `call.result()` does, `async with` awaits. `TimeoutError` if others have it still after `timeout` seconds, at the
    beginning or at the end; it remains read-only then. For a buffer that is ordinary memory nothing is waited for,
    because sending copies it. `ValueError` for other arrays and memoryviews, `TypeError` for anything else.

    >>> import mob
    >>> frame = mob.zeros(4)
    >>> with mob.lend(frame) as sent:
    ...     pass  # back.detect(sent).result()
    >>> frame[0] = 1.0
    """
    if type(loan) is not memoryview and not is_a(type(loan), "numpy.ndarray"):
        raise TypeError(
            f"mob.lend: an array or a memoryview of mob.empty, mob.zeros or mob.buffer, not {type(loan).__name__}."
        )
    if not _is_handed_out(loan) and not _places(loan):
        raise ValueError(
            f"mob.lend: this {type(loan).__name__} is not of mob.empty, mob.zeros or mob.buffer, nor a view of such a "
            f"buffer. Other memory is copied when it is sent, so it can be used again at once."
        )
    return Lending(loan, timeout)


class Lending(Generic[T]):
    """A buffer that is lent for the length of a block; made by `mob.lend`."""

    __slots__ = ("_loan", "_timeout")

    def __init__(self, loan: T, timeout: float | None) -> None:
        self._loan = loan
        self._timeout = timeout

    def __enter__(self) -> T:
        self._reopen()
        return self._loan

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._reopen()

    async def __aenter__(self) -> T:
        await self._reopen_async()
        return self._loan

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._reopen_async()

    def _reopen(self) -> None:
        for home, number in _places(self._loan):
            if not home.buffers.reopen(number):
                self._check(_wait(home, number, self._timeout), home, number)

    async def _reopen_async(self) -> None:
        for home, number in _places(self._loan):
            if not home.buffers.reopen(number):
                self._check(await _wait_async(home, number, self._timeout), home, number)

    def _check(self, is_back: bool, home: Home, number: int) -> None:
        if not is_back or not home.buffers.reopen(number):
            raise TimeoutError(
                f"mob.lend: others still have this buffer after {self._timeout} s. A receiver that keeps it, or a part "
                f"of it, keeps it from being used again: have it keep a copy. It stays read-only here."
            )


def _places(loan: Any) -> list[tuple[Home, int]]:
    """Return where a loan lies, or that of which it is a view, and its number there; nothing for other memory."""
    *_, memory = way_to_memory(loan)
    owner, number = key_of(memory) or (0, 0)
    homes = [home for each in list(_homes) if (home := each()) is not None]
    return [(home, number) for home in homes if home.buffers.context.uid == owner and home.buffers.is_loan(number)]


def _wait(home: Home, number: int, timeout: float | None) -> bool:
    """Block until a loan is back; return whether it is, in time."""
    buffers, reactor = home.buffers, home.buffers.context.reactor

    def is_back() -> bool:
        return not buffers.is_out(number)

    if reactor.is_mine:
        return home.blocking.drive([], is_back, None if timeout is None else monotonic() + timeout)
    news = Condition()

    def tell() -> None:
        with news:
            news.notify()

    buffers.waiters.append(tell)
    reactor.stand_in.begin_to_wait(tell)
    try:
        with news:
            return news.wait_for(is_back, timeout)
    finally:
        reactor.waiters.discard(tell)
        buffers.waiters.remove(tell)


async def _wait_async(home: Home, number: int, timeout: float | None) -> bool:
    """Await that a loan is back; return whether it is, in time."""
    buffers, loop = home.buffers, asyncio.get_running_loop()
    deadline = None if timeout is None else monotonic() + timeout
    while buffers.is_out(number):
        future: asyncio.Future[None] = loop.create_future()

        def tell(future: asyncio.Future[None] = future) -> None:
            loop.call_soon_threadsafe(_settle, future)

        buffers.waiters.append(tell)
        try:
            if buffers.is_out(number):
                left = None if deadline is None else max(0.0, deadline - monotonic())
                waits = future if loop is buffers.context.reactor.loop else home.blocking.wait_elsewhere(future, [])
                await asyncio.wait_for(waits, left)
        except TimeoutError:
            return not buffers.is_out(number)
        finally:
            buffers.waiters.remove(tell)
    return True


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
