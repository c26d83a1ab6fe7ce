"""Calls and messages that wait in this process for a worker, and the workers that must know of them.

`core/dispatch`, `core/routes` and `core/calls` decide which worker gets a call, what waits until a worker invites it,
and what happens to a call whose worker ended; this module acts. Any thread may add or remove waiting calls. An error on
the way ends the call that it belongs to, and no other.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from functools import partial
from threading import Lock
from time import monotonic
from typing import Any

from mob.core.accounts import Loss
from mob.core.dispatch import AskForPlace, Queued, Route
from mob.core.lanes import MESSAGE
from mob.core.routing import Place, place_of
from mob.core.states import CallState
from mob.errors import Busy, CallError, Lost, Unavailable
from mob.peer.calls.losses import Losses
from mob.peer.context import Context
from mob.peer.links.contact import Body, Contact, Unanswered
from mob.peer.links.contacts import ENDED, Contacts
from mob.peer.links.control import Control
from mob.peer.references import portable
from mob.peer.results.call import Call
from mob.rim.board import mark_of
from mob.wire import messages as m
from mob.wire.references import Passage

OVERHEAD = 512
"""Bytes that a waiting call takes besides its arguments."""
ATTEMPTS = 3
"""Maximum number of attempts to end a call that was taken out of its line, if ending it raises."""


class ParkedCall(Queued):
    """A call or message that waits for a worker."""

    __slots__ = ("body", "call", "key", "label", "passage")

    def __init__(
        self,
        call: Call[Any] | None,
        label: str,
        body: Body,
        passage: Passage,
        wait: float,
        place: Place | None = None,
        key: bytes = b"",
        blockers: Sequence[int] = (),
        can_leave: bool = True,
    ) -> None:
        size = OVERHEAD + len(body[1]) + sum(map(len, body[2]))
        super().__init__(MESSAGE if call is None else str(body[0]), size, wait, place, blockers, can_leave)
        self.call: Call[Any] | None = call
        self.label: str = label
        """The name for people: `back.foo`, or "a message to" a role."""
        self.body: Body = body
        self.passage: Passage = passage
        self.key: bytes = key
        """The key of a call that waits for the worker in a certain place."""

    def part(self) -> None:
        """Detach the call, which no longer waits, from this object.

        The two would form a cycle, and an error that no one asks for is reported when the last reference to its call
        goes.
        """
        if self.call is not None:
            self.call.parked = None


class Parking:
    """Calls and messages that wait for workers."""

    def __init__(
        self,
        context: Context,
        contacts: Contacts,
        control: Control,
        send: Callable[[ParkedCall, Contact], bool],
        let_go: Callable[[Passage], None],
        fail: Callable[[Unanswered, CallError], None],
        note_lost: Callable[[str, CallError], None],
        now: Callable[[], float] = monotonic,
        luck: Callable[[], float] = random.random,
    ) -> None:
        self._context = context
        self._contacts = contacts
        self._control = control
        self._routes = contacts.routes
        self._send = send  # returns False if it ended meanwhile
        self._let_go = let_go
        self._fail = fail
        self._note_lost = note_lost
        self._now = now
        self.losses: Losses = Losses(context, fail, self._wait_again, now, luck)
        self.when_parked: Callable[[], None] | None = None
        """Called on the loop's thread when a call begins to wait for a worker; a client reports its backlog then."""
        self._timer_for: float | None = None
        self._timer = 0  # its number
        self._waiting = Lock()
        """Held by any thread that changes what waits, until the workers concerned have been notified.

        Otherwise the message of one thread could overtake that of another.
        """

    def __repr__(self) -> str:
        return f"<Parking, {self._routes.waiting} calls wait for a worker>"

    # ---------------------------------------------------------------------------------------------- waiting

    def wait(self, parked: ParkedCall, route: Route[Contact], is_new: bool = True) -> None:
        """Make a call or a message wait for a worker with room for it; raise `Busy` if too much waits already."""
        error = self.why_none(parked.label, route.role)
        if error is not None:
            self._give_up(parked, error)
            return
        if is_new and self._routes.is_full(parked):
            raise self._refuse(parked)
        contact = route.any_of(parked.blockers, parked.place)
        if contact is not None:
            self._send(parked, contact)
            return
        if parked.call is not None:
            parked.call.parked = parked
        with self._waiting:
            self._ask(route.park(parked, self._now()))
            is_first = len(parked.line.waiting) == 1
        if parked.until != math.inf:
            self._context.reactor.call(self._look_at_the_clock)
        if is_first and self.when_parked is not None:
            self._context.reactor.call(self.when_parked)
        if parked.call is not None and parked.call.state is not CallState.WAITING:  # cancelled meanwhile
            self.forget(parked.call)
        if self._control.is_closed:  # checked again: the app may have ended while this was under way on another thread
            self.fail_all(self._control.ended)

    def _wait_again(self, call: Call[Any], seconds: float) -> None:
        """Make a call whose worker ended wait for another worker of its role."""
        request, passage = call.request, call.passage
        body = (request.target, request.args, request.kwargs, request.times, request.chain, request.trace)
        can_leave = not (passage and portable.stays_here(passage))
        blockers = self.blockers(body)
        parked = ParkedCall(call, call.label, body, passage, seconds, blockers=blockers, can_leave=can_leave)
        self.wait(parked, self._contacts.route(call.role), is_new=False)

    def blockers(self, body: Body) -> tuple[int, ...]:
        """Return the processes that may be waiting for the call: this one, and the callers in its chain."""
        return self._context.uid, *body[4][::2]

    def _refuse(self, parked: ParkedCall) -> Busy:
        label, routes = parked.label, self._routes
        error = Busy(
            f"{label}: {routes.waiting:,} calls with {routes.size():,} bytes wait in this process for workers, and "
            f"the limit is {routes.backlog:,} (backlog of the app). Wait for some of them before you make more: use "
            f"`.map(items)`, or `await` or `.result()` from time to time."
        )
        if parked.call is None:
            self._let_go(parked.passage)
        else:
            parked.call.cancel()
            self._note_lost(label, error)
        return error

    def _change(self, change: Callable[[], Sequence[AskForPlace[Contact]]]) -> None:
        """Change what waits, or for which worker, and notify the workers concerned."""
        try:
            with self._waiting:
                self._ask(change())
        except BaseException:
            self._context.reactor.call(self.ask_again)
            raise

    def _ask(self, asks: Sequence[AskForPlace[Contact]]) -> None:
        for contact, line, name in asks:
            contact.post(m.Waiting(line, name))

    def ask_again(self) -> None:
        """Notify all workers again of all that waits, because sending calls or taking them out of their lines raised.

        It does no harm to notify a worker twice.
        """
        with self._waiting:
            for route in self._routes:  # even where nothing waits now, so that later calls are announced
                self._ask(route.ask_again())

    def _look_at_the_clock(self) -> None:
        until = self._routes.wake_at()
        if until != math.inf and (self._timer_for is None or until < self._timer_for):
            reactor = self._context.reactor
            if self._timer_for is not None:
                reactor.cancel(self._timer)
            self._timer_for, self._timer = until, reactor.call_at(until, self._handle_timer)

    def _handle_timer(self) -> None:
        self._timer_for = None
        now = self._now()
        for route in self._routes:
            self._take_each(route, self._give_up_late, lambda item: item.until <= now)
        self._look_at_the_clock()

    def _give_up_late(self, parked: ParkedCall) -> None:
        role = parked.line.route.role
        self._give_up(parked, self.too_late(parked.label, role))

    def _take_each(
        self,
        route: Route[Contact],
        act: Callable[[ParkedCall], object],
        is_taken: Callable[[Queued], bool] = lambda _: True,
    ) -> None:
        """Take the selected calls out of their lines and act on each; an error then ends only its own call."""
        for parked in self._take(route, is_taken):
            self._attend(parked, act)

    def _attend(self, parked: ParkedCall, act: Callable[[ParkedCall], object]) -> bool:
        """Act on a call that was taken out of its line, and return True if it was sent; an error ends the call."""
        try:
            return bool(act(parked))
        except BaseException as error:  # noqa: BLE001  becomes the outcome
            failed = Lost(
                f"{parked.label} was lost: sending it raised {type(error).__name__}: {error}", executed="maybe"
            )
            failed.__cause__ = error
            for _ in range(ATTEMPTS):
                try:
                    if (call := parked.call) is not None and call.state is CallState.SENT:
                        call.contact.forget_call(call)
                    self._give_up(parked, failed)
                    self.ask_again()
                    break
                except BaseException:  # noqa: BLE001  tried again
                    continue
            return False

    def _take(self, route: Route[Contact], is_taken: Callable[[Queued], bool] = lambda _: True) -> list[ParkedCall]:
        """Take the selected calls out of their lines."""
        taken: list[Any] = []
        if route.waiting:
            with self._waiting:
                try:
                    self._ask(route.take(is_taken, taken))
                except BaseException:  # noqa: BLE001  what was taken, or may have been, goes on
                    self._ask(route.ask_again())
        return taken

    def forget(self, call: Call[Any]) -> None:
        """Remove a waiting call that has ended; on any thread."""
        parked = call.parked
        if parked is not None:
            route, line = parked.line.route, parked.line
            self._change(lambda: route.asks_after(line.number) if route.forget(parked) else ())

    def handle_invite(self, contact: Contact, invite: m.Invite) -> None:
        """Handle the invitation of a worker with room: send it what waits, in order, or decline."""
        items: list[Any] = []
        try:
            self._accept(contact, invite, items)
        except BaseException:
            for parked in items:
                if parked.call is None or parked.call.state is CallState.WAITING:
                    self._attend(parked, lambda parked: self._send(parked, contact))
            self.ask_again()
            raise

    def _accept(self, contact: Contact, invite: m.Invite, items: list[Any]) -> None:
        """Accept an invitation; `items` receives what is taken out of its line."""
        route = self._routes.of(contact.member.role)
        with self._waiting:
            if not contact.is_choked:
                route.accept(contact, invite.line, invite.count, items)
            if not items:
                contact.post(m.Declined(invite.line))
                # For a choked link, the message goes to the end of its send queue.
                self._ask(route.end_invitation(contact, invite.line, has_sent=False))
                return
        if contact.is_distant and invite.cost and self._context.board is not None:
            self._context.board.learn(mark_of(f"{contact.member.role}.{items[0].name}"), invite.cost / 1e6)
        sent = [self._attend(parked, lambda parked: self._send(parked, contact)) for parked in items]
        with self._waiting:
            if not any(sent):
                contact.post(m.Declined(invite.line))
            self._ask(route.end_invitation(contact, invite.line, any(sent)))

    # ----------------------------------------------------------------------------------- what happens to workers

    def handle_workers(self, role: str, near: Sequence[Contact], far: Sequence[Contact]) -> None:
        """Handle a change of the workers of a role that may get calls."""
        route = self._routes.of(role)
        with self._waiting:
            route.places = sum(count for _, count in self._context.roster.places(role))
        self._change(lambda: route.put(near, far, self._now()))
        if not route.waiting:
            return
        if (first := route.first_for_only_one()) is not None:
            self._take_each(route, lambda parked: self._send(parked, route.targets[0]), lambda item: item is first)
        self._take_each(route, lambda parked: self._send_blocked(parked, route), route.is_blocked)
        self._look_at_the_clock()

    def _send_blocked(self, parked: ParkedCall, route: Route[Contact]) -> None:
        contact = route.any_of(parked.blockers, parked.place)
        if contact is not None:
            self._send(parked, contact)

    def handle_draining(self, contact: Contact) -> None:
        """Send waiting calls to a worker that drains, if there is no other one, as when the app stops.

        It may be the last one.
        """
        route = self._routes.get(contact.member.role)
        if route is not None and route.waiting and not route.targets and contact.link is not None:
            places = (None, contact.place)
            self._take_each(route, lambda parked: self._send(parked, contact), lambda item: item.place in places)

    def handle_recalled(self, contact: Contact, losses: Sequence[Loss]) -> None:
        """Send calls elsewhere that wait for the link to a worker that now drains."""
        self.losses.handle(contact, losses, "is shutting down", is_known=True)

    def handle_lost(self, contact: Contact, losses: Sequence[Loss], why: str, is_known: bool) -> None:
        """Handle the end of a worker, or of the link to it; if it lives, it no longer knows what waits for it."""
        try:
            if (route := self._routes.get(contact.member.role)) is not None:  # what comes later must be announced again
                self._change(lambda: route.replace_worker(contact))
        finally:
            self.losses.handle(contact, losses, why, is_known)

    def leave(self) -> None:
        """Send what waits to workers at the shutdown of this process, whether they have room or not.

        The calls are executed although no one waits for their answers.
        """
        for route in self._routes:
            self._take_each(route, self._send_at_last)
        for contact in self._contacts:
            self.losses.end_orphans(contact, ENDED)
            contact.say_farewell()

    def _send_at_last(self, parked: ParkedCall) -> None:
        route = parked.line.route
        contact = route.least(parked.place)
        if contact is not None:
            self._send(parked, contact)
        else:
            why = f"no worker became ready before {self._context.name} ended."
            self._give_up(parked, Unavailable(f"{parked.label}: {why}"))

    def handle_resized(self) -> None:
        """Handle a change of places: what waits for the place of a key waits for the new one."""
        for route in self._routes:
            places = self._context.roster.places(route.role) if route.role in self._context.roster.roles else []
            route.places = sum(count for _, count in places)
            if route.waiting:
                again = partial(route.place_again, partial(_place_of, places))
                self._change(lambda again=again: again(self._now()))
        self._look_at_the_clock()

    def handle_over(self, role: str) -> None:
        """Fail what waits for a role for which no worker will come any more, unless the role is reloaded."""
        route = self._routes.get(role)
        if route is not None and not route.targets:
            self._take_each(route, lambda parked: self._give_up(parked, self._over(parked.label, role)))

    def why_none(self, label: str, role: str) -> Unavailable | None:
        """Return the reason why no worker will come for a waiting call; None while there is one or one may come."""
        roster = self._context.roster
        if self._control.is_closed:  # no Kingpin is left to report it
            return self._control.ended(label)
        if self._contacts.route(role).targets:
            return None
        info = roster.roles.get(role)
        if info is None:  # a client that made its proxy before the app was restarted
            return Unavailable(
                f"{label}: the app {self._context.app!r} was restarted and no longer has a role {role!r}."
            )
        return self._over(label, role) if roster.is_over(role) or roster.is_out_of_reach(role) else None

    def too_late(self, label: str, role: str) -> Unavailable:
        """Return the error for a call that waited for a worker for as long as it may."""
        return Unavailable(f"{label}: no worker of {role!r} became ready in time; {self._why(role)}")

    def _over(self, label: str, role: str) -> Unavailable:
        roster = self._context.roster
        if roster.is_out_of_reach(role):
            return Unavailable(f"{label}: {role!r} runs on other machines, which cannot be reached now: {roster.cut}")
        if why := roster.roles[role].ended:
            return Unavailable(f"{label}: no worker of {role!r} is left: {why}")
        return Unavailable(f"{label}: the role {role!r} was given up because it failed too often; {self._why(role)}")

    def fail_all(self, error: Callable[[str], CallError]) -> None:
        """Fail all that waits, because the app ended."""
        for route in self._routes:
            self._take_each(route, lambda parked: self._give_up(parked, error(parked.label)))

    def _give_up(self, parked: ParkedCall, error: CallError) -> None:
        if parked.call is not None:
            parked.part()
            self._fail(parked.call, error)
        else:
            self._let_go(parked.passage)
            self._context.complaints.tell(parked.label, "%s", error, error=error, traceback=False)

    def _why(self, role: str) -> str:
        info = self._context.roster.roles.get(role)
        return f"it is failing: {info.failing}" if info and info.failing else "see `mob ps`."


def _place_of(places: Sequence[tuple[str, int]], item: Queued) -> Place:
    assert isinstance(item, ParkedCall)
    return place_of(item.key, places)
