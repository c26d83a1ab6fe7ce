"""One thread's readiness loop: an asyncio loop, or the thread that drives the links by hand while it waits.

Everything of mob's that is read or written is watched here, twice: by the asyncio loop and by a poll object. While the
loop runs, the loop calls. When code on the loop's own thread blocks for an answer (`drive`), the loop stands still and
this file reads and writes in its place, so synchronous code never deadlocks on its own loop. Other threads reach the
thread by `call`, which wakes it in either mode (asyncio's `call_soon_threadsafe` would wait for a loop that stands).

uvloop calls a reader once more and then never again when a socket has an error beside what there is to read, which it
has if the other end dies and leaves something of ours unread. So after each read that the loop has called for the
kernel is asked, in 0.5 us, whether the other end is gone. (One epoll object for all, watched by the loop, would spare
that and one of the two registrations, but it makes an awaited call a fifth slower.)

Timers are kept here, and the loop has one timer for the first of them. The loop's timers count whole milliseconds:
uvloop rounds less than half of one down to "at once", and its clock is cut off to whole ones, so a timer may come up to
a millisecond early. Hence the loop is asked for at least one millisecond, rounded up, and asked again if it was early:
a timer costs two wake-ups at most, and one that sets itself for the next instant takes no more than one per
millisecond.

What is posted while a callback of this file runs is sent when it returns, else at the end of the loop's turn. Then the
reactor may linger: who has just sent something often gets the answer sooner than a sleeping core could be woken.
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
"""Seconds after which the loop gets a turn, however fast the answers come, and what has time is sent."""
SWEEP = 64
"""Cancelled timers that may stay among the others before they are taken out."""
ENTRY = 2
"""Bytes of a function's code that do nothing yet: they make its variables, and look for signals."""
SPARE = 1.0
"""Seconds after which the loop rings once more, if the first time an exception has come up before anything was done."""
FURTHEST = 86400.0
"""Seconds for which the loop is asked at most: also a timer that never comes may be set."""


class Flushable(Protocol):
    """What has gathered something to send."""

    def flush(self) -> None:
        """Sends it."""
        ...


class Reactor:
    """Readiness of descriptors, for a loop that may stand still."""

    def __init__(self, loop: asyncio.AbstractEventLoop, lingers: bool = False) -> None:
        self.loop = loop
        self._lingers = lingers  # whether, after a flush, the answer is waited for awake for a moment
        self.thread: int = 0
        """The ident of the thread that runs the loop."""
        self.owner: int = 0
        """The ident of the thread that reads and writes: the loop's, or the stand-in while that one is away."""
        self.is_away: bool = False
        """Whether the loop's thread is in plain code of the application."""
        self.is_stood_in: bool = False
        """Whether the stand-in is the owner."""
        self.is_claimed: bool = False
        """Whether the stand-in is about to take over, or has done so: the loop's thread waits for it then."""
        self.waiters: set[Any] = set()
        """What is waited for elsewhere than on the loop: locks of threads, calls that other loops await."""
        self.stand_in: StandIn = StandIn(self)
        self.plain: Plain = Plain(loop)
        """How the loop gives way to plain code on its thread."""
        self.driving: int = 0
        """How deep the loop's thread is in `drive`."""
        self._busy = False  # a callback of ours runs and will flush when it returns
        self._dirty: deque[Flushable] = deque()
        self._lazy: list[Flushable] = []
        self._flush_scheduled = False
        self._readers: dict[int, Callable[[], None]] = {}
        self._writers: dict[int, Callable[[], None]] = {}
        self._poll = select.poll()
        self._spinning = Spinning(self._poll)
        self._calls: deque[Callable[[], None]] = deque()
        self._timers: list[tuple[float, int]] = []  # a heap; those without a function were cancelled
        self._timed: dict[int, Callable[[], None]] = {}  # what each timer calls, by its number
        self._timer_count = itertools.count()
        self._alarm: asyncio.TimerHandle | None = None  # the loop's timer for the first of them
        self._spare: asyncio.TimerHandle  # and another, should an exception come up before that has done anything
        self._alarm_at = 0.0
        self._wake_r, self._wake_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) if hasattr(os, "pipe2") else _pipe()
        self._awaiting: list[asyncio.Future[None]] = []  # of those who wait for a change
        self.on_exit: Callable[[BaseException], None] = _raise
        """What to do when code on the loop has said sys.exit(); the loop goes on unless this raises."""
        self.after_callback: Callable[[], None] = _nothing
        """Housekeeping after each of our callbacks and each round of `drive`."""
        self.before_stand_in: Callable[[], None] = _nothing
        """What the stand-in has to see to before it reads: what was read before, and is waited for."""

    def __repr__(self) -> str:
        return f"<Reactor watching {len(self._readers)} descriptors, driven by hand {self.driving} deep>"

    # --------------------------------------------------------------------------------------------- running

    def run(self) -> None:
        """Runs the loop in this thread until `stop`. May be called again later, from another thread."""
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
        """From now on this thread is the one that runs the loop, or drives by hand in its place."""
        self.thread = self.owner = get_ident()
        self.stand_in.claim()

    def disclaim(self) -> None:
        """From now on there is no such thread."""
        self.thread = self.owner = 0

    def stop(self) -> None:
        """Ends `run`; from any thread."""
        self.call(self.loop.stop)

    def call(self, function: Callable[[], None]) -> None:
        """Has the loop's thread call a function soon; from any thread."""
        self._calls.append(function)
        try:  # as in `wake`, which may be one level too deep for a stack that is nearly used up
            os.write(self._wake_w, b"\0")
        except OSError:
            pass

    def wake(self) -> None:
        """Have whatever reads here look again at what it waits for; from any thread."""
        try:
            os.write(self._wake_w, b"\0")
        except BlockingIOError:
            pass  # it is awake already
        except OSError:
            pass  # closed: nobody is left to call it

    def abandon(self, end: Callable[[], None]) -> None:
        """Lets go of it in the child of a fork: what it watches is the parent's. `end` is called when the code that has
        forked returns to this loop.
        """
        if self.thread == get_ident():  # the loop would go on in the child, with what it has yet to do
            forks.end_with_step(end, Reactor.run.__code__)
            self.loop.call_soon(end)
        self.disclaim()
        self.is_away = self.is_stood_in = self.is_claimed = False  # the stand-in was not copied, what it held was
        self.after_callback = self.before_stand_in = end
        self._dirty.clear()
        self._lazy.clear()
        self._timers.clear()
        self._timed.clear()
        self._awaiting.clear()
        self._close_pipe()

    def close(self) -> None:
        """End the stand-in and free the descriptors of its own."""
        self.stand_in.end()
        self._close_pipe()

    def _close_pipe(self) -> None:
        """Close it, once: its numbers, and that of the loop's thread, soon belong to something else."""
        self.disclaim()
        read, write = self._wake_r, self._wake_w
        self._wake_r = self._wake_w = -1
        if read != -1:
            os.close(read)
            os.close(write)

    # ---------------------------------------------------------------------------------------------- timers

    def call_at(self, when: float, function: Callable[[], None]) -> int:
        """Call a function at that time (monotonic seconds) or up to two milliseconds later, never earlier; also while
        driven by hand. Return the number by which `cancel` knows it. On the loop's thread only.
        """
        number = next(self._timer_count)
        self._timed[number] = function
        heapq.heappush(self._timers, (when, number))
        self._set_alarm()
        return number

    def cancel(self, number: int) -> None:
        """Forget a timer; one that has run already is none. On the loop's thread only.

        What remains of it is a pair of numbers, and never more of them than of timers that will run (and a few).
        """
        self._timed.pop(number, None)
        if len(self._timers) > 2 * len(self._timed) + SWEEP:
            self._timers = [timer for timer in self._timers if timer[1] in self._timed]
            heapq.heapify(self._timers)

    def _set_alarm(self) -> None:
        """Have the loop ring for the first timer, unless it rings before that anyway."""
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
        """Run the timers that are due now, but not those that they set: so this comes to an end."""
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
            for number in due:  # one has raised: the others run at the next time
                heapq.heappush(self._timers, (now, number))

    # --------------------------------------------------------------------------------------------- changes

    async def change(self, deadline: float | None = None) -> None:
        """Return after the next thing that happens here (something was read or sent, a timer, a `note`), or at the
        deadline (monotonic seconds). What `drive` is for code that blocks, this is for coroutines:

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
        """Wake those who wait for a change: something has ended that neither reads nor sends. On the loop's thread."""
        if self._awaiting:
            awaiting, self._awaiting = self._awaiting, []
            for news in awaiting:
                _settle(news)

    # -------------------------------------------------------------------------------------------- watching

    def watch(self, fd: int, on_readable: Callable[[], None]) -> None:
        """Calls `on_readable` whenever there is something to read, on the loop's thread only."""
        self._readers[fd] = on_readable
        hangup = select.poll()
        hangup.register(fd, 0)
        self.loop.add_reader(fd, self._handle_input, fd, on_readable, hangup.poll)
        self._poll.register(fd, READ | select.POLLOUT if fd in self._writers else READ)

    def hold(self, fd: int) -> None:
        """Read no more from a descriptor until it is watched again; what is to be written is written all the same."""
        if self._readers.pop(fd, None) is not None:
            self.loop.remove_reader(fd)
            if fd in self._writers:
                self._poll.register(fd, select.POLLOUT)
            else:
                self._poll.unregister(fd)

    def is_watched(self, fd: int) -> bool:
        """Return whether a descriptor is read."""
        return fd in self._readers

    def watch_writable(self, fd: int, on_writable: Callable[[], None]) -> None:
        """Calls `on_writable` whenever there is room to write, until `unwatch_writable`."""
        self._writers[fd] = on_writable
        if self.owner != get_ident():  # the stand-in has taken over a moment ago, and polls without it
            self.wake()
        self.loop.add_writer(fd, self._handle, on_writable)
        self._poll.register(fd, READ | select.POLLOUT if fd in self._readers else select.POLLOUT)

    def unwatch_writable(self, fd: int) -> None:
        """Ends `watch_writable`."""
        if self._writers.pop(fd, None) is not None:
            self.loop.remove_writer(fd)
            if fd in self._readers:
                self._poll.register(fd, READ)
            else:
                self._poll.unregister(fd)

    def unwatch(self, fd: int) -> None:
        """Ends all watching of a descriptor; to be called before it is closed."""
        self.unwatch_writable(fd)
        if self._readers.pop(fd, None) is not None:
            self.loop.remove_reader(fd)
            self._poll.unregister(fd)

    # -------------------------------------------------------------------------------------------- flushing

    def flush_soon(self, link: Flushable) -> None:
        """Has the link flushed at the end of this turn; on the loop's thread only."""
        self._dirty.append(link)
        if self.is_away and not self.is_stood_in:
            self.stand_in.send_soon()
        if self.owner != self.thread and self.owner != get_ident():
            link.flush()  # the stand-in has taken over a moment ago, and may have sent all that was there then
        if not self._busy and not self._flush_scheduled:
            self._schedule_flush()

    def flush_later(self, link: Flushable) -> None:
        """Has the link flushed within a millisecond, unless that is done before; on the loop's thread only."""
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
        """Whether this thread handles what was read: `after_callback` follows."""
        return self._busy and self.is_mine

    @property
    def has_calls(self) -> bool:
        """Whether a function waits to be called by the loop."""
        return bool(self._calls)

    @property
    def has_unsent(self) -> bool:
        """Whether something was gathered to be sent."""
        return bool(self._dirty)

    def flush(self) -> None:
        """Sends all that was gathered."""
        self._flush_scheduled = False
        dirty = self._dirty
        link = None
        try:
            while dirty:
                try:
                    link = dirty.popleft()
                except IndexError:
                    return  # another thread was faster, at a change of the owner
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
        """Something was handed over by other means than a link: as after a flush."""
        if self._lingers and self._spinning.is_worth_it():
            self._linger()

    def _linger(self) -> None:
        """Something was sent: what comes back at once is taken here, without the detour through a sleeping loop.

        For a little while only, and only as long as each round sends something again: else the loop has work.
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
        """Plain code of the application is about to run. Whether this is the loop's thread, which has to `come_back`
        from it then. (What runs each call does the same in line, for that is the hot path.)
        """
        if get_ident() != self.thread:
            return False
        self.is_away = True
        if self.waiters:
            self.stand_in.alert()
        return True

    def come_back(self) -> None:
        """The loop's thread has returned from plain code: if the stand-in reads in its place, that ends now."""
        self.is_away = False
        if self.is_claimed:
            self.stand_in.take_back()

    def enter(self) -> bool:
        """Plain code on the loop's thread wants something that only the owner may do, as `drive`. Whether it was away;
        to be given to `leave` afterwards.
        """
        if not self.is_away or get_ident() != self.thread:
            return False
        self.come_back()
        return True

    def leave(self, was_away: bool) -> None:
        """It goes on with the plain code."""
        if was_away:
            self.go_away()

    @property
    def is_mine(self) -> bool:
        """Whether this thread has to read by hand what it waits for: it is the loop's, or the stand-in."""
        ident = get_ident()
        return ident == self.thread or ident == self.owner

    # --------------------------------------------------------------------------------------------- driving

    def drive(self, until: Callable[[], bool], deadline: float | None = None) -> bool:
        """Reads and writes by hand until `until()` holds or the deadline (monotonic seconds) passes; whether it holds.

        Only by the owner: the loop's own thread, which stands still meanwhile and has said `enter`, or the stand-in.
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
        """Reads and writes what can be at this moment, by hand; on the loop's own thread."""
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
        """As `poll`, in a turn of the loop: what is read waits for whoever calls this."""
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
        if self.is_away:  # plain code runs this very loop by hand, as nest_asyncio allows it to
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
                    break  # one of them has waited by hand, and has called the others meanwhile
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
    """Return for how long the loop is asked when a timer is so many seconds ahead.

    >>> _loop_seconds(0.0004), _loop_seconds(-1.0), _loop_seconds(1.2345)
    (0.001, 0.001, 1.235)
    """
    return max(1, math.ceil(min(seconds, FURTHEST) * 1000)) / 1000


def _settle(news: asyncio.Future[None]) -> None:
    if not news.done():
        news.set_result(None)


def has_begun(error: BaseException) -> bool:
    """Return whether a function that was called in a `try` had done anything when this came up in it. The handler of a
    signal may raise in its first instruction, and then it has not, and nobody else is going to call it.
    """
    tb = error.__traceback__
    called = None if tb is None else tb.tb_next
    if called is None:  # no code of Python was reached
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
