"""Another member as this process knows it: its link, its unanswered calls, and what waits for the link.

A contact exists as soon as the roster names the member; its link comes when the Kingpin introduces the two. Messages
that are sent before that wait in the contact. When the member ends or its link breaks, the contact returns the calls
that are lost with it; `calls/losses` decides what happens to them.
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
"""Maximum number of bytes that wait for the link to a member: messages, and all that goes to another machine."""

Body = tuple[str | int, Raw, tuple[Raw, ...], tuple[float, float] | None, tuple[int, ...], str]
"""A call without its number: target, args, kwargs, times, chain, trace."""
Unanswered = Call[Any] | Receiver


class Introducer(Protocol):
    """Ensures that contacts get their links."""

    def want(self, contact: Contact) -> None:
        """Request a link to a member to which something must be sent."""
        ...

    def handle_said_early(self) -> None:
        """Note that something waits for a link now."""
        ...


class Contact(Account[Unanswered]):
    """Another member, or this process itself."""

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
        """The name of its machine; empty without a cluster."""
        self.link: Link | None = None
        self.begun: BegunRow | None = None
        """The row in which this process notes which calls of the member it has begun; None before the first."""
        self.orphans: deque[tuple[Unanswered, Executed | None]] = deque()
        """Calls that were lost with its link, and what is known of their execution, until the Kingpin reports its end.

        None means that they may go to other workers if they were not begun there.
        """
        self.heard: int = 0
        """Number of messages received from it."""
        self._early: list[tuple[Any, Sequence[Descriptor]]] = []  # sent before the link existed
        self._early_bytes = 0  # of the messages among them
        self._meeting = Lock()  # held while a link comes or goes, so that nothing is queued for a link that exists
        self.farewell_said: bool = False
        self.heard_farewell: bool = False
        """True if it announced that it sends no new calls."""
        self.has_left: bool = False
        """True if it announced its graceful shutdown."""
        self.has_answered_all: bool = False
        """True if it announced that the calls it has not answered were not begun."""
        self.is_broken: bool = False
        """True if the link ended and a new one does not exist yet; it gets no calls meanwhile."""
        self.gone: str = ""
        """The reason why the member ended; empty while it runs."""
        self.killed_for: m.Overrun | None = None
        """The call that ran too long, because of which it was killed."""

    def __repr__(self) -> str:
        return f"<Contact {self.name} {self.member.state}, {len(self.pending)} calls outstanding>"

    is_choked = False
    """True if it reads so slowly that nothing more should be sent."""

    @property
    def name(self) -> str:
        """Its name for people: `back.2 (pid 4242)`."""
        member = self.member
        if not member.pid and not member.role:
            return "a client"  # the Kingpin has not said yet which one
        where = f"pid {member.pid} on {self.node}" if self.is_distant else f"pid {member.pid}"
        return f"{place_name(member.role, member.index)} ({where})" if member.role else f"client ({where})"

    @property
    def address(self) -> int | str:
        """The key by which `mob.pid` finds it: its pid, on another machine with the machine's name before it."""
        return f"{self.node}:{self.member.pid}" if self.is_distant else self.member.pid

    @property
    def place(self) -> Place:
        """Its place among those that keys belong to."""
        return self.node, self.member.index

    def has_room(self) -> bool:
        """Return True if its send queue is not full; from any thread."""
        if self._unsent_bytes() <= UNSENT_LIMIT:
            return True
        reactor = self._context.reactor
        if reactor.is_mine:
            reactor.poll()  # the loop is blocked, perhaps since all this was sent
        return self._unsent_bytes() <= UNSENT_LIMIT

    def _unsent_bytes(self) -> int:
        link = self.link
        return self._early_bytes if link is None else link.unsent_bytes

    def send_call(self, call: Call[Any], body: Body, replaced: Body | None = None) -> None:
        """Send a call; the answer settles it.

        The sender then checks `gone`: if the member ended meanwhile, the call is lost. `replaced` is sent to this
        member instead of `body`, which another member would get.
        """
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
        """Send a message to the member, now or when the link exists."""
        link = self.link
        if link is not None:
            link.post(message)
        else:
            self._post_early(message, ())

    def post_lazily(self, message: Any) -> None:
        """Send a message that can wait a millisecond, so that it may travel with another one."""
        if self.link is not None:
            self.link.post_lazily(message)
        else:
            self.post(message)

    def post_with(self, message: Any, descriptors: Sequence[Descriptor]) -> None:
        """Send a message that takes descriptors, now or when the link exists."""
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
        """Take the link that the Kingpin made; send what waited before other threads see the link."""
        with self._meeting:
            for message, descriptors in self._early:
                _post(link, message, descriptors)
            self._early.clear()
            self._early_bytes = 0
            self.link = link
        self.is_broken = self.has_left = self.has_answered_all = False

    def forget_call(self, call: Unanswered) -> None:
        """Cancel a call that its caller gave up."""
        number = call.request.id
        if self.take(number) is not None:
            self.post(m.Cancel(number))

    @property
    def has_early(self) -> bool:
        """True if something waits for a link to the member."""
        return bool(self._early)

    def recall_early(self) -> list[Loss]:
        """Return the calls that wait for a link to a draining member, because they may go to others.

        The member does not wait for processes to which it has no link yet.
        """
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
        """Drop the link in a forked child; what the child sends goes nowhere."""
        self.link, self._meeting = None, Lock()
        self.clear()

    def say_farewell(self) -> None:
        """Tell a draining member that it may exit once it has answered everything sent before this."""
        if self.link is not None and not self.farewell_said:
            self.farewell_said = True
            self.link.post(m.Farewell())

    def may_have_begun(self, number: int) -> bool:
        """Return False if the member is known not to have begun a call from here.

        That is unknown while it lives, and for members on other machines and clients.
        """
        board, member = self._context.board, self.member
        if board is None or not self.gone or not member.role or not member.pid or self.is_distant:
            return True
        return board.begun.may_have_begun(self.uid, self._context.uid, number)

    def overran(self, number: int, mark: int) -> m.Overrun | None:
        """Return the limit that a call from here overran, if the member was killed for it; `mark` is its export's."""
        found = self.killed_for
        if found is None:
            return None
        is_it = (found.caller, found.number) == (self._context.uid, number) if found.caller else found.mark == mark
        return found if is_it else None

    def lose(self) -> list[Loss]:
        """Return the calls that the member did not answer, because it ended or the link to it broke.

        Each stays unanswered until it is taken, so that none is forgotten if something raises.
        """
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
    """A member on another machine.

    Gateways carry its link: it may break while the member lives, and then a new one is made when there is something to
    send.
    """

    __slots__ = ()

    @property
    def is_choked(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """True if so much waits for its link that nothing more should be sent."""
        return self._unsent_bytes() > UNSENT_LIMIT
