"""The control link: messages of the Kingpin to this process, and requests of this process to the Kingpin."""

from __future__ import annotations

import errno
import itertools
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from mob.core.roster import Roster, is_ready
from mob.errors import AddressHeld, AppNotRunning, MobError, Unavailable
from mob.peer.links.changes import Changes
from mob.peer.links.contacts import Contacts
from mob.peer.results.call import Call
from mob.peer.results.checking import checked
from mob.peer.results.maker import CallQueue, Kept, Maker
from mob.rim import barriers
from mob.rim.board import Board
from mob.rim.crashes import read
from mob.rim.link import Descriptor, Link
from mob.wire import messages as m

ROSTER = (m.Welcome, m.MemberIs, m.MemberGone, m.RoleIs, m.NodeIs, m.NodeGone, m.Cut)
"""Messages that change the roster."""
MEMBERS = (m.MemberIs, m.MemberGone)


class RoleQueues(CallQueue, Protocol):
    """The queues of calls that wait for workers, as far as messages of the Kingpin concern them."""

    def handle_resized(self) -> None:
        """Handle a change of places."""
        ...

    def handle_over(self, role: str) -> None:
        """Handle that no worker of a role will come any more."""
        ...

    def fail_all(self, error: Callable[[str], Unavailable]) -> None:
        """Fail all that waits, because nothing will become ready any more."""
        ...


class Owned(Kept, Protocol):
    """What is kept for others, and what others keep for this process."""

    def owner_gone(self, uid: int) -> None:
        """Handle the end of a member."""
        ...


class ControlledProcess(Maker, Protocol):
    """The process that receives these messages."""

    @property
    def contacts(self) -> Contacts:
        """The other members."""
        ...

    @property
    def parking(self) -> RoleQueues:
        """The calls that wait for workers."""
        ...

    @property
    def references(self) -> Owned:
        """What is kept for others, and what others keep."""
        ...

    def handle_meet(self, uid: int, sock: socket.socket) -> None:
        """Take a link to a member."""
        ...

    def handle_quarantined(self, exports: dict[str, int]) -> None:
        """Note the exports of this role that are in quarantine."""
        ...

    def see(self, member: m.Member) -> None:
        """Note a member, which may have the token of a lease."""
        ...

    def fire(self, event: str, *args: Any) -> None:
        """Run the handlers of an event."""
        ...


class Control:
    """This end of the control link."""

    def __init__(self, peer: ControlledProcess, sock: socket.socket, limit: int) -> None:
        self._peer = peer
        self._context = peer.context
        self._limit = limit
        self._link = self._link_on(sock)
        self._requests: dict[int, Call[Any]] = {}
        self._followers: dict[int, Callable[[m.Lines], None]] = {}
        self._reaching: dict[int, list[Call[socket.socket]]] = {}  # requested links to Kingpins elsewhere
        self.ending = ""
        """The text that errors give for the end of this link, unless the app ended."""
        self._ids = itertools.count(1)
        self.changes: Changes = Changes()
        """Changes of members, roles and machines that the Kingpin reports, as something to wait for."""
        self._hears_crashes = False
        self.welcomed: bool = False
        self.refused: str = ""
        self.come_back: Callable[[], None] = _nothing_to_do
        """Lets a client rejoin the app if that was restarted; called when its Kingpin has ended."""
        self.on_stop: Callable[[float], None] = _nothing_to_stop
        self.on_promoted: Callable[[int, int], None] = _nothing_to_fill
        """Called when a spare got a place, with its index and the number of processes that have had it."""
        self.on_gone: Callable[[], None] = _nothing_to_do
        self.on_hand_over: Callable[[float], None] = _nothing_to_stop
        """Called when the Kingpin asks for what this process leaves to its successor, with the seconds for that."""
        self.on_go_on: Callable[[], None] = _nothing_to_do
        """Called when no successor takes its place after all."""
        self.may_hand_over: bool = True
        """True if another process may take its place when this one ends."""
        self.on_cluster: Callable[[m.Down, list[int]], None] = _nothing_to_carry
        """Called with the Kingpin's messages to a gateway, and their descriptors."""
        self.on_timer: Callable[[m.BeginRun | m.RunWaits | m.NoRun], None] = _no_timers
        """Called when a timer of this process is to run, once there is room for it."""

    def __repr__(self) -> str:
        return f"<Control {self._link}>"

    @property
    def is_closed(self) -> bool:
        """True if the link to the Kingpin has ended."""
        return self._link.is_closed

    def _link_on(self, sock: socket.socket) -> Link:
        return Link(
            sock,
            self._context.reactor,
            m.decode_down,
            self._handle,
            self._handle_closed,
            self._limit,
            "the Kingpin",
        )

    def start(self) -> None:
        """Begin to listen to the Kingpin, and introduce this process if it is a client."""
        self._link.start()
        if not self._context.role:
            self.post(m.Hello(m.PROTOCOL, os.getpid()))
            if self._hears_crashes:
                self.post(m.HearCrashes())

    def hear_crashes(self) -> None:
        """Subscribe to crashes of workers; from any thread."""
        self._hears_crashes = True
        self.post(m.HearCrashes())

    def rejoin(self, sock: socket.socket) -> None:
        """Join the restarted app, whose new Kingpin is at the other end of `sock`; on the loop's thread.

        All that the old Kingpin reported is forgotten.
        """
        peer, old = self._peer, list(self._context.roster)
        self._link = self._link_on(sock)
        self.welcomed, self.refused = False, ""
        known = dict.fromkeys([*(member.uid for member in old), *(contact.uid for contact in peer.contacts)])
        board, peer.context.board = peer.context.board, None
        self._handle_members([m.MemberGone(uid, "its app has ended") for uid in known])  # and may live on for a moment
        peer.contacts.forget_wishes()
        if board is not None:
            board.let_go()
        self.start()

    def post(self, message: m.Up) -> None:
        """Send the Kingpin a message."""
        self._link.post(message)

    def post_with(self, message: m.Up, descriptors: Sequence[int | Descriptor]) -> None:
        """Send the Kingpin a message with descriptors."""
        self._link.post_with(message, descriptors)

    def post_now(self, message: m.Up) -> None:
        """Send the Kingpin a message before this thread goes on; from any thread."""
        self._link.post_now(message)

    def catch_up(self) -> None:
        """Read what the Kingpin has sent by now; on the loop's thread."""
        self._link.drain()

    def request(self, label: str, make: Callable[[int], m.Up]) -> Call[Any]:
        """Send the Kingpin a request; `make` gets its number. `ArgumentError` if it cannot be sent."""
        number = next(self._ids)
        message = checked(label, make(number))
        call: Call[Any] = Call(self._peer, label, "")
        self._requests[number] = call
        self.post(message)
        if self.is_closed:
            self._fail_requests()
        return call

    def reach(self, node: int) -> Call[socket.socket]:
        """Request a link to the Kingpin of another machine.

        It may never come; the caller cancels the call when it has waited long enough.
        """
        call: Call[socket.socket] = Call(self._peer, "reach", "")
        self._reaching.setdefault(node, []).append(call)
        self.post(m.WantMember(m.kingpin_of(node)))
        if self.is_closed:
            self._fail_requests()
        return call

    def follow(self, on_lines: Callable[[m.Lines], None], make: Callable[[int], m.Up]) -> int:
        """Request the output of workers; `on_lines` gets it until its end, which is empty if the Kingpin ends."""
        number = next(self._ids)
        message = checked("logs", make(number))
        self._followers[number] = on_lines
        self.post(message)
        if self.is_closed:
            self._end_following()
        return number

    def unfollow(self, number: int) -> None:
        """Unsubscribe from output."""
        if self._followers.pop(number, None) is not None:
            self.post(m.Unfollow(number))

    def abandon(self, end: Callable[[], None]) -> None:
        """Drop the link in a forked child, as `Link.abandon` does."""
        self._link.abandon(end)

    def close(self, seconds: float = 0.0) -> None:
        """Send what is left to send, within that number of seconds, and end the link."""
        self._link.close_after_flush(seconds)

    # ---------------------------------------------------------------------------------- what the Kingpin says

    def _handle(self, link: Link, messages: list[m.Down]) -> None:
        has_changed = False
        at, count = 0, len(messages)
        while at < count:
            message = messages[at]
            end = at + 1
            has_changed = has_changed or isinstance(message, ROSTER)
            if message.__class__ in MEMBERS:  # consecutive ones are handled together
                while end < count and messages[end].__class__ in MEMBERS:
                    end += 1
                self._handle_members(messages[at:end])
            else:
                self._handle_one(link, message)
            at = end
        if has_changed:
            self.changes.note()

    def _handle_members(self, messages: list[Any]) -> None:
        """Handle changes and ends of members; the last message about each counts, and new ones come before old ones go.

        Event handlers are called in the order in which it happened.
        """
        last: dict[int, m.MemberIs | m.MemberGone] = {}
        for message in messages:
            uid = message.member.uid if isinstance(message, m.MemberIs) else message.uid
            last.pop(uid, None)
            last[uid] = message
        before = {uid: self._context.roster.get(uid) for uid in last}
        there = [each.member for each in last.values() if isinstance(each, m.MemberIs)]
        gone = [each for each in last.values() if isinstance(each, m.MemberGone)]
        if there:
            self._handle_there(there)
        if gone:
            self._handle_gone(gone)
        for uid, message in last.items():
            self._fire(before[uid], message)

    def _fire(self, before: m.Member | None, message: m.MemberIs | m.MemberGone) -> None:
        """Call the handlers of `join` or `leave`, if a worker became ready or ended."""
        if isinstance(message, m.MemberIs):
            member = message.member
            if is_ready(member) and (before is None or not is_ready(before)):
                self._peer.fire("join", member)
        elif before is not None and before.role:
            self._peer.fire("leave", before)

    def _handle_one(self, link: Link, message: m.Down) -> None:
        peer = self._peer
        match message:
            case m.MemberIs() | m.MemberGone():
                self._handle_members([message])
            case m.Welcome(uid=uid, app=app, roles=roles, members=members, nodes=nodes, cut=cut):
                peer.context.uid, peer.context.app, peer.context.frame_limit = uid, app, message.frame_limit
                peer.contacts.routes.backlog = message.backlog
                peer.context.board = self._take_board(link)
                if peer.context.board is not None and peer.context.role:
                    peer.context.board.begun.claim(uid, peer.context.pid)
                    if peer.context.gives_back and barriers.expect():
                        peer.context.board.begun.give_back(uid)
                peer.context.roster = Roster(roles, members, nodes, cut)
                for role in roles:
                    self._handle_role(role)
                peer.contacts.put(members)
                for member in members:
                    peer.see(member)
                self.welcomed = True
            case m.RoleIs(role=role):
                peer.context.roster.put_role(role)
                self._handle_role(role)
            case m.Meet(uid=uid) if m.is_kingpin(uid):
                self._handle_reached(m.node_of(uid), link.take(1))
            case m.Meet(uid=uid):
                if descriptors := link.take(1):
                    peer.handle_meet(uid, socket.socket(fileno=descriptors[0]))
                else:
                    peer.contacts.miss(uid)
            case m.Bound(id=number):
                self._handle_bound(number, link.take(1))
            case m.TerminalLent(id=number):
                self._handle_terminal(number, message, link.take(2))
            case m.NotBound(id=number, errno=errno, why=why):
                if (call := self._requests.pop(number, None)) is not None:
                    error = AddressHeld(errno, why)
                    call.fail(error)
            case (
                m.Unbound(id=number)
                | m.NoTerminal(id=number)
                | m.Rows(id=number)
                | m.Done(id=number)
                | m.CrashIs(id=number)
                | m.CrashesAre(id=number)
                | m.MetricsAre(id=number)
                | m.HistoryIs(id=number)
                | m.ReadinessIs(id=number)
            ):
                self._settle(number, message)
            case m.Lines(id=number):
                self._handle_lines(number, message)
            case m.Crashed(report=report):
                if (crash := read(report)) is not None:
                    peer.fire("crash", crash)
            case m.BeginRun() | m.RunWaits() | m.NoRun():
                self.on_timer(message)
            case m.Stop(grace=grace, hands_over=hands_over):
                self.may_hand_over = hands_over
                self.on_stop(grace)
            case m.HandOver(seconds=seconds):
                self.on_hand_over(seconds)
            case m.GoOn():
                self.on_go_on()
            case m.Inheritance(id=number, size=size):
                self._handle_inheritance(number, size, [] if size < 0 else link.take(1))
            case m.Promoted(index=index, generation=generation):
                self.on_promoted(index, generation)
            case m.Refused(why=why):
                self.refused = why
            case m.NodeIs(node=node):
                peer.context.roster.nodes[node.number] = node
                peer.parking.handle_resized()
            case m.NodeGone(number=number):
                peer.context.roster.nodes.pop(number, None)
                peer.parking.handle_resized()
            case m.Cut(why=why):
                peer.context.roster.cut = why
                peer.contacts.handle_cut()
            case m.Carry() | m.PutLeft():
                self.on_cluster(message, link.take(1))
            case (
                m.JoinCluster()
                | m.Send()
                | m.Turned()
                | m.ReadLease()
                | m.WriteLease()
                | m.GiveBack()
                | m.GetLeft()
                | m.DropLeft()
            ):
                self.on_cluster(message, [])

    def _take_board(self, link: Link) -> Board | None:
        """Return the board of loads; a client of another machine's Kingpin gets none."""
        taken = link.take(1)
        return Board(taken[0]) if taken else None

    def _handle_reached(self, node: int, descriptors: list[int]) -> None:
        waiting = [call for call in self._reaching.pop(node, []) if not call.done()]
        if len(waiting) > 1:
            self._reaching[node] = waiting[1:]  # each has requested one of its own
        sock = socket.socket(fileno=descriptors[0]) if descriptors else None
        if waiting and sock is not None:
            waiting[0].settle(sock)
        elif waiting:
            waiting[0].fail(AppNotRunning("this process has too many open files (see `ulimit -n`)"))
        elif sock is not None:
            sock.close()  # its caller no longer waits for it

    def _handle_inheritance(self, number: int, size: int, descriptors: list[int]) -> None:
        call = self._requests.pop(number, None)
        if call is None:
            for descriptor in descriptors:
                os.close(descriptor)
        elif size >= 0 and not descriptors:
            call.fail(
                MobError(
                    "this process has too many open files (see `ulimit -n`), so it cannot receive what was left to it."
                )
            )
        else:
            call.settle((descriptors[0] if descriptors else -1, size))

    def _settle(self, number: int, answer: m.Down) -> None:
        if (call := self._requests.pop(number, None)) is not None:
            call.settle(answer)

    def _handle_lines(self, number: int, lines: m.Lines) -> None:
        follower = self._followers.get(number)
        if lines.is_end:
            self._followers.pop(number, None)
        if follower is not None:
            follower(lines)

    def _end_following(self) -> None:
        followers, self._followers = self._followers, {}
        for number, follower in followers.items():
            follower(m.Lines(number, (), is_end=True))

    def _handle_bound(self, number: int, descriptors: list[int]) -> None:
        call = self._requests.pop(number, None)
        if call is None:
            for descriptor in descriptors:
                os.close(descriptor)
        elif descriptors:
            call.settle(descriptors[0])
        else:
            call.fail(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))

    def _handle_terminal(self, number: int, lent: m.TerminalLent, descriptors: list[int]) -> None:
        call = self._requests.pop(number, None)
        if call is not None and len(descriptors) == 2:
            call.settle((lent, descriptors))
            return
        for descriptor in descriptors:
            os.close(descriptor)
        self.post(m.ReturnTerminal(number))
        if call is not None:
            call.settle(m.NoTerminal(number, "this process has too many open files (see `ulimit -n`)"))

    def _handle_role(self, role: m.RoleInfo) -> None:
        peer = self._peer
        if role.name == peer.context.role:
            peer.handle_quarantined(dict(role.quarantined))
        peer.contacts.routes.learn(role)
        peer.parking.handle_resized()
        if peer.context.roster.is_over(role.name):
            peer.parking.handle_over(role.name)

    def _handle_there(self, members: list[m.Member]) -> None:
        peer = self._peer
        for member in members:
            peer.context.roster.put(member)
        peer.contacts.put(members)
        for member in members:
            if member.token:
                peer.see(member)

    def _handle_gone(self, gone: list[m.MemberGone]) -> None:
        peer = self._peer
        for each in gone:
            peer.context.roster.remove(each.uid)
        peer.contacts.remove(gone)
        for each in gone:
            peer.references.owner_gone(each.uid)

    def _handle_closed(self, link: Link, why: str) -> None:
        self._fail_requests()
        self._end_following()
        self._peer.contacts.handle_unintroduced()
        self._peer.parking.fail_all(self.ended)
        self.on_gone()
        self.changes.note()

    def ended(self, label: str) -> Unavailable:
        """Return the error for a call that waits for a worker when no worker will come any more."""
        ending = self.ending or f"the app {self._context.app!r} has ended, or this client was closed."
        return Unavailable(f"{label}: {ending}")

    def _fail_requests(self) -> None:
        requests, self._requests = self._requests, {}
        reaching, self._reaching = self._reaching, {}
        ending = self.ending or f"the app {self._context.app!r} has ended."
        for call in [*requests.values(), *(each for calls in reaching.values() for each in calls)]:
            call.fail(AppNotRunning(f"{call.label}: {ending}"))


def _nothing_to_stop(grace: float) -> None:
    pass


def _no_timers(word: m.BeginRun | m.RunWaits | m.NoRun) -> None:
    del word


def _nothing_to_fill(index: int, generation: int) -> None:
    """Do nothing, as in a client."""


def _nothing_to_do() -> None:
    pass


def _nothing_to_carry(message: m.Down, descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
