"""Another member as this process knows it: its link, what is said before that is there, and the calls it has not
answered.

A contact is there as soon as the roster names the member; its link comes when the Kingpin introduces the two. What is
said before that waits in the contact. When the member goes, or its link breaks, the contact returns the calls that are
lost with it; what becomes of them is decided elsewhere (`calls/losses`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any, Protocol

from msgspec import Raw

from mob.core.accounts import Account, DistantAccount, Loss
from mob.core.calls import SENT
from mob.core.lanes import Lane
from mob.core.routing import Place
from mob.errors import Executed
from mob.peer.context import Context
from mob.peer.results.call import Call
from mob.peer.results.streams import Receiver
from mob.plan import place_name
from mob.rim.begun import BegunRow
from mob.rim.link import Descriptor, Link
from mob.wire import messages as m

UNSENT_LIMIT = 64 * 1024 * 1024
"""Bytes that may wait for the link to a member: of messages, and of all that goes to another machine."""

Body = tuple[str | int, Raw, tuple[Raw, ...], tuple[float, float] | None, tuple[int, ...], str]
"""All of a call but its number: target, args, kwargs, times, chain, trace."""
Unanswered = Call[Any] | Receiver


class Introducer(Protocol):
    """What sees to it that a contact gets its link."""

    def want(self, contact: Contact) -> None:
        """Something is to be said to a member to which there is no link."""
        ...

    def handle_said_early(self) -> None:
        """Something waits for a link now."""
        ...


class Contact(Account[Unanswered]):
    """Another member (or this one itself)."""

    __slots__ = (
        "_context",
        "_early",
        "_early_bytes",
        "_introducer",
        "_meeting",
        "begun",
        "farewell_said",
        "gone",
        "has_answered_all",
        "has_left",
        "heard",
        "heard_farewell",
        "is_broken",
        "killed_for",
        "link",
        "member",
        "node",
        "orphans",
    )

    def __init__(self, context: Context, member: m.Member, lanes: Mapping[str, Lane], introducer: Introducer) -> None:
        super().__init__(member.uid, lanes, context)
        self._context = context
        self._introducer = introducer
        self.member: m.Member = member
        self.node: str = context.roster.node_name(member.uid)
        """The name of its machine; nothing if there is no cluster."""
        self.link: Link | None = None
        self.begun: BegunRow | None = None
        """Where this process notes which calls of the member it has begun; None before the first."""
        self.orphans: deque[tuple[Unanswered, Executed | None]] = deque()
        """Calls that were lost with its link, and what is known of their execution, until the Kingpin says how it died.
        None: they may go to other workers if it was not begun there."""
        self.heard: int = 0
        """Messages that have come from there."""
        self._early: list[tuple[Any, Sequence[Descriptor]]] = []  # said before the link was there
        self._early_bytes = 0  # of the messages among it
        self._meeting = Lock()  # held where a link comes or goes, lest something early is said too late
        self.farewell_said: bool = False
        self.heard_farewell: bool = False
        """Whether it has said that no new call of its follows."""
        self.has_left: bool = False
        """Whether it has said that it ends in order."""
        self.has_answered_all: bool = False
        """Whether it has said that what it has not answered was not begun."""
        self.is_broken: bool = False
        """Whether the link has ended and another is not there yet: it gets no calls meanwhile."""
        self.gone: str = ""
        """Why the member is gone, once it is."""
        self.killed_for: m.Overrun | None = None
        """The call because of which it was killed, which took too long."""

    def __repr__(self) -> str:
        return f"<Contact {self.name} {self.member.state}, {len(self.pending)} calls outstanding>"

    is_choked = False
    """Whether it reads so slowly that nothing more should be sent."""

    @property
    def name(self) -> str:
        """As people read it: `back.2 (pid 4242)`."""
        member = self.member
        if not member.pid and not member.role:
            return "a client"  # the Kingpin has not said yet which
        where = f"pid {member.pid} on {self.node}" if self.is_distant else f"pid {member.pid}"
        return f"{place_name(member.role, member.index)} ({where})" if member.role else f"client ({where})"

    @property
    def address(self) -> int | str:
        """What `mob.pid` finds it by: its pid; on another machine the name of that as well."""
        return f"{self.node}:{self.member.pid}" if self.is_distant else self.member.pid

    @property
    def place(self) -> Place:
        """Its place among those that keys belong to."""
        return self.node, self.member.index

    def has_room(self) -> bool:
        """Whether less waits to be sent there than may. From any thread."""
        if self._unsent_bytes() <= UNSENT_LIMIT:
            return True
        reactor = self._context.reactor
        if reactor.is_mine:
            reactor.poll()  # the loop stands still, perhaps for as long as all this has been said
        return self._unsent_bytes() <= UNSENT_LIMIT

    def _unsent_bytes(self) -> int:
        link = self.link
        return self._early_bytes if link is None else link.unsent_bytes

    def send_call(self, call: Call[Any], body: Body, replaced: Body | None = None) -> None:
        """Send a call; the answer settles it. The sender looks at `gone` then: if the member went meanwhile, the call
        is lost. `replaced`: what this member gets instead; another member would get `body`."""
        number = next(self._context.call_numbers)
        request = m.Invoke(number, *body)
        call.contact = self
        call.request = request
        call.state = SENT
        self.add(number, call, body[0])
        if replaced is not None:
            request = m.Invoke(number, *replaced)
        link = self.link
        if link is not None:
            link.post(request)
        else:
            self.post(request)

    def post(self, message: Any) -> None:
        """Says something to the member, now or when the link is there."""
        link = self.link
        if link is not None:
            link.post(message)
        else:
            self._post_early(message, ())

    def post_lazily(self, message: Any) -> None:
        """Says something to the member that has a millisecond's time: perhaps it goes along with something else."""
        if self.link is not None:
            self.link.post_lazily(message)
        else:
            self.post(message)

    def post_with(self, message: Any, descriptors: Sequence[Descriptor]) -> None:
        """Sends the member a message that takes descriptors, now or when the link is there."""
        link = self.link
        if link is not None:
            link.post_with(message, descriptors)
        else:
            self._post_early(message, descriptors)

    def _post_early(self, message: Any, descriptors: Sequence[Descriptor]) -> None:
        self._introducer.want(self)
        with self._meeting:
            if self.link is None:
                self._early.append((message, descriptors))
                if isinstance(message, m.Message):
                    self._early_bytes += len(message.body)
            else:  # it came meanwhile, on the loop's thread
                _post(self.link, message, descriptors)
                return
        self._introducer.handle_said_early()

    def attach(self, link: Link) -> None:
        """The Kingpin has introduced us. What was said early goes first: others see the link only after that."""
        with self._meeting:
            for message, descriptors in self._early:
                _post(link, message, descriptors)
            self._early.clear()
            self._early_bytes = 0
            self.link = link
        self.is_broken = self.has_left = self.has_answered_all = False

    def forget_call(self, call: Unanswered) -> None:
        """The caller has given a call up."""
        number = call.request.id
        if self.take(number) is not None:
            self.post(m.Cancel(number))

    @property
    def has_early(self) -> bool:
        """Whether something waits for a link to the member."""
        return bool(self._early)

    def recall_early(self) -> list[Loss]:
        """The member drains, and no link to it has come yet: return the calls that wait for one and may go to others.
        It waits for nobody whom it has not met."""
        with self._meeting:
            early = [] if self.link is not None else [each.id for each, _ in self._early if isinstance(each, m.Invoke)]
            calls = [(number, self.pending.get(number)) for number in early]
            recalled = dict.fromkeys(
                number for number, call in calls if call is not None and not isinstance(call, Receiver) and call.role
            )
            self._early = [
                each for each in self._early if not (isinstance(each[0], m.Invoke) and each[0].id in recalled)
            ]
        return [Loss(number, was_sent=False) for number in recalled]

    def abandon(self) -> None:
        """Have no link any more, in the child of a fork. What the child says goes nowhere."""
        self.link, self._meeting = None, Lock()
        self.clear()

    def say_farewell(self) -> None:
        """The member drains: it may go as soon as it has answered what was sent before this."""
        if self.link is not None and not self.farewell_said:
            self.farewell_said = True
            self.link.post(m.Farewell())

    def may_have_begun(self, number: int) -> bool:
        """Return False if the member is known not to have begun a call from here. Nobody knows as long as it lives, and
        of a member on another machine or a client."""
        board, member = self._context.board, self.member
        if board is None or not self.gone or not member.role or not member.pid or self.is_distant:
            return True
        return board.begun.may_have_begun(self.uid, self._context.uid, number)

    def overran(self, number: int, mark: int) -> m.Overrun | None:
        """Return the limit that a call from here has overrun, if the member was killed because of that. `mark`: of its
        export."""
        found = self.killed_for
        if found is None:
            return None
        is_it = (found.caller, found.number) == (self._context.uid, number) if found.caller else found.mark == mark
        return found if is_it else None

    def lose(self) -> list[Loss]:
        """The member is gone, or the link to it has broken: return the calls that it has not answered. Each stays among
        them until it is taken, so that none is forgotten whatever is raised."""
        with self._meeting:
            link, self.link = self.link, None
            never_sent = {message.id for message, _ in self._early if isinstance(message, m.Invoke)}
            self._early.clear()
            self._early_bytes = 0
            numbers = list(self.pending)  # not what other threads add from now on: that waits for the next link
        if link is not None:
            never_sent |= {message.id for message in link.unsent() if isinstance(message, m.Invoke)}
        return [Loss(number, not self.has_answered_all and number not in never_sent) for number in numbers]


def _post(link: Link, message: Any, descriptors: Sequence[Descriptor]) -> None:
    if descriptors:
        link.post_with(message, descriptors)
    else:
        link.post(message)


class DistantContact(DistantAccount[Unanswered], Contact):
    """A member on another machine. Its link is carried by gateways: it may break while the member lives, and then
    another is made when there is something to say."""

    __slots__ = ()

    @property
    def is_choked(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether so much waits for its link that nothing more should be sent."""
        return self._unsent_bytes() > UNSENT_LIMIT
