"""Messages between peers, on the direct links: calls and their answers, messages, the counts of what was lent."""

from __future__ import annotations

from msgspec import Raw, Struct

from mob.wire.failures import Failure
from mob.wire.messages.base import Base

TIMER = "timer!"
"""Prefix of the name of a timer in the target of the call with which a worker runs it."""
HANDLE = "message!"
"""Target of a call that has a worker handle a durable message. No function has such a name."""
MAP = "map!"
"""Prefix of the name of an export in the target of a chunk: one call that carries many items of a `map`.

Its args are an array of the arguments of each item, its value is a `wire.chunks.ChunkAnswer`.
"""

JOB = "job!"
"""Prefix of the name of an export in the target of a durable call, which the keeper of the app's jobs makes.

Its args are a `DurableCall`, its value says how the export ended.
"""

VARIANT = "#"
"""Separator, in a target, between the name of an export and the name of a variant.

A variant is the same function; its calls are kept apart because they do different work, and so take different times.
"""


def export_of(target: str | int) -> str | int:
    """Return the export that a call is for, or that runs the items of a chunk or a durable call.

    >>> export_of("foo"), export_of("map!foo"), export_of("job!foo"), export_of("run#4711"), export_of(7)
    ('foo', 'foo', 'foo', 'run', 7)
    """
    if not isinstance(target, str):
        return target
    return target.removeprefix(MAP).removeprefix(JOB).removeprefix(TIMER).partition(VARIANT)[0]


Sender = tuple[int, int, str, int, int, str]
"""The process that made something durable: uid, pid, role, index, generation, and the name of the machine."""


class DurableBody(Struct, frozen=True, array_like=True):
    """The body of a durable call or message, as it is stored."""

    args: bytes
    """Arguments as MessagePack; of a message, the object."""
    kwargs: bytes | None
    sender: Sender


class DurableCall(Struct, frozen=True, array_like=True):
    """The args of a `JOB`."""

    body: bytes
    """A `DurableBody`."""
    id: str
    attempt: int


class Invoke(Base, frozen=True, tag=1):
    """Run an export (`target` is its name) or a callback that was lent to the sender (`target` is its number)."""

    id: int
    target: str | int
    args: Raw
    kwargs: tuple[Raw, ...] = ()
    """One item, or none if there are no named arguments (msgspec reads an optional `Raw` only as nil)."""
    times: tuple[float, float] | None = None
    """If its time is limited: when it was made, and when it must have ended (monotonic seconds of this machine)."""
    chain: tuple[int, ...] = ()
    """The calls during which it is made, outermost first: uid and number of each, in turn."""
    trace: str = ""
    """The OpenTelemetry context in which it is made, if traces are on; else the id of the HTTP request."""


class Reply(Base, frozen=True, tag=2):
    """The call `id` returned. `queue`: number of calls that were waiting at the callee when it answered."""

    id: int
    queue: int
    value: Raw


class Failed(Base, frozen=True, tag=3):
    """The call `id` failed."""

    id: int
    queue: int
    failure: Failure


class Message(Base, frozen=True, tag=4):
    """A message sent with `send`, for the handlers of "message"; there is no answer."""

    body: Raw
    trace: str = ""


class Cancel(Base, frozen=True, tag=5):
    """The caller no longer needs the call `id`."""

    id: int


class Release(Base, frozen=True, tag=6):
    """The sender dropped callbacks of the receiver: the number of references to each, by its number."""

    counts: dict[int, int]


class Lend(Base, frozen=True, tag=7):
    """The sender passes a callback of the receiver on to the member `holder`."""

    id: int
    holder: int


class Farewell(Base, frozen=True, tag=8):
    """No new call of the sender follows on this link: it saw that the receiver drains, or it ends itself."""


class Item(Base, frozen=True, tag=9):
    """A value yielded by the generator that the call `id` runs. It ends with `Ended`, or the call's `Failed`."""

    id: int
    value: Raw


class Ended(Base, frozen=True, tag=11):
    """The generator that the call `id` ran ended."""

    id: int
    queue: int


class More(Base, frozen=True, tag=10):
    """The sender read `count` items of the call `id`: as many more may follow."""

    id: int
    count: int


class SharedPool(Base, frozen=True, tag=12):
    """The shared memory that holds the large buffers that follow. Takes one descriptor.

    It is the sender's, or that of another member (`owner`) from which the sender passes buffers on.
    """

    size: int
    owner: int = 0


class Freed(Base, frozen=True, tag=13):
    """The sender dropped buffers in the receiver's pool: the number of arrivals of each, by its number."""

    counts: dict[int, int]


class Unpooled(Base, frozen=True, tag=66):
    """The sender could not open the receiver's pool (`SharedPool`), or that of `owner`: send it again when needed.

    It comes again with the next large buffer.
    """

    owner: int = 0


class Passed(Base, frozen=True, tag=68):
    """The sender passes buffers of the receiver on to the member `holder`: the number of arrivals of each, by number.

    A negative count takes back an earlier one.
    """

    counts: dict[int, int]
    holder: int


class Attached(Base, frozen=True, tag=14):
    """Descriptors of sockets and files in the message that follows, by number. Takes as many descriptors."""

    numbers: tuple[int, ...]
    wants_word: bool
    """True if the sender keeps its duplicates until it hears that these arrived."""


class Arrived(Base, frozen=True, tag=15):
    """The descriptors with these numbers arrived."""

    numbers: tuple[int, ...]


class Here(Base, frozen=True, tag=16):
    """The sender has its end of this link, which gateways carry: now they may report that it exists."""


class Left(Base, frozen=True, tag=67):
    """The sender's last message: it exits normally. `in_hand`: the number of calls that it began and will not answer.

    If that is 0, the calls that it did not answer were not begun.
    """

    in_hand: int = 0


class Waiting(Base, frozen=True, tag=17):
    """Calls wait at the sender, in the line of that number, for a place at the receiver.

    `target` is the export of the next one ("": a message).
    """

    line: int
    target: str


class Invite(Base, frozen=True, tag=18):
    """The sender has room for `count` calls of a line of the receiver.

    `cost`: microseconds that such a call takes there, 0 if unknown.
    """

    line: int
    count: int
    cost: int = 0


class Declined(Base, frozen=True, tag=19):
    """Nothing waits any longer in the line of that number."""

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
    """Return what is sent instead of an answer that cannot be encoded, because its call has to end.

    Returns None for a message that is not an answer.
    """
    match message:
        case Reply(id=int(number)) | Failed(id=int(number)) | Item(id=int(number)) | Ended(id=int(number)):
            why = "its answer could not be encoded, which is a bug in mob; the log of its worker has the details"
            return Failed(number, 0, Failure("mob.CallError", "Exception", why, executed="maybe", kind="CallError"))
        case _:
            return None
