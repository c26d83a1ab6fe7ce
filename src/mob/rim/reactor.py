"""The readiness loop of one thread: an asyncio loop, or the thread itself, which serves the links while it waits.

All descriptors that mob reads or writes are watched here twice: by the asyncio loop and by a poll object. While the
loop runs, the loop calls. When code on the loop's own thread blocks for an answer (`drive`), the loop is blocked and
this file reads and writes instead of it, so synchronous code never deadlocks on its own loop. Other threads reach the
thread through `call`, which wakes it in either mode (asyncio's `call_soon_threadsafe` would wait for a blocked loop).

uvloop calls a reader once more and then never again when a socket has an error in addition to data, which happens if
the other end dies with unread data of ours. So after each read by the loop the kernel is asked, in 0.5 us, whether the
other end is closed. (One epoll object for all, watched by the loop, would save that and one of the two registrations,
but it makes an awaited call a fifth slower.)

Timers are kept here, and the loop has one timer for the first of them. The loop's timers count whole milliseconds:
uvloop rounds less than half a millisecond down to "immediately", and its clock is truncated to whole ones, so a timer
may come up to a millisecond early. So the loop is asked for at least one millisecond, rounded up, and asked again if it
was early: a timer costs two wake-ups at most, and one that sets itself for the next instant takes no more than one per
millisecond.

What is posted during a callback of this file is sent when it returns, otherwise at the end of the loop's turn. Then the
reactor may linger: after sending, the answer often comes sooner than a sleeping core could be woken.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import os
import select
from collections import deque
from collections.abc import Callable
from threading import get_ident
from time import monotonic
from typing import Any, Protocol

from mob.rim import forks
from mob.rim.plain import Plain
from mob.rim.spinning import Spinning
from mob.rim.standin import StandIn

READ = select.POLLIN | select.POLLHUP | select.POLLERR


TURN = 0.001
"""Seconds after which the loop gets a turn, however fast answers come, and lazy messages are sent."""
SWEEP = 64
"""Maximum number of cancelled timers among the others before they are removed."""
ENTRY = 2
"""Bytes at the beginning of a function's code that do nothing yet: they make its variables and check for signals."""
SPARE = 1.0
"""Seconds until the loop's spare timer rings, in case an exception interrupted the first before it did anything."""
FURTHEST = 86400.0
"""Maximum seconds to ask of the loop, because timers may be set to infinity."""


class Flushable(Protocol):
    """An object that has collected something to send."""

    def flush(self) -> None:
        """Send it."""
        ...


class Reactor:
    """Readiness of descriptors, for a loop that may be blocked."""

    def __init__(self, loop: asyncio.AbstractEventLoop, lingers: bool = False) -> None:
        self.loop = loop
        self._lingers = lingers  # True to wait awake for the answer for a moment after a flush
        self.thread: int = 0
        """Ident of the thread that runs the loop."""
        self.owner: int = 0
        """Ident of the thread that reads and writes: the loop's, or the stand-in while that one is away."""
        self.is_away: bool = False
        """True while the loop's thread is in plain code of the application."""
        self.is_stood_in: bool = False
        """True while the stand-in is the owner."""
        self.is_claimed: bool = False
        """True if the stand-in is about to take over or has done so; the loop's thread then waits for it."""
        self.waiters: set[Any] = set()
        """Waiters outside the loop: locks of threads, calls that other loops await."""
        self.stand_in: StandIn = StandIn(self)
        self.plain: Plain = Plain(loop)
        """The switches between the loop and plain code on its thread."""
        self.driving: int = 0
        """Depth of nested `drive` calls on the loop's thread."""
        self._busy = False  # True while a callback of ours runs, which will flush when it returns
        self._dirty: deque[Flushable] = deque()
        self._lazy: list[Flushable] = []
        self._flush_scheduled = False
        self._readers: dict[int, Callable[[], None]] = {}
        self._writers: dict[int, Callable[[], None]] = {}
        self._poll = select.poll()
        self._spinning = Spinning(self._poll)
        self._calls: deque[Callable[[], None]] = deque()
        self._timers: list[tuple[float, int]] = []  # a heap; timers without a function were cancelled
        self._timed: dict[int, Callable[[], None]] = {}  # the function of each timer, by its number
        self._timer_count = itertools.count()
        self._alarm: asyncio.TimerHandle | None = None  # the loop's timer for the first of them
        self._spare: (
            asyncio.TimerHandle
        )  # a second one, in case an exception interrupts the first before it did anything
        self._alarm_at = 0.0
        self._wake_r, self._wake_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) if hasattr(os, "pipe2") else _pipe()
        self._awaiting: list[asyncio.Future[None]] = []  # of coroutines that wait for a change
        self.on_exit: Callable[[BaseException], None] = _raise
        """Called when code on the loop calls sys.exit(); the loop continues unless this raises."""
        self.after_callback: Callable[[], None] = _nothing
        """Housekeeping after each of our callbacks and each round of `drive`."""
        self.before_stand_in: Callable[[], None] = _nothing
        """Called by the stand-in before it reads, to handle what was read before and is waited for."""

    def __repr__(self) -> str:
        return f"<Reactor watching {len(self._readers)} descriptors, driven by hand {self.driving} deep>"

    # --------------------------------------------------------------------------------------------- running

    def run(self) -> None:
        """Run the loop in this thread until `stop`. May be called again later, from another thread."""
        self.claim()
        if self._wake_r not in self._readers:
            self.watch(self._wake_r, self._handle_wake)
        if self._dirty:
            self._schedule_flush()
        self.plain.begin()
        while True:
            try:
                self.loop.run_forever()
                return
            except (SystemExit, KeyboardInterrupt) as error:  # asyncio lets them through, from any task or callback
                self.on_exit(error)

    def claim(self) -> None:
        """Make this thread the one that runs the loop, or drives it by hand."""
        self.thread = self.owner = get_ident()
        self.stand_in.claim()

    def disclaim(self) -> None:
        """Forget the thread that runs the loop."""
        self.thread = self.owner = 0

    def stop(self) -> None:
        """End `run`; from any thread."""
        self.call(self.loop.stop)

    def call(self, function: Callable[[], None]) -> None:
        """Have the loop's thread call a function soon; from any thread."""
        self._calls.append(function)
        try:  # inline instead of `wake`, which may be one level too deep for a nearly exhausted stack
            os.write(self._wake_w, b"\0")
        except OSError:
            pass

    def wake(self) -> None:
        """Make the thread that reads here check again what it waits for; from any thread."""
        try:
            os.write(self._wake_w, b"\0")
        except BlockingIOError:
            pass  # it is already awake
        except OSError:
            pass  # closed: there is no thread to call it

    def abandon(self, end: Callable[[], None]) -> None:
        """Release everything in the child of a fork, because it belongs to the parent.

        `end` is called when the code that forked returns to this loop.
        """
        if self.thread == get_ident():  # the loop would continue in the child, with all its pending work
            forks.end_with_step(end, Reactor.run.__code__)
            self.loop.call_soon(end)
        self.disclaim()
        self.is_away = self.is_stood_in = self.is_claimed = False  # the stand-in was not copied, but its locks were
        self.after_callback = self.before_stand_in = end
        self._dirty.clear()
        self._lazy.clear()
        self._timers.clear()
        self._timed.clear()
        self._awaiting.clear()
        self._close_pipe()

    def close(self) -> None:
        """End the stand-in and close own descriptors."""
        self.stand_in.end()
        self._close_pipe()

    def _close_pipe(self) -> None:
        """Close the pipe once: its numbers, and that of the loop's thread, may soon belong to others."""
        self.disclaim()
        read, write = self._wake_r, self._wake_w
        self._wake_r = self._wake_w = -1
        if read != -1:
            os.close(read)
            os.close(write)

    # ---------------------------------------------------------------------------------------------- timers

    def call_at(self, when: float, function: Callable[[], None]) -> int:
        """Call a function at that time (monotonic seconds) or up to two milliseconds later, never earlier.

        This works while driven by hand, too. Return a number for `cancel`. On the loop's thread only.
        """
        number = next(self._timer_count)
        self._timed[number] = function
        heapq.heappush(self._timers, (when, number))
        self._set_alarm()
        return number

    def cancel(self, number: int) -> None:
        """Cancel a timer, if it has not run yet. On the loop's thread only.

        A pair of numbers remains of it, and never more of these than active timers plus a few.
        """
        self._timed.pop(number, None)
        if len(self._timers) > 2 * len(self._timed) + SWEEP:
            self._timers = [timer for timer in self._timers if timer[1] in self._timed]
            heapq.heapify(self._timers)

    def _set_alarm(self) -> None:
        """Have the loop ring for the first timer, unless it rings earlier anyway."""
        if not self._timers:
            return
        first = self._timers[0][0]
        if self._alarm is not None:
            if self._alarm_at <= first:
                return
            self._alarm.cancel()
            self._spare.cancel()
        self._alarm_at = first
        seconds = first - monotonic()
        self._spare = self.loop.call_later(_loop_seconds(max(0.0, seconds) + SPARE), self._handle, self._ring)
        self._alarm = self.loop.call_later(_loop_seconds(seconds), self._handle, self._ring)

    def _ring(self) -> None:
        self._spare.cancel()
        self._alarm = None
        try:
            self._run_timers()
        finally:
            self._set_alarm()

    def _run_timers(self) -> None:
        """Run the timers that are due now, but not those that they set, so that this ends."""
        now = monotonic()
        due: deque[int] = deque()
        function = begun = None
        try:
            while self._timers and self._timers[0][0] <= now:
                due.append(self._timers[0][1])
                heapq.heappop(self._timers)
            while due:
                if (function := self._timed.pop(due[0], None)) is not None:
                    (begun := function)()
                function = begun = None
                due.popleft()
        except BaseException as error:
            if function is not None and (begun is None or not has_begun(error)):
                self._timed[due[0]] = function
            raise
        finally:
            for number in due:  # one raised: the others run next time
                heapq.heappush(self._timers, (now, number))

    # --------------------------------------------------------------------------------------------- changes

    async def change(self, deadline: float | None = None) -> None:
        """Return after the next event here (data read or sent, a timer, a `note`), or at the deadline (monotonic time).

        It does for coroutines what `drive` does for code that blocks:

        >>> while not is_over(): await reactor.change()            # doctest: +SKIP
        """
        news = self.loop.create_future()
        self._awaiting.append(news)
        timer = None if deadline is None else self.loop.call_later(_loop_seconds(deadline - monotonic()), _settle, news)
        try:
            await news
        finally:
            if timer is not None:
                timer.cancel()
            if news in self._awaiting:
                self._awaiting.remove(news)

    def note(self) -> None:
        """Wake coroutines that wait for a change, when something ended that does no I/O. On the loop's thread."""
        if self._awaiting:
            awaiting, self._awaiting = self._awaiting, []
            for news in awaiting:
                _settle(news)

    # -------------------------------------------------------------------------------------------- watching

    def watch(self, fd: int, on_readable: Callable[[], None]) -> None:
        """Call `on_readable` whenever there is something to read, on the loop's thread only."""
        self._readers[fd] = on_readable
        hangup = select.poll()
        hangup.register(fd, 0)
        self.loop.add_reader(fd, self._handle_input, fd, on_readable, hangup.poll)
        self._poll.register(fd, READ | select.POLLOUT if fd in self._writers else READ)

    def hold(self, fd: int) -> None:
        """Stop reading from a descriptor until it is watched again; writing continues."""
        if self._readers.pop(fd, None) is not None:
            self.loop.remove_reader(fd)
            if fd in self._writers:
                self._poll.register(fd, select.POLLOUT)
            else:
                self._poll.unregister(fd)

    def is_watched(self, fd: int) -> bool:
        """Return True if a descriptor is read."""
        return fd in self._readers

    def watch_writable(self, fd: int, on_writable: Callable[[], None]) -> None:
        """Call `on_writable` whenever there is room to write, until `unwatch_writable`."""
        self._writers[fd] = on_writable
        if self.owner != get_ident():  # the stand-in has just taken over, and polls without it
            self.wake()
        self.loop.add_writer(fd, self._handle, on_writable)
        self._poll.register(fd, READ | select.POLLOUT if fd in self._readers else select.POLLOUT)

    def unwatch_writable(self, fd: int) -> None:
        """End `watch_writable`."""
        if self._writers.pop(fd, None) is not None:
            self.loop.remove_writer(fd)
            if fd in self._readers:
                self._poll.register(fd, READ)
            else:
                self._poll.unregister(fd)

    def unwatch(self, fd: int) -> None:
        """End all watching of a descriptor; call this before closing it."""
        self.unwatch_writable(fd)
        if self._readers.pop(fd, None) is not None:
            self.loop.remove_reader(fd)
            self._poll.unregister(fd)

    # -------------------------------------------------------------------------------------------- flushing

    def flush_soon(self, link: Flushable) -> None:
        """Flush the link at the end of this turn; on the loop's thread only."""
        self._dirty.append(link)
        if self.is_away and not self.is_stood_in:
            self.stand_in.send_soon()
        if self.owner != self.thread and self.owner != get_ident():
            link.flush()  # the stand-in has just taken over, and may already have sent what was there
        if not self._busy and not self._flush_scheduled:
            self._schedule_flush()

    def flush_later(self, link: Flushable) -> None:
        """Flush the link within a millisecond, unless it is flushed before; on the loop's thread only."""
        if not self._lazy:
            self.call_at(monotonic() + TURN, self._flush_lazy)
        if link not in self._lazy:
            self._lazy.append(link)

    def _flush_lazy(self) -> None:
        while self._lazy:
            self._lazy[0].flush()
            del self._lazy[0]

    @property
    def is_reading(self) -> bool:
        """True if this thread handles what was read: `after_callback` follows."""
        return self._busy and self.is_mine

    @property
    def has_calls(self) -> bool:
        """True if a function waits to be called by the loop."""
        return bool(self._calls)

    @property
    def has_unsent(self) -> bool:
        """True if something was collected for sending."""
        return bool(self._dirty)

    def flush(self) -> None:
        """Send everything that was collected."""
        self._flush_scheduled = False
        dirty = self._dirty
        link = None
        try:
            while dirty:
                try:
                    link = dirty.popleft()
                except IndexError:
                    return  # another thread was faster at a change of the owner
                link.flush()
                link = None
        except BaseException:
            if link is not None:
                dirty.append(link)
            self.call(self.flush)
            raise

    def _schedule_flush(self) -> None:
        self.loop.call_soon(self._flush_and_linger)
        self._flush_scheduled = True

    def _flush_and_linger(self) -> None:
        if not self._dirty:
            self._flush_scheduled = False
            return
        self.flush()
        if self._awaiting:
            self.note()
        if self._lingers and self._spinning.is_worth_it():
            self._linger()

    def linger(self) -> None:
        """Linger as after a flush, when something was handed over by other means than a link."""
        if self._lingers and self._spinning.is_worth_it():
            self._linger()

    def _linger(self) -> None:
        """Wait awake for an answer to what was sent, without the detour through a sleeping loop.

        Only for a short time, and only as long as each round sends something again; otherwise the loop has work.
        """
        end = monotonic() + TURN
        self._busy = True
        try:
            while (events := self._spinning.wait()) and monotonic() < end:
                self._dispatch(events)
                if not self._dirty:
                    return
                self.flush()
        finally:
            self._busy = False
            if self._dirty:
                self.flush()

    # ---------------------------------------------------------------------------------------------- away

    def go_away(self) -> bool:
        """Note that plain code of the application is about to run.

        Return True if this is the loop's thread, which must then call `come_back` after it. (The code that runs each
        call does the same inline, because it is the hot path.)
        """
        if get_ident() != self.thread:
            return False
        self.is_away = True
        if self.waiters:
            self.stand_in.alert()
        return True

    def come_back(self) -> None:
        """Note that the loop's thread returned from plain code: the stand-in, if it reads, stops."""
        self.is_away = False
        if self.is_claimed:
            self.stand_in.take_back()

    def enter(self) -> bool:
        """Enter something that only the owner may do, such as `drive`, from plain code on the loop's thread.

        Return True if the thread was away; pass that to `leave` afterwards.
        """
        if not self.is_away or get_ident() != self.thread:
            return False
        self.come_back()
        return True

    def leave(self, was_away: bool) -> None:
        """Return to the plain code."""
        if was_away:
            self.go_away()

    @property
    def is_mine(self) -> bool:
        """Return True if this thread must itself read what it waits for: the loop's thread, or the stand-in."""
        ident = get_ident()
        return ident == self.thread or ident == self.owner

    # --------------------------------------------------------------------------------------------- driving

    def drive(self, until: Callable[[], bool], deadline: float | None = None) -> bool:
        """Read and write by hand until `until()` is true or the deadline (monotonic seconds) passes; return `until()`.

        Only for the owner: the loop's own thread, which called `enter` and whose loop is blocked meanwhile, or the
        stand-in.
        """
        depth, busy = self.driving, self._busy
        try:
            return self._drive(until, deadline)
        except BaseException:
            self.driving, self._busy = depth, busy
            raise

    def _drive(self, until: Callable[[], bool], deadline: float | None) -> bool:
        self.driving += 1
        busy, self._busy = self._busy, True
        poll = self._poll.poll
        try:
            while not until():
                if self._timers and self._timers[0][0] <= monotonic():
                    self._run_timers()
                    if until():
                        return True
                if self._dirty:
                    self.flush()
                    if until():
                        return True
                wake = deadline
                if self._timers and (wake is None or self._timers[0][0] < wake):
                    wake = self._timers[0][0]
                if wake is None:
                    events = (self._spinning.wait() if self._spinning.is_worth_it() else None) or poll()
                else:
                    now = monotonic()
                    if deadline is not None and now >= deadline:
                        return until()
                    events = poll(max(0.0, wake - now) * 1000 + 1)
                self._dispatch(events)
            return True
        finally:
            self.driving -= 1
            self._busy = busy
            if not busy and self._dirty and not self._flush_scheduled:
                self._schedule_flush()

    def poll(self) -> None:
        """Read and write by hand what is possible at this moment; on the loop's own thread."""
        was_away, depth = False, self.driving
        try:
            was_away = self.enter()
            self.driving = depth + 1
            self.exchange()
        finally:
            try:
                self.driving = depth
            except BaseException:
                self.driving = depth
                raise
            finally:
                self.leave(was_away)

    def exchange(self) -> None:
        """Do as `poll`, in a turn of the loop: what is read waits for the caller."""
        busy, self._busy = self._busy, True
        try:
            self.flush()
            self._dispatch(self._poll.poll(0))
        finally:
            self._busy = busy
            if not busy and self._dirty and not self._flush_scheduled:
                self._schedule_flush()

    def _dispatch(self, events: list[tuple[int, int]]) -> None:
        try:
            for fd, event in events:
                if event & select.POLLOUT and (writer := self._writers.get(fd)) is not None:
                    writer()
                if event & READ and (reader := self._readers.get(fd)) is not None:
                    reader()
        finally:
            self.after_callback()
        if self._awaiting:
            self.note()

    def _handle_input(self, fd: int, on_readable: Callable[[], None], hangup: Callable[[int], object]) -> None:
        try:
            self._handle(on_readable)
        finally:
            if hangup(0) and self._readers.get(fd) is on_readable:  # there is more to read, or the end
                self.loop.call_soon(self._handle_input, fd, on_readable, hangup)

    def _handle(self, callback: Callable[[], None]) -> None:
        if self.is_away:  # plain code runs this very loop by hand, as nest_asyncio allows
            self.come_back()
            try:
                self._handle(callback)
            finally:
                self.go_away()
            return
        self._busy = True
        try:
            try:
                callback()
            finally:
                self.after_callback()
        finally:
            self._busy = False
            if self._awaiting:
                self.note()
            if self._dirty:
                self._flush_and_linger()

    def _handle_wake(self) -> None:
        function = begun = None
        try:
            self._read_wake()
            for _ in range(len(self._calls)):
                if not self._calls:
                    break  # one of them waited by hand and has called the others
                function = self._calls.popleft()
                (begun := function)()
                function = begun = None
        except BaseException as error:
            if function is not None and (begun is None or not has_begun(error)):
                self._calls.appendleft(function)
            self.wake()  # the others are called in the next turn
            raise

    def _read_wake(self) -> None:
        try:
            os.read(self._wake_r, 4096)
        except BlockingIOError:
            return


def _loop_seconds(seconds: float) -> float:
    """Return the seconds to ask of the loop for a timer that many seconds ahead.

    >>> _loop_seconds(0.0004), _loop_seconds(-1.0), _loop_seconds(1.2345)
    (0.001, 0.001, 1.235)
    """
    return max(1, math.ceil(min(seconds, FURTHEST) * 1000)) / 1000


def _settle(news: asyncio.Future[None]) -> None:
    if not news.done():
        news.set_result(None)


def has_begun(error: BaseException) -> bool:
    """Return True if a function called in a `try` had done anything when this exception was raised in it.

    The handler of a signal may raise in its first instruction; then it has done nothing, and no other code will call
    it.
    """
    tb = error.__traceback__
    called = None if tb is None else tb.tb_next
    if called is None:  # no Python code was reached
        return not isinstance(error, RecursionError)
    return called.tb_next is None or called.tb_lasti > ENTRY


def _nothing() -> None:
    pass


def _raise(error: BaseException) -> None:
    raise error


def _pipe() -> tuple[int, int]:
    r, w = os.pipe()
    os.set_blocking(r, False)
    os.set_blocking(w, False)
    return r, w
