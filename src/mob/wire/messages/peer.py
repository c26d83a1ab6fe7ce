"""Peer to peer, on the direct links: calls and their answers, messages, the counting of what was lent."""

from __future__ import annotations

from msgspec import Raw, Struct

from mob.wire.failures import Failure
from mob.wire.messages.base import Base

TIMER = "timer!"
"""What stands before the name of a timer in the target of the call by which a worker runs it."""
HANDLE = "message!"
"""The target of a call that has a worker handle a durable message. No function has such a name."""
MAP = "map!"
"""What stands before the name of an export in the target of a chunk: one call that carries many items of a `map`.

Its args are an array of the arguments of each item, its value is a `wire.chunks.Answer`."""

JOB = "job!"
"""What stands before the name of an export in the target of a durable call, which the keeper of the app's jobs makes.

Its args are a `DurableCall`, its value says how the export has ended."""

VARIANT = "#"
"""What stands behind the name of an export in a target, before the name of a variant: the same function, whose calls
are told apart because they do different work, and so take different times."""


def export_of(target: str | int) -> str | int:
    """The export that a call is for, or the export that runs the items of a chunk, or a durable call.

    >>> export_of("foo"), export_of("map!foo"), export_of("job!foo"), export_of("run#4711"), export_of(7)
    ('foo', 'foo', 'foo', 'run', 7)
    """
    if not isinstance(target, str):
        return target
    return target.removeprefix(MAP).removeprefix(JOB).removeprefix(TIMER).partition(VARIANT)[0]


Sender = tuple[int, int, str, int, int, str]
"""Who has made something durable: uid, pid, role, index, generation, and the name of the machine."""


class DurableBody(Struct, frozen=True, array_like=True):
    """What a durable call or message says, as it is stored."""

    args: bytes
    """MessagePack; of a message it is the object."""
    kwargs: bytes | None
    sender: Sender


class DurableCall(Struct, frozen=True, array_like=True):
    """The args of a `JOB`."""

    body: bytes
    """A `DurableBody`."""
    id: str
    attempt: int


class Invoke(Base, frozen=True, tag=1):
    """Run an export (`target` is its name) or a callback that was lent to the sender (its number)."""

    id: int
    target: str | int
    args: Raw
    kwargs: tuple[Raw, ...] = ()
    """One, or none if there are no named arguments (msgspec reads an optional `Raw` as nothing but nil)."""
    times: tuple[float, float] | None = None
    """If its time is limited: when it was made, and when it must have ended (monotonic seconds of this machine)."""
    chain: tuple[int, ...] = ()
    """The calls in whose course it is made, outermost first: uid and number of each, one after the other."""
    trace: str = ""
    """The context of OpenTelemetry in which it is made, if traces are wanted; else the id of the HTTP request."""


class Reply(Base, frozen=True, tag=2):
    """The call `id` returned. `queue`: how many calls were waiting at the callee when it answered."""

    id: int
    queue: int
    value: Raw


class Failed(Base, frozen=True, tag=3):
    """The call `id` did not bring a value."""

    id: int
    queue: int
    failure: Failure


class Message(Base, frozen=True, tag=4):
    """What `send` sends: for the handlers of "message"; no answer."""

    body: Raw
    trace: str = ""


class Cancel(Base, frozen=True, tag=5):
    """The caller no longer wants the call `id`."""

    id: int


class Release(Base, frozen=True, tag=6):
    """The sender has dropped callbacks of the receiver: how many references of each, by number."""

    counts: dict[int, int]


class Lend(Base, frozen=True, tag=7):
    """The sender passes a callback of the receiver on to the member `holder`."""

    id: int
    holder: int


class Farewell(Base, frozen=True, tag=8):
    """No new call of the sender's follows on this link: it has seen that the receiver drains, or ends itself."""


class Item(Base, frozen=True, tag=9):
    """The generator that the call `id` runs has yielded this. Its end is `Ended`, or the call's `Failed`."""

    id: int
    value: Raw


class Ended(Base, frozen=True, tag=11):
    """The generator that the call `id` ran has come to its end."""

    id: int
    queue: int


class More(Base, frozen=True, tag=10):
    """So many items of the call `id` were read: as many more may come."""

    id: int
    count: int


class SharedPool(Base, frozen=True, tag=12):
    """The shared memory in which large buffers lie that follow: the sender's, or another member's (`owner`) from which
    it passes buffers on. Takes one descriptor."""

    size: int
    owner: int = 0


class Freed(Base, frozen=True, tag=13):
    """The sender has dropped buffers that lie in the receiver's pool: how many arrivals of each, by number."""

    counts: dict[int, int]


class Unpooled(Base, frozen=True, tag=66):
    """The sender could not be given the receiver's pool (`SharedPool`), or that of `owner`: it is to come again with
    the next large buffer."""

    owner: int = 0


class Passed(Base, frozen=True, tag=68):
    """The sender passes buffers of the receiver on to the member `holder`: how many arrivals of each, by number.
    A negative count takes back what was said before."""

    counts: dict[int, int]
    holder: int


class Attached(Base, frozen=True, tag=14):
    """Descriptors of sockets and files that are in the message behind this, by number. Takes as many descriptors."""

    numbers: tuple[int, ...]
    wants_word: bool
    """Whether the sender keeps its duplicates until it has heard that these have arrived."""


class Arrived(Base, frozen=True, tag=15):
    """The descriptors with these numbers are here."""

    numbers: tuple[int, ...]


class Here(Base, frozen=True, tag=16):
    """The sender has its end of this link, which gateways carry: now they may say that it has come to be."""


class Left(Base, frozen=True, tag=67):
    """The sender's last word: it ends in order. `in_hand`: how many calls it has begun and will not answer. If that is
    none, what it has not answered was not begun."""

    in_hand: int = 0


class Waiting(Base, frozen=True, tag=17):
    """Calls wait at the sender, in a line of that number, for a place at the receiver; the next one is of this export
    ("": a message)."""

    line: int
    target: str


class Invite(Base, frozen=True, tag=18):
    """The sender has room for so many calls of a line of the receiver's. `cost`: microseconds that such a call takes
    there, 0 if nobody can tell."""

    line: int
    count: int
    cost: int = 0


class Declined(Base, frozen=True, tag=19):
    """Nothing waits any more in a line of that number."""

    line: int


PeerMessage = (
    Invoke
    | Reply
    | Failed
    | Message
    | Cancel
    | Release
    | Lend
    | Farewell
    | Item
    | Ended
    | More
    | SharedPool
    | Unpooled
    | Freed
    | Passed
    | Attached
    | Arrived
    | Here
    | Left
    | Waiting
    | Invite
    | Declined
)


def in_place_of(message: object) -> Failed | None:
    """Return what is sent instead of an answer that cannot be encoded, because its call has to end; None for a message
    that is no answer."""
    match message:
        case Reply(id=int(number)) | Failed(id=int(number)) | Item(id=int(number)) | Ended(id=int(number)):
            why = "its answer could not be encoded, which is a mistake in mob; the log of its worker has the details"
            return Failed(number, 0, Failure("mob.CallError", "Exception", why, executed="maybe", kind="CallError"))
        case _:
            return None
