"""Members of a mob in one process: each with references and an encoder of its own, and letters instead of links.

Messages wait in the order of sending until `Mob.deliver`, or until a test takes one at a time. So a test decides what
has arrived when a member drops something, or dies.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from msgspec import Raw

from mob.peer.context import Context
from mob.peer.references.encoding import Encoder
from mob.peer.references.references import References
from mob.rim.link import Descriptor
from mob.wire import messages as m

POOL = 1 << 20


class NoLoop:
    """A reactor without a loop to wake; timers run when a test says so."""

    is_reading = True
    is_mine = False

    def __init__(self) -> None:
        self.timed: list[Callable[[], None]] = []

    def call(self, function: Callable[[], None]) -> None:
        function()

    def call_at(self, when: float, function: Callable[[], None]) -> int:
        self.timed.append(function)
        return len(self.timed)

    def pass_time(self) -> None:
        """Run all timers."""
        while self.timed:
            self.timed.pop()()


class Letter(NamedTuple):
    """A message on its way."""

    way: Way
    message: Any
    descriptors: Sequence[int]


class Way:
    """The way from one member to another: a holder for the first, and its link."""

    is_distant = False
    gone = ""
    unsent_bytes = 0
    is_full = False
    """True if the kernel takes nothing more from now on."""

    def __init__(self, sender: Member, receiver: Member) -> None:
        self.sender, self.receiver = sender, receiver
        self.uid, self.name = receiver.context.uid, f"member {receiver.context.uid}"
        self.link: Any = self
        self.taken: deque[int] = deque()

    def post(self, message: Any) -> None:
        self.post_with(message, [])

    post_lazily = post

    def post_with(self, message: Any, descriptors: Sequence[Descriptor]) -> None:
        self.sender.mob.letters.append(Letter(self, message, [os.dup(each.fileno()) for each in descriptors]))

    def take(self, count: int) -> list[int]:
        return [self.taken.popleft() for _ in range(min(count, len(self.taken)))]

    def flush(self) -> None:
        """Do nothing, because everything is sent at once."""

    def post_now(self, message: Any) -> bool:
        """Send everything at once, unless the kernel is full."""
        self.post(message)
        return not self.is_full


class Member:
    """One process."""

    def __init__(self, mob: Mob, uid: int, shared_memory: int) -> None:
        self.mob = mob
        self.loop: Any = NoLoop()
        self.context = Context(self.loop)
        self.context.uid = uid
        self.called: list[tuple[Any, ...]] = []
        self.ways: dict[int, Way] = {}
        self.got: list[Any] = []
        self.may_repeat = False
        self.references = References(
            self.context, self, shared_memory, self._call, lambda call: self.may_repeat, self._call_method
        )
        self.encoder = Encoder(self.context, self.references)

    def _call(self, owner: int, number: int, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        self.called.append((owner, number, tuple(args), kwargs))
        return self.called

    def _call_method(self, handle: Any, name: str, args: Sequence[Any], kwargs: Any) -> Any:
        self.called.append((handle, name, tuple(args), kwargs))
        return self.called

    def get(self, uid: int) -> Way | None:
        return self.look_up(uid) if uid in self.mob.members else None

    def look_up(self, uid: int) -> Way:
        return self.ways.setdefault(uid, Way(self, self.mob.members[uid]))

    def name_of(self, uid: int) -> str:
        return self.look_up(uid).name

    @property
    def sizes(self) -> dict[str, int]:
        """Return its statistics that are not zero."""
        return {name: size for name, size in self.references.statistics().items() if size}

    def send(self, value: Any, *receivers: Member) -> None:
        """Send a message to each of the others."""
        message = m.Message(Raw(self.encoder.encode(value, "message")), "")
        passage = self.references.take()
        for receiver in receivers:
            way = self.look_up(receiver.context.uid)
            replaced = self.references.hand_over(passage, way)
            way.post(m.Message(self.encoder.replaced(message.body, replaced), "") if replaced else message)
        self.references.let_go(passage)


class Mob:
    """All members, and the messages on their way."""

    def __init__(self) -> None:
        self.members: dict[int, Member] = {}
        self.letters: deque[Letter] = deque()

    def join(self, shared_memory: int = POOL) -> Member:
        """Add a member."""
        uid = len(self.members) + 1
        self.members[uid] = Member(self, uid, shared_memory)
        return self.members[uid]

    def deliver(self) -> None:
        """Deliver all messages in order, and those that follow from them."""
        while self.letters:
            self._deliver(self.letters.popleft())

    def deliver_to(self, receiver: Member) -> None:
        """Deliver the messages to one member."""
        for letter in [letter for letter in self.letters if letter.way.receiver is receiver]:
            self.letters.remove(letter)
            self._deliver(letter)

    def _deliver(self, letter: Letter) -> None:
        way, message, descriptors = letter
        back = way.receiver.look_up(way.sender.context.uid)
        back.taken.extend(descriptors)
        if isinstance(message, m.Message):
            way.receiver.got.append(way.receiver.encoder.codec.decode(message.body))
        else:
            way.receiver.references.handle(back, back, message)  # pyright: ignore[reportArgumentType]

    def lose(self, member: Member) -> None:
        """Tell all others that a member ended, after its earlier messages."""
        for letter in [letter for letter in self.letters if letter.way.sender is member]:
            self.letters.remove(letter)
            self._deliver(letter)
        for uid, other in self.members.items():
            if uid != member.context.uid:
                other.look_up(member.context.uid).gone = "has exited"
                other.references.owner_gone(member.context.uid)

    def settle(self) -> None:
        """Sweep and deliver until nothing moves any more."""
        for _ in range(3):
            for member in self.members.values():
                member.references.sweep()
            self.deliver()

    def sizes(self) -> list[dict[str, int]]:
        """Return what each member has left."""
        return [member.sizes for member in self.members.values()]

    def close(self) -> None:
        """Close what was not delivered, and what was not read."""
        for letter in self.letters:
            for descriptor in letter.descriptors:
                os.close(descriptor)
        for member in self.members.values():
            member.references.close()
