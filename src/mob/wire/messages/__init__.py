"""Every message that crosses between processes, as frozen structs in tagged unions.

The conversations:
* peer to peer (`PeerMessage`), on the direct links: `peer.py`;
* mobster or client to Kingpin and back (`Up`, `Down`), on the control link: `up.py`, `down.py`, with the structures
  that they contain in `roster.py` and `tables.py`; and those of the liveness thread (`Vital`): `vitals.py`;
* Kingpin to fork server and back (`ForkOrder`, `ForkReport`): `forks.py`;
* Kingpin to Kingpin, on other machines (`Letter`), and Kingpin to gateway and back: `cluster.py`.

Bodies (arguments, values, user's messages) are `Raw`: bytes that this package and the Kingpin carry without opening.
A frame is an array of messages of one conversation. Descriptors travel beside the bytes; a message that takes one
says so in its docstring, and the reader takes them in the order of the messages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import msgspec

from mob.errors import GarbageFrame
from mob.wire.depth import sealed
from mob.wire.messages.base import (
    PROTOCOL as PROTOCOL,
    Base as Base,
)
from mob.wire.messages.cluster import (
    Alive as Alive,
    Arriving as Arriving,
    Carry as Carry,
    Changed as Changed,
    Connected as Connected,
    CrashedHere as CrashedHere,
    DropLeft as DropLeft,
    Everything as Everything,
    GetLeft as GetLeft,
    GiveBack as GiveBack,
    Heard as Heard,
    Hung as Hung,
    JoinCluster as JoinCluster,
    LeaseFree as LeaseFree,
    LeaseIs as LeaseIs,
    LeaseRecord as LeaseRecord,
    Leaving as Leaving,
    LeftIs as LeftIs,
    Letter as Letter,
    OpenGateway as OpenGateway,
    PutLeft as PutLeft,
    ReadLease as ReadLease,
    Send as Send,
    Taken as Taken,
    TimersAt as TimersAt,
    Turned as Turned,
    WantEverything as WantEverything,
    Words as Words,
    WriteLease as WriteLease,
    token_of as token_of,
)
from mob.wire.messages.down import (
    BeginRun as BeginRun,
    Bound as Bound,
    Crashed as Crashed,
    CrashesAre as CrashesAre,
    CrashIs as CrashIs,
    Cut as Cut,
    Done as Done,
    Down as Down,
    GoOn as GoOn,
    HandOver as HandOver,
    HistoryIs as HistoryIs,
    Inheritance as Inheritance,
    Lines as Lines,
    Meet as Meet,
    MemberGone as MemberGone,
    MemberIs as MemberIs,
    MetricsAre as MetricsAre,
    NodeGone as NodeGone,
    NodeIs as NodeIs,
    NoRun as NoRun,
    NotBound as NotBound,
    NoTerminal as NoTerminal,
    Promoted as Promoted,
    ReadinessIs as ReadinessIs,
    Refused as Refused,
    RoleIs as RoleIs,
    Rows as Rows,
    RunWaits as RunWaits,
    Stop as Stop,
    TerminalLent as TerminalLent,
    Unbound as Unbound,
    Welcome as Welcome,
)
from mob.wire.messages.forks import (
    Adopt as Adopt,
    Exited as Exited,
    Fork as Fork,
    Forked as Forked,
    ForkOrder as ForkOrder,
    ForkReport as ForkReport,
    NotForked as NotForked,
    Relieve as Relieve,
    Remember as Remember,
)
from mob.wire.messages.peer import (
    HANDLE as HANDLE,
    JOB as JOB,
    MAP as MAP,
    TIMER as TIMER,
    VARIANT as VARIANT,
    Arrived as Arrived,
    Attached as Attached,
    Cancel as Cancel,
    Declined as Declined,
    DurableBody as DurableBody,
    DurableCall as DurableCall,
    Ended as Ended,
    Failed as Failed,
    Farewell as Farewell,
    Freed as Freed,
    Here as Here,
    Invite as Invite,
    Invoke as Invoke,
    Item as Item,
    Left as Left,
    Lend as Lend,
    Message as Message,
    More as More,
    Passed as Passed,
    PeerMessage as PeerMessage,
    Release as Release,
    Reply as Reply,
    Sender as Sender,
    SharedPool as SharedPool,
    Unpooled as Unpooled,
    Waiting as Waiting,
    export_of as export_of,
    in_place_of as in_place_of,
)
from mob.wire.messages.roster import (
    NODE_SHIFT as NODE_SHIFT,
    ExportInfo as ExportInfo,
    Member as Member,
    Node as Node,
    Overrun as Overrun,
    RoleInfo as RoleInfo,
    is_kingpin as is_kingpin,
    kingpin_of as kingpin_of,
    node_of as node_of,
)
from mob.wire.messages.tables import (
    AppMetric as AppMetric,
    AppSample as AppSample,
    CallerMetrics as CallerMetrics,
    Event as Event,
    ExportMetrics as ExportMetrics,
    History as History,
    Line as Line,
    Metrics as Metrics,
    MobsterMetrics as MobsterMetrics,
    Point as Point,
    RoleMetrics as RoleMetrics,
    RoleReadiness as RoleReadiness,
    Row as Row,
    TimerMetrics as TimerMetrics,
)
from mob.wire.messages.up import (
    CLIENTS as CLIENTS,
    Bind as Bind,
    BootFailed as BootFailed,
    CanariesSent as CanariesSent,
    Draining as Draining,
    EndApp as EndApp,
    Follow as Follow,
    HandedOver as HandedOver,
    HandsOver as HandsOver,
    HearCrashes as HearCrashes,
    Hello as Hello,
    KillCall as KillCall,
    Overview as Overview,
    Parked as Parked,
    Ready as Ready,
    Reload as Reload,
    Restart as Restart,
    ReturnTerminal as ReturnTerminal,
    RoomForRun as RoomForRun,
    RunTimer as RunTimer,
    Scale as Scale,
    SocketAddress as SocketAddress,
    TimerInfo as TimerInfo,
    TimerRan as TimerRan,
    TimersAre as TimersAre,
    Unbind as Unbind,
    Unfollow as Unfollow,
    Up as Up,
    Upgrade as Upgrade,
    WantCrash as WantCrash,
    WantCrashes as WantCrashes,
    WantHistory as WantHistory,
    WantInheritance as WantInheritance,
    WantMember as WantMember,
    WantMetrics as WantMetrics,
    WantQueue as WantQueue,
    WantReadiness as WantReadiness,
    WantRole as WantRole,
    WantStacks as WantStacks,
    WantTerminal as WantTerminal,
    WatchCall as WatchCall,
)
from mob.wire.messages.vitals import (
    Beat as Beat,
    Counted as Counted,
    Heed as Heed,
    Inspect as Inspect,
    Inspection as Inspection,
    MetricNews as MetricNews,
    MetricSpec as MetricSpec,
    Prolong as Prolong,
    Running as Running,
    SampleNews as SampleNews,
    Tally as Tally,
    Vital as Vital,
)

_encoder = msgspec.msgpack.Encoder()

encode: Callable[[Sequence[Base]], bytes] = _encoder.encode
"""Encode the payload of a frame: any messages of one conversation, in order."""


_DEPTHS = (500, 200, 80, 30, 10)
"""Depths to try for a frame that could not be decoded whole: the first for which this stack has enough room is used."""


UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError)
"""Exceptions that decoding raises if the bytes are not a message: malformed, of another kind, or nested too deeply."""


def _decode_shallow(
    decode: Callable[[bytes], list[Any]], payload: bytes | bytearray | memoryview, error: RecursionError
) -> list[Any]:
    """Decode a frame with a value that is nested too deeply: only the message with that value is lost."""
    for depth in _DEPTHS:
        try:
            return decode(sealed(payload, depth))
        except RecursionError:
            continue
    raise error


Payload: TypeAlias = bytes | bytearray | memoryview
DecodeFrame: TypeAlias = Callable[[Payload], list[Any]]


def _decode_of(kind: Any) -> Callable[[Payload], Any]:
    """Return a function that decodes one type.

    Its decoder is made at the first call, because that takes milliseconds, and no process receives all types.
    """
    decode: Callable[[Payload], Any] | None = None

    def made(payload: Payload) -> Any:
        nonlocal decode
        if decode is None:
            decode = msgspec.msgpack.Decoder(kind).decode
        return decode(payload)

    return made


def _decoder(union: Any) -> DecodeFrame:
    kind: Any = list[union]
    decode: DecodeFrame = _decode_of(kind)

    def checked(payload: Payload) -> list[Any]:
        try:
            try:
                return decode(payload)
            except RecursionError as error:
                return _decode_shallow(decode, payload, error)
        except UNREADABLE as error:
            raise GarbageFrame(
                f"a frame of {len(payload):,} bytes does not decode to messages ({error}). "
                f"The other end does not speak mob, or speaks another version of it."
            ) from error

    return checked


decode_peer: DecodeFrame = _decoder(PeerMessage | float)
"""Decode a frame between peers; it may begin with the time at which it was sent (monotonic seconds of this machine)."""
decode_letter: Callable[[bytes], Letter] = _decode_of(Letter)
"""Decode a letter from a Kingpin of any version; raises msgspec's exceptions."""
decode_words: Callable[[bytes], Any] = _decode_of(Words)
"""Decode the body of a letter of this version."""
pack: Callable[[Base], bytes] = _encoder.encode
"""Encode one message without a frame: letters, and their bodies."""
decode_up: DecodeFrame = _decoder(Up)
decode_down: DecodeFrame = _decoder(Down)
decode_order: DecodeFrame = _decoder(ForkOrder)
decode_report: DecodeFrame = _decoder(ForkReport)
decode_vital: DecodeFrame = _decoder(Vital)
decode_heed: DecodeFrame = _decoder(Heed)
