"""Memory that is in the pool from the start: `mob.empty`, `mob.zeros`, `mob.buffer`, and its reuse: `mob.lend`.

Sending such a buffer copies nothing. After it was sent it is read-only for its owner, because its receivers read the
same memory. `lend` waits until they have given it back, and makes it writable again.

Limits. Views that the program made before, and that do not lead from the sent object to the loan, stay writable (see
`sealing`). A buffer that is too small, or for which the pool has no room, is ordinary memory: sending it copies.
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
"""A mobster has one; another process has one for each client, the newest last."""


def enter(home: Home) -> None:
    """Make loans in the buffers of this home from now on."""
    _homes.append(ref(home, _homes.remove))


def _home() -> Home | None:
    for each in reversed(_homes):
        home = each()
        if home is not None and home.buffers.can_lend:
            return home
    return None


def _leave_as_it_is(memory: memoryview) -> None:
    """Do nothing, for memory whose content does not matter."""


def _fill_with_zeros(memory: memoryview) -> None:
    memory[:] = bytes(1) * len(memory) if len(memory) < LARGE else memoryview(bytes(len(memory)))


class _OrdinaryBytes(bytearray):
    """Ordinary memory of `mob.buffer`; unlike a bytearray it supports weak references."""


_handed_out: WeakValueDictionary[int, Any] = WeakValueDictionary()
"""By `id`, the object that holds the memory of each buffer that the program was given, shared or ordinary."""


def _note(memory: Any) -> None:
    _handed_out[id(memory)] = memory


def _is_handed_out(loan: Any) -> bool:
    return any(_handed_out.get(id(each)) is each for each in way_to_memory(loan))


def buffer(nbytes: int) -> memoryview:
    """Return a writable memoryview of zero bytes that is sent without a copy.

    Write into it, then send it: the receivers read the same memory, through read-only memoryviews. After it was sent it
    is read-only here, too, and writing raises `TypeError: cannot modify read-only memory`; to use it again see
    `mob.lend`. Slices that were taken before stay writable, except the one that is sent; receivers see what is written
    through them.

    It is in the shared memory of this worker, or of the newest client of this process (`mob.connect`), and is freed
    when it was dropped here and by all receivers. It is ordinary memory, which is copied when it is sent, if there is
    no shared memory or no room in it (the role's `shared_memory`), and below 64 KiB.

    Args:
        nbytes: Length in bytes, at least 0.

    Raises:
        TypeError: `nbytes` is not a whole number.
        ValueError: `nbytes` is negative.

    Example:
        >>> import mob
        >>> frame = mob.buffer(3)
        >>> frame[:] = b"abc"
        >>> bytes(frame)
        b'abc'
    """
    try:
        length = index(nbytes)
    except TypeError:
        raise TypeError(f"mob.buffer({nbytes!r}): expected a whole number of bytes, at least 0.") from None
    if length < 0:
        raise ValueError(f"mob.buffer({nbytes}): expected a whole number of bytes, at least 0.")
    view = _new(length, _fill_with_zeros)
    if view is None:
        view = memoryview(_OrdinaryBytes(length))
    _note(view.obj)
    return view


def empty(shape: int | Sequence[int], dtype: Any = float, order: Literal["C", "F"] = "C") -> Any:
    """Return a NumPy array like `numpy.empty`, which is sent without a copy.

    Fill it, then send it: the receivers read the same memory, through read-only arrays. After it was sent it is
    read-only here, too: writing raises `ValueError: assignment destination is read-only`; to use it again see
    `mob.lend`. Views of it that were made before stay writable, except the one that is sent; receivers see what is
    written through them. Contiguous slices of 64 KiB and more are sent without a copy as well.

    `mob.buffer` says where it is, and when it is ordinary memory instead.

    Args:
        shape: The shape, as for `numpy.empty`.
        dtype: The type of the elements, as for `numpy.empty`. Default: float.
        order: "C" (row by row) or "F" (column by column). Default: "C".

    Raises:
        ImportError: NumPy is not installed.
        ValueError: There is no such `order`.

    Example:
        >>> import mob
        >>> picture = mob.empty((2, 3), "u1")
        >>> picture.shape
        (2, 3)
    """
    return _array("empty", shape, dtype, order, _leave_as_it_is)


def zeros(shape: int | Sequence[int], dtype: Any = float, order: Literal["C", "F"] = "C") -> Any:
    """Return a NumPy array of zeros, which is sent without a copy; see `mob.empty`.

    >>> import mob
    >>> mob.zeros(3).tolist()
    [0.0, 0.0, 0.0]
    """
    return _array("zeros", shape, dtype, order, _fill_with_zeros)


def _array(
    name: str, shape: int | Sequence[int], dtype: Any, order: Literal["C", "F"], fill: Callable[[memoryview], None]
) -> Any:
    if order not in ("C", "F"):
        raise ValueError(f"mob.{name}: order={order!r}: expected 'C' (row by row) or 'F' (column by column).")
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
    """Write and send a buffer of `mob.empty`, `mob.zeros` or `mob.buffer` within a block, and use it again afterwards.

    The end of the block waits until all calls with the buffer have ended and all receivers have dropped it; then it is
    writable again. If others already have it, the beginning waits in the same way. `with` blocks like `call.result()`,
    `async with` awaits. There is no wait for a buffer in ordinary memory, because sending copies it.

    Args:
        loan: The array or memoryview.
        timeout: Seconds for each of the two waits. Default: None, no limit.

    Returns:
        A context manager, for `with` and `async with`, that yields the buffer.

    Raises:
        TimeoutError: Raised by the block: others still have the buffer after `timeout` seconds; it stays read-only.
        TypeError: `loan` is neither an array nor a memoryview.
        ValueError: `loan` is another array or memoryview.

    Example:
        >>> import mob
        >>> frame = mob.zeros(4)
        >>> with mob.lend(frame) as sent:
        ...     pass  # back.detect(sent).result()
        >>> frame[0] = 1.0
    """
    if type(loan) is not memoryview and not is_a(type(loan), "numpy.ndarray"):
        raise TypeError(
            f"mob.lend takes an array or memoryview of mob.empty, mob.zeros or mob.buffer, not {type(loan).__name__}."
        )
    if not _is_handed_out(loan) and not _places(loan):
        raise ValueError(
            f"mob.lend: this {type(loan).__name__} is not from mob.empty, mob.zeros or mob.buffer, nor a view of one. "
            f"Other memory is copied when it is sent, so you can use it again at once."
        )
    return Lending(loan, timeout)


class Lending(Generic[T]):
    """A buffer that is lent during a block; made by `mob.lend`."""

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
                f"mob.lend: other processes still have this buffer after {self._timeout} s (timeout), so it stays "
                f"read-only here. A receiver that keeps it, or a part of it, must keep a copy instead."
            )


def _places(loan: Any) -> list[tuple[Home, int]]:
    """Return the home and number of a loan, or of the loan that it is a view of; empty for other memory."""
    *_, memory = way_to_memory(loan)
    owner, number = key_of(memory) or (0, 0)
    homes = [home for each in list(_homes) if (home := each()) is not None]
    return [(home, number) for home in homes if home.buffers.context.uid == owner and home.buffers.is_loan(number)]


def _wait(home: Home, number: int, timeout: float | None) -> bool:
    """Block until a loan is back; return False if it is not in time."""
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
    """Wait until a loan is back; return False if it is not in time."""
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
