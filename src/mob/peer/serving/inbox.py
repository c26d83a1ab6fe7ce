"""The inbox: what arrived and was not looked at yet, in order.

Work is done in slices: after two milliseconds replies are sent and the loop gets a turn, so a long queue of short calls
neither delays its own answers nor starves other connections. While the application blocks the loop and the links are
driven by hand, callbacks run at once because other processes wait for them; everything else stays here until the loop
is free.

The board shows all callers how full the inbox is. `serving` decides how a call is run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Any

from mob.core.callbacks import Function
from mob.errors import Unavailable
from mob.peer.references.objects import HostedService
from mob.peer.serving import limits
from mob.peer.serving.firsts import Firsts
from mob.peer.serving.measure.laps import Laps
from mob.rim.link import Link
from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.peer.links.contact import Contact
    from mob.peer.serving.serving import Serving

ArrivedWork = tuple[Link, "Contact", "m.Invoke | m.Message", "Function | None", float]
"""A call or message that was not looked at yet, with its function if it is a callback, and its time of arrival."""

COST_WEIGHT = 0.1
"""Weight of one slice of work in the average cost of a call."""
FLUSH_AFTER = 0.0015
"""Seconds of work after which answers are sent before the next call begins."""
LONG = 100_000.0
"""Microseconds of waiting work above which the calls here count as a backlog."""
SLICE = 0.002
"""Seconds of work after which replies are sent and the loop gets a turn."""


class Inbox:
    """The calls and messages that wait for the loop."""

    def __init__(self, serving: Serving, limit: int) -> None:
        self._context = serving.context
        self._serving = serving
        self._handlers = serving.handlers
        self._discard = serving.encoder.discard
        self._lent = serving.references.lent
        self._name_of = serving.contacts.name_of
        self._start_call = serving.start_call
        self._blocked_for = serving.blocking.calls
        self._laps = Laps(serving)
        self.firsts: Firsts = Firsts(serving.loop, self.work)
        self._limit = limit
        self.calls: deque[ArrivedWork] = deque()
        self._gives_back = False  # calls of exports go elsewhere, because this process has handed over
        self._held: list[tuple[Link, Contact, m.Invoke | m.Message]] | None = None  # waits until the handover ends
        # callbacks that wait while the loop is blocked
        self._urgent: deque[tuple[Link, Contact, m.Invoke, Function]] = deque()
        self._is_working = False
        self._is_scheduled = False
        self._is_between = False  # between two calls of one slice
        self.heard_at: float = 0.0
        """The time when the current frame of messages arrived."""
        self.arrived: float = 0.0
        """The time when the call arrived that is being started."""
        self._cost = 0.0  # microseconds of a call on the loop, on average recently

    def __repr__(self) -> str:
        return f"<Inbox, {len(self)} wait>"

    def __len__(self) -> int:
        return len(self.calls) + len(self._urgent)

    @property
    def in_hand(self) -> int:
        """Number of calls ahead of a new one: those that wait here, and the one that runs."""
        return len(self.calls) + (self._is_working and not self._is_between)

    @property
    def pace(self) -> int:
        """Microseconds that a call takes on the loop, on average recently."""
        return int(self._cost)

    def backlog(self) -> int:
        """Return how many calls wait, if the last of them must wait long; else 0."""
        return len(self) if len(self) * self._cost > LONG else 0

    # ----------------------------------------------------------------------------------------- taking in and out

    def accept(self, link: Link, contact: Contact, message: m.Invoke | m.Message) -> None:
        """Accept a message that arrived; `work` follows when the whole frame is here."""
        callback = None
        if self._gives_back and not self._may_pass(link, contact, message):
            return
        if type(message) is m.Invoke:
            if type(message.target) is int:  # looked up now: a release may follow in the same frame
                callback = self._lent(message.target) or _freed
                if self._context.reactor.driving and self._is_urgent(contact, message, callback):
                    self._urgent.append((link, contact, message, callback))
                    return
            elif self._blocked_for and self._is_circle(contact, message):
                self._refuse(link, message, self._deadlock(contact, message))
                return
            if len(self.calls) >= self._limit:
                self._refuse(link, message, limits.full(self._context.name, self._limit))
                return
        self.calls.append((link, contact, message, callback, self.heard_at))

    def hold(self) -> None:
        """Begin nothing from now on, because the process has handed over its data.

        Calls of exports go elsewhere. Messages and calls of objects wait, because no other process can handle them.
        """
        self._gives_back, self._held = True, []

    def let_go_on(self, with_calls: bool) -> None:
        """Begin what was held. `with_calls`: calls of exports begin here again, too."""
        held, self._held = self._held or [], None
        self._gives_back = self._gives_back and not with_calls
        for each in held:
            self.accept(*each)
        if held:
            self._schedule()

    def _may_pass(self, link: Link, contact: Contact, message: m.Invoke | m.Message) -> bool:
        """Return whether something begins although the process has handed over: functions that it lent."""
        if type(message) is m.Invoke:
            if type(message.target) is str:
                self._discard(message)
                self._serving.answers.give_back(link, message)
                return False
            if not isinstance(self._lent(message.target), HostedService):  # type: ignore[arg-type]
                return True
        if self._held is None:  # the process ends, and no other process can handle it
            return True
        self._held.append((link, contact, message))
        return False

    def forget(self, link: Link, number: int) -> None:
        """Drop a call that its caller cancelled."""
        self._drop(lambda entry: _is_call(entry, link, number))

    def forget_link(self, link: Link) -> None:
        """Drop the calls of a link whose other end exited. Its messages are handled nevertheless."""
        self._drop(lambda entry: entry[0] is link and isinstance(entry[2], m.Invoke))

    def _drop(self, is_dropped: Callable[[ArrivedWork], bool]) -> None:
        calls, self.calls = self.calls, deque()
        for entry in calls:
            if is_dropped(entry):
                self._discard(entry[2])
            else:
                self.calls.append(entry)

    def refuse_all(self, why: str) -> None:
        """Give back the calls that have not begun, safe to repeat elsewhere, because the process ends."""
        while self.calls:
            link, _, message, _, _ = self.calls.popleft()
            if isinstance(message, m.Invoke):
                self._refuse(link, message, Unavailable(why))

    def _refuse(self, link: Link, call: m.Invoke, error: Exception) -> None:
        self._serving.answers.refuse(link, call, error)

    # --------------------------------------------------------------------------------------------------- working

    def work(self) -> None:
        """Start what is here, for a slice of time; the rest in the loop's next turn."""
        if self._urgent:
            self._run_callbacks(self._urgent)
        if self._is_working:
            return
        if not self.calls:
            self._serving.invite()  # a call may have been cancelled or refused, or a stream may have ended
            return
        if self._context.reactor.driving:
            self._schedule()  # the loop is blocked: it returns to this when it is free
            return
        try:
            self._work()
        except BaseException:
            self._serving.plain.recover()
            self._serving.reactor.is_away = self._is_between = self._is_working = False
            if self.calls:
                self._schedule()
            raise

    def _work(self) -> None:
        plain = self._serving.plain
        left = plain.enter_own()  # once for the slice, because it costs a microsecond
        begun, start = len(self.calls), perf_counter()  # the same clock as `monotonic` where that matters
        self._begin_slice(begun, start)
        try:
            self._start_calls(start)
        finally:
            plain.leave(left)
            self._end_slice(begun - len(self.calls), start)

    def _begin_slice(self, count: int, now: float) -> None:
        self._is_working = True
        board = self._context.board
        if board is not None and self._serving.threads is None:
            board.put_queued(self._context.uid, count)
        self._serving.running.on_loop_since = now
        self._laps.begin(now)

    def _start_calls(self, start: float) -> None:
        """Start calls one by one, until none is left or the slice is over."""
        laps, firsts = self._laps, self.firsts
        flushed = now = start
        while self.calls:
            if firsts.newest is not None and not self._may_begin() and not firsts.are_over():
                return
            taken = self.calls[0]
            try:
                self._start(taken, now)
            except BaseException as error:
                if not isinstance(taken[2], m.Invoke):
                    raise
                self._serving.ends.end(taken[0], taken[2], error)
                if self.calls:
                    self._schedule()
                return
            before, now = now, perf_counter()
            if now > laps.until:
                laps.close(before, now, self.arrived)
                if now - flushed > FLUSH_AFTER:
                    flushed = now
                    self._hand_over()
            if now > start + SLICE:
                self._context.reactor.flush()
                self._schedule()
                return

    def _start(self, taken: ArrivedWork, now: float) -> None:
        del self.calls[0]
        link, contact, message, callback, self.arrived = taken
        laps = self._laps
        if type(message) is m.Invoke:
            if message.target != laps.target:
                laps.turn_to(message.target, now, self.arrived)
            laps.count += 1
            if self._serving.begun.notes_running and self._context.reactor.has_unsent:
                self._context.reactor.stand_in.send_soon()  # a task may take as long as it likes
            if link.unsent_bytes <= limits.UNREAD:
                self._start_call(link, contact, message, callback)
            else:
                self._refuse(link, message, limits.unread(contact.name, self._context.name))
        elif type(message) is m.Message:
            laps.turn_to(0, now, 0.0)
            self._handlers.handle_message(link, contact, message)

    def _end_slice(self, done: int, start: float) -> None:
        self._is_working = False
        now = perf_counter()
        self._laps.turn_to(0, now, self.arrived)
        if done > 0:
            self._cost += COST_WEIGHT * ((now - start) / done * 1e6 - self._cost)
        self._serving.running.rest()
        self.publish()
        self._serving.invite()

    def _may_begin(self) -> bool:
        """Return whether the next call takes its first step after those still to come, as the loop keeps the order."""
        message = self.calls[0][2]
        if not isinstance(message, m.Invoke):
            return self._handlers.begin_later
        target = message.target
        export = self._serving.find_export(target) if isinstance(target, str) else None
        return export is not None and export.begins_later

    def _hand_over(self) -> None:
        """Send answers and invite waiting callers between two calls.

        If nothing is left here, read at once what callers have sent in the meantime: that saves a turn of the loop.
        """
        board = self._context.board
        if board is not None and self._serving.threads is None:
            board.put_queued(self._context.uid, len(self.calls))
        self._is_between = True
        self._serving.invite()
        if self.calls:
            self._context.reactor.flush()
        else:
            self._context.reactor.exchange()
        self._is_between = False

    def publish(self) -> None:
        """Write to the board what is in hand here: calls that keep others waiting, and calls that run concurrently."""
        board = self._context.board
        if board is not None:
            serving = self._serving
            queued = len(self.calls)
            if serving.threads is not None:
                queued += serving.threads.behind
            beside = len(serving.tasks) + len(serving.streams) + len(serving.batched)
            board.put(self._context.uid, queued, int(self._cost), len(serving.waiting_calls.lines), beside)

    def serve_callbacks(self) -> None:
        """Run the callbacks that are here, because the loop is about to block and other processes wait for them."""
        if not self.calls:
            return
        if any(type(call) is m.Invoke and self._is_circle(contact, call) for _, contact, call, _, _ in self.calls):
            self._refuse_circles()
        if any(callback is not None for *_, callback, _ in self.calls):
            callbacks: deque[Any] = deque()
            inbox, self.calls = self.calls, deque()
            for entry in inbox:
                _, contact, call, callback, _ = entry
                if type(call) is m.Invoke and self._is_urgent(contact, call, callback):
                    callbacks.append(entry[:4])
                else:
                    self.calls.append(entry)
            self._run_callbacks(callbacks)

    def _run_callbacks(self, callbacks: deque[Any]) -> None:
        left = self._serving.plain.enter()
        try:
            while callbacks:
                link, contact, call, function = callbacks.popleft()
                self._serving.ends.attend(link, call, self._start_call, link, contact, call, function)
        finally:
            self._serving.plain.leave(left)

    def _refuse_circles(self) -> None:
        inbox, self.calls = self.calls, deque()
        for entry in inbox:
            link, contact, call, callback, _ = entry
            if type(call) is m.Invoke and callback is None and self._is_circle(contact, call):
                self._refuse(link, call, self._deadlock(contact, call))
            else:
                self.calls.append(entry)

    def _is_urgent(self, contact: Contact, call: m.Invoke, callback: Function | None) -> bool:
        """Return True if a call runs although the loop is blocked: a callback.

        Calls of an object of a service wait like those of exports, except those that the blocked loop waits for.
        """
        if not isinstance(callback, HostedService):
            return callback is not None
        return bool(self._blocked_for) and self._is_circle(contact, call)

    def _is_circle(self, contact: Contact, call: m.Invoke) -> bool:
        return limits.is_circle(call, contact.uid, self._context.uid, self._blocked_for)

    def _deadlock(self, contact: Contact, call: m.Invoke) -> Exception:
        return limits.deadlock(call, contact, self._context, self._name_of)

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._context.reactor.loop.call_soon(self._handle_turn)
            self._is_scheduled = True
            self._serving.ends.watch()

    def look_after(self) -> None:
        """Begin work that was forgotten; once a second."""
        if self.calls:
            self._context.reactor.loop.call_soon(self._handle_turn)

    def _handle_turn(self) -> None:
        self._is_scheduled = False
        self.work()


def _freed(*args: Any, **kwargs: Any) -> None:
    raise Unavailable("this callback or object no longer exists: its last holder released it.")


def _is_call(entry: ArrivedWork, link: Link, number: int) -> bool:
    return entry[0] is link and isinstance(entry[2], m.Invoke) and entry[2].id == number
