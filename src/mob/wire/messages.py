"""Every message that crosses between processes, as frozen structs in tagged unions.

Three conversations:
* peer to peer (`Peer`), on the direct links: calls, replies, messages, the counting of callbacks;
* mobster or client to Kingpin and back (`Up`, `Down`), on the control link: the roster, introductions, shared ports;
* Kingpin to fork server and back (`Order`, `Report`): launches and exits.

Bodies (arguments, values, user's messages) are `Raw`: bytes that this file and the Kingpin carry without opening.
A frame is an array of messages of one conversation. Descriptors travel beside the bytes; a message that takes one
says so in its docstring, and the reader takes them in the order of the messages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec import Raw

from mob.errors import GarbageFrame
from mob.plan import RolePlan
from mob.wire.failures import Failure

PROTOCOL = 1
"""The version of everything here; said by a client in `Hello`, and refused when it differs."""


class _Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    pass


# ---------------------------------------------------------------------------------------------- peer to peer


class Call(_Message, frozen=True, tag=1):
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


class Reply(_Message, frozen=True, tag=2):
    """The call `id` returned. `queue`: how many calls were waiting at the callee when it answered."""

    id: int
    queue: int
    value: Raw


class Failed(_Message, frozen=True, tag=3):
    """The call `id` did not bring a value."""

    id: int
    queue: int
    failure: Failure


class Message(_Message, frozen=True, tag=4):
    """What `send` sends: for the handlers of "message"; no answer."""

    body: Raw


class Cancel(_Message, frozen=True, tag=5):
    """The caller no longer wants the call `id`."""

    id: int


class Release(_Message, frozen=True, tag=6):
    """The sender has dropped callbacks of the receiver: how many references of each, by number."""

    counts: dict[int, int]


class Lend(_Message, frozen=True, tag=7):
    """The sender passes a callback of the receiver on to the member `holder`."""

    id: int
    holder: int


class Farewell(_Message, frozen=True, tag=8):
    """The sender has seen that the receiver drains: no new call of its follows on this link."""


class Item(_Message, frozen=True, tag=9):
    """The generator that the call `id` runs has yielded this. Its end is `Ended`, or the call's `Failed`."""

    id: int
    value: Raw


class Ended(_Message, frozen=True, tag=11):
    """The generator that the call `id` ran has come to its end."""

    id: int
    queue: int


class More(_Message, frozen=True, tag=10):
    """So many items of the call `id` were read: as many more may come."""

    id: int
    count: int


class Pool(_Message, frozen=True, tag=12):
    """The sender's shared memory, in which large buffers lie that follow. Takes one descriptor."""

    size: int


class Freed(_Message, frozen=True, tag=13):
    """The sender has dropped buffers that lie in the receiver's pool: how many arrivals of each, by number."""

    counts: dict[int, int]


class Attached(_Message, frozen=True, tag=14):
    """Descriptors of sockets and files that are in the message behind this, by number. Takes as many descriptors."""

    numbers: tuple[int, ...]
    wants_word: bool
    """Whether the sender keeps its duplicates until it has heard that these have arrived."""


class Arrived(_Message, frozen=True, tag=15):
    """The descriptors with these numbers are here."""

    numbers: tuple[int, ...]


Peer = (
    Call
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
    | Pool
    | Freed
    | Attached
    | Arrived
)

# ------------------------------------------------------------------------------------------------ the roster


class Member(_Message, frozen=True):
    """A process of the mob, as the roster shows it. A client has the role ""."""

    uid: int
    pid: int
    role: str
    index: int
    generation: int
    state: str


class Export(_Message, frozen=True):
    """What the others need to know of an exported function."""

    name: str
    signature: str
    doc: str
    idempotent: bool = False


class RoleInfo(_Message, frozen=True):
    """A role as the others see it: its exports once a worker was ready, and why it fails if it does."""

    name: str
    exports: tuple[Export, ...] | None = None
    complete: bool = False
    failing: str = ""
    workers: int = 1
    given_up: bool = False
    """Whether no worker will come any more, unless somebody reloads the role."""
    quarantined: tuple[tuple[str, int], ...] = ()
    """Exports that have killed too many workers, each with the uid of the one that may try it again, 0 for none."""


class Running(_Message, frozen=True):
    """A call that is being served: what, for how many seconds, and for whom."""

    label: str
    seconds: float
    caller: str


class Row(_Message, frozen=True):
    """One line of `mob ps`."""

    role: str
    index: int
    pid: int
    state: str
    uptime: float
    restarts: int
    calls: int
    note: str
    shared: int = 0


# ------------------------------------------------------------------------------ mobster or client to Kingpin


class Hello(_Message, frozen=True, tag=20):
    """A client's first word."""

    protocol: int
    pid: int


class Ready(_Message, frozen=True, tag=21):
    """The role's module is up, or it listens on a shared port; these are its exports. May be said again."""

    pid: int
    exports: tuple[Export, ...]
    complete: bool
    """False while the module still runs and may define more."""


class BootFailed(_Message, frozen=True, tag=22):
    """The role's module could not be imported; the process ends."""

    report: str


class WantRole(_Message, frozen=True, tag=23):
    """Introduce me to every worker of the role, now and in future. "*" is every role."""

    role: str


class WantMember(_Message, frozen=True, tag=24):
    """Introduce me to one process; `again` if the link that there was has broken."""

    uid: int
    again: bool = False


class Address(_Message, frozen=True):
    """Where to listen. `host` is an IP address or a Unix socket's path; `numbers` are the port and what follows it."""

    family: int
    host: str
    numbers: tuple[int, ...]

    def has_free_port(self) -> bool:
        """Whether any free port will do."""
        return self.numbers[:1] == (0,)


class Bind(_Message, frozen=True, tag=25):
    """I want to listen here. `nth` counts binds to port 0."""

    id: int
    address: Address
    v6only: bool
    nth: int


class Unbind(_Message, frozen=True, tag=26):
    """I do not listen there after all; as in the `Bind`."""

    id: int
    address: Address
    nth: int


class Overview(_Message, frozen=True, tag=27):
    """Show me the table of `mob ps`."""

    id: int


class Draining(_Message, frozen=True, tag=28):
    """I was asked by somebody else to end (a signal): announce it, send me nothing new."""


class Beat(_Message, frozen=True, tag=29):
    """On the liveness socket: alive, and how it goes."""

    calls: int = 0
    """Calls served since the start."""
    shared: int = 0
    """Bytes of shared memory in use."""
    memory: int = 0
    """Bytes of resident memory."""
    stuck: float = 0.0
    """Seconds for which the loop has not come round."""
    allowed: float = 0.0
    """Seconds that the export which runs on the loop may take by its own declaration, 0 if it says nothing."""
    in_hand: int = 0
    """Calls that were accepted and not finished."""
    parked: dict[str, int] = {}
    """Calls of this process that wait for a worker, by role."""
    running: tuple[Running, ...] = ()
    """The calls that are being served, oldest first; not all if they are many."""
    waiting: int = 0
    """Calls that wait here until they may begin, and have to wait for some time."""


class Inspection(_Message, frozen=True, tag=30):
    """On the liveness socket: the answer to `Inspect`."""

    stacks: str


class Scale(_Message, frozen=True, tag=31):
    """Have so many workers of a role; or, if `relative`, so many more or less."""

    id: int
    role: str
    count: int
    relative: bool = False


class Reload(_Message, frozen=True, tag=32):
    """Replace the workers of these roles (none: of all) one after the other by new ones, with new code."""

    id: int
    roles: tuple[str, ...]


class Upgrade(_Message, frozen=True, tag=34):
    """Let a Kingpin with new code take the place of this one."""

    id: int


class WantCrash(_Message, frozen=True, tag=33):
    """What was the last crash of my role?"""

    id: int


Up = (
    Hello
    | Ready
    | BootFailed
    | WantRole
    | WantMember
    | Bind
    | Unbind
    | Overview
    | Draining
    | Scale
    | Reload
    | Upgrade
    | WantCrash
)
Vital = Beat | Inspection
"""What a mobster's liveness thread says."""

# ------------------------------------------------------------------------------ Kingpin to mobster or client


class Welcome(_Message, frozen=True, tag=40):
    """Who you are, and who is there. Takes one descriptor: of the board of loads."""

    uid: int
    app: str
    grace: float
    frame_limit: int
    roles: tuple[RoleInfo, ...]
    members: tuple[Member, ...]


class MemberIs(_Message, frozen=True, tag=41):
    """A member is new or has changed."""

    member: Member


class MemberGone(_Message, frozen=True, tag=42):
    """A member has died or left."""

    uid: int
    why: str


class RoleIs(_Message, frozen=True, tag=43):
    """What is known of a role has changed."""

    role: RoleInfo


class Meet(_Message, frozen=True, tag=44):
    """Here is your end of a link to that member. Takes one descriptor."""

    uid: int


class Bound(_Message, frozen=True, tag=45):
    """The listening socket for the `Bind` of that id. Takes one descriptor."""

    id: int


class NotBound(_Message, frozen=True, tag=46):
    """The address cannot be had: the error number of bind, and a text that says who holds it."""

    id: int
    errno: int
    why: str


class Stop(_Message, frozen=True, tag=47):
    """Finish what you have and end. You have so many seconds."""

    grace: float


class Rows(_Message, frozen=True, tag=48):
    """The answer to `Overview`."""

    id: int
    rows: tuple[Row, ...]


class Refused(_Message, frozen=True, tag=49):
    """The Kingpin will not talk to this client, and why. The link closes."""

    why: str


class Unbound(_Message, frozen=True, tag=50):
    """The answer to `Unbind`."""

    id: int


class Done(_Message, frozen=True, tag=51):
    """The answer to `Scale` and `Reload`: what was done, or why it was not."""

    id: int
    error: str = ""
    text: str = ""


class CrashIs(_Message, frozen=True, tag=53):
    """The answer to `WantCrash`: the report, nothing if there is none."""

    id: int
    text: str


class Inspect(_Message, frozen=True, tag=52):
    """On the liveness socket: say where you stand, you will be killed."""


Down = (
    Welcome
    | MemberIs
    | MemberGone
    | RoleIs
    | Meet
    | Bound
    | NotBound
    | Unbound
    | Stop
    | Rows
    | Refused
    | Done
    | CrashIs
)

# ------------------------------------------------------------------------------ Kingpin and fork server


class Fork(_Message, frozen=True, tag=60):
    """Launch a mobster. Takes four descriptors: control, liveness, stdout, stderr."""

    uid: int
    index: int
    generation: int
    app: str
    base: str
    role: RolePlan
    grace: float
    frame_limit: int
    color: bool


class Adopt(_Message, frozen=True, tag=61):
    """A mobster of an earlier fork server: belongs under your last will too."""

    pid: int


class Remember(_Message, frozen=True, tag=62):
    """A socket file to remove if the Kingpin dies without having done so."""

    path: str


Order = Fork | Adopt | Remember


class Forked(_Message, frozen=True, tag=70):
    """The mobster has this pid."""

    uid: int
    pid: int


class Exited(_Message, frozen=True, tag=71):
    """The mobster is gone. `status` is as `os.waitstatus_to_exitcode` gives it: negative for a signal."""

    uid: int
    pid: int
    status: int


Report = Forked | Exited

# ----------------------------------------------------------------------------------------------------------

_encoder = msgspec.msgpack.Encoder()

encode: Callable[[Sequence[_Message]], bytes] = _encoder.encode
"""The payload of a frame: any messages of one conversation, in order."""


def _decoder(union: Any) -> Callable[[bytes | bytearray | memoryview], list[Any]]:
    decode = msgspec.msgpack.Decoder(list[union]).decode

    def checked(payload: bytes | bytearray | memoryview) -> list[Any]:
        try:
            return decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise GarbageFrame(
                f"a frame of {len(payload):,} bytes does not decode to messages ({error}). "
                f"The other end does not speak mob, or another version of it."
            ) from error

    return checked


decode_peer = _decoder(Peer)
decode_up = _decoder(Up)
decode_down = _decoder(Down)
decode_order = _decoder(Order)
decode_report = _decoder(Report)
decode_vital = _decoder(Vital)
decode_inspect = _decoder(Inspect)
