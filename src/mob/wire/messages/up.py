"""Messages from a mobster or a client to the Kingpin, on the control link."""

from __future__ import annotations

from mob.wire.messages.base import Base
from mob.wire.messages.cluster import Arriving, Connected, Heard, Hung, LeaseIs, LeftIs, OpenGateway, Taken
from mob.wire.messages.roster import ExportInfo


class Hello(Base, frozen=True, tag=20):
    """The first message of a client."""

    protocol: int
    pid: int


class Ready(Base, frozen=True, tag=21):
    """The role's module is up, or listens on a shared port; these are its exports. May be sent again."""

    pid: int
    exports: tuple[ExportInfo, ...]
    complete: bool
    """False while the module still runs and may define more exports."""
    hears: bool = True
    """True if it has a handler of messages."""


class BootFailed(Base, frozen=True, tag=22):
    """The role's module could not be imported, or a handler of `ready` raised; the process ends."""

    report: str
    is_unfit: bool = False
    """True for a spare whose module cannot wait, so that another spare would end in the same way."""


class CanariesSent(Base, frozen=True, tag=150):
    """Descriptors that close when the sender ends, before the kernel frees its memory. Takes `count` descriptors."""

    count: int


CLIENTS = "@clients"
"""Name for the clients where a role is expected.

A process that asks for them learns of every client, other processes only of the clients that they are linked to.
"""


class WantRole(Base, frozen=True, tag=23):
    """Introduce the sender to every worker of the role, now and in future. "*" is every role."""

    role: str


class WantMember(Base, frozen=True, tag=24):
    """Introduce the sender to one process; `again` if an earlier link broke."""

    uid: int
    again: bool = False


class SocketAddress(Base, frozen=True):
    """An address to listen on: `host` is an IP address or a Unix socket's path, `numbers` are the port and the rest."""

    family: int
    host: str
    numbers: tuple[int, ...]

    def has_free_port(self) -> bool:
        """Return True if any free port will do."""
        return self.numbers[:1] == (0,)


class Bind(Base, frozen=True, tag=25):
    """Open a listening socket. `nth` counts the sockets on port 0; `mode` is that of a socket file, or -1."""

    id: int
    address: SocketAddress
    v6only: bool
    nth: int
    mode: int = -1


class Unbind(Base, frozen=True, tag=26):
    """The sender does not listen there after all, or no longer; the fields are those of the `Bind`.

    `serves`: it served from there, and its queue may be for the successor.
    """

    id: int
    address: SocketAddress
    nth: int
    serves: bool = False


class Overview(Base, frozen=True, tag=27):
    """Return the table of `mob ps`."""

    id: int


class Draining(Base, frozen=True, tag=28):
    """The sender ends: announce it, and send it nothing new.

    It failed, or another process asked it to end (a signal). `by_itself`: it ends without being asked (`mob.exit`), so
    its exit status counts like that of any process.
    """

    by_itself: bool = False


class Scale(Base, frozen=True, tag=31):
    """Set the number of workers of a role; if `relative`, change it by `count`."""

    id: int
    role: str
    count: int
    relative: bool = False


class Reload(Base, frozen=True, tag=32):
    """Replace the workers of these roles (none: of all roles) one by one with new ones that run new code."""

    id: int
    roles: tuple[str, ...]


class Upgrade(Base, frozen=True, tag=34):
    """Replace this Kingpin with one that runs new code."""

    id: int


class WantCrash(Base, frozen=True, tag=33):
    """Return the last crash of the sender's role."""

    id: int


class HearCrashes(Base, frozen=True, tag=143):
    """The sender has a handler of `crash`: report to it each worker that crashes from now on, with `Crashed`."""


class Restart(Base, frozen=True, tag=35):
    """End the workers of these roles, or the one with this pid, all at once, and launch others in their places."""

    id: int
    roles: tuple[str, ...] = ()
    pid: int = 0


class EndApp(Base, frozen=True, tag=36):
    """Stop the app, as the first SIGTERM does; `at_once`: without waiting for anything."""

    id: int
    at_once: bool = False


class KillCall(Base, frozen=True, tag=123):
    """End a call of the sender, whatever it does. Answered by `Done` with a `Fate`.

    Kill the process of that uid if it runs the call, else make sure that the call does not begin.
    """

    id: int
    uid: int
    number: int
    """Id of the call on the link between the two."""


class HandsOver(Base, frozen=True, tag=161):
    """The sender has a handler that returns what it leaves to its successor."""


class WantInheritance(Base, frozen=True, tag=162):
    """The sender is about to start and asks for what its predecessor left. Answered by `Inheritance`."""

    id: int


class HandedOver(Base, frozen=True, tag=163):
    """What the sender leaves, `size` bytes. Takes a descriptor; none if there is an `error`, which says why not."""

    error: str = ""
    size: int = 0


class WatchCall(Base, frozen=True, tag=160):
    """The sender runs a call that must end by `deadline` (monotonic seconds): check its entry of the board then."""

    deadline: float


class WantStacks(Base, frozen=True, tag=37):
    """Return the stacks of this mobster. Answered by `Done`."""

    id: int
    uid: int


class WantMetrics(Base, frozen=True, tag=38):
    """Return all measurements. Answered by `MetricsAre`."""

    id: int


class WantReadiness(Base, frozen=True, tag=141):
    """Return the readiness of each role. Answered by `ReadinessIs`."""

    id: int


class WantHistory(Base, frozen=True, tag=39):
    """Return measurements and events since that time (monotonic seconds of this machine). Answered by `HistoryIs`."""

    id: int
    since: float = 0.0


class WantTerminal(Base, frozen=True, tag=110):
    """The sender is at a `breakpoint()` (`where`) and asks for the terminal. It waits as long as it takes."""

    id: int
    where: str


class ReturnTerminal(Base, frozen=True, tag=111):
    """The sender no longer needs the terminal for which it asked with the `WantTerminal` of that id."""

    id: int


class WantCrashes(Base, frozen=True, tag=120):
    """Return the latest `number` crash reports. Answered by `CrashesAre`."""

    id: int
    number: int


class Follow(Base, frozen=True, tag=54):
    """Send what mobsters print: those of a role (or of its place `index`), of a pid, or all.

    First the `last` lines that exist; then, if `goes_on`, new ones until `Unfollow`.
    """

    id: int
    role: str = ""
    pid: int = 0
    last: int = 0
    goes_on: bool = False
    index: int = -1


class Unfollow(Base, frozen=True, tag=55):
    """The sender needs no more of what it asked for with the `Follow` of that id."""

    id: int


class WantQueue(Base, frozen=True, tag=124):
    """The sender has something durable to store: start the role for it, unless it runs. Answered by `Done`."""

    id: int


class Parked(Base, frozen=True, tag=122):
    """A client's calls that wait for a worker, and their bytes, by role; empty when none waits any longer.

    Repeated once a second while something waits. A mobster says the same in its `Beat`.
    """

    calls: dict[str, int] = {}
    bytes: dict[str, int] = {}


class TimerInfo(Base, frozen=True):
    """A timer, as declared by the module of a role."""

    name: str
    every: float = 0.0
    """Seconds between two runs; 0 if it has a cron line."""
    line: str = ""
    """Cron line; "" if it has none."""
    zone: str = ""
    """Time zone of the cron line; "" is the machine's own."""
    jitter: float = 0.0
    """Maximum random delay of a run in seconds."""
    overlap: int = 1
    """Maximum number of concurrent runs; 0 is any number."""
    each: bool = False
    """True if every worker runs it."""
    first: float | None = None
    """Seconds until the first run; None if they are the same as `every`."""
    max_late: float | None = None
    """Maximum number of seconds by which a run may begin too late; None if there is no limit."""

    @property
    def schedule(self) -> str:
        """Schedule for people."""
        if self.line:
            return f"{self.line} ({self.zone})" if self.zone else self.line
        return f"every {self.every:g} s"


class TimersAre(Base, frozen=True, tag=130):
    """The timers that the role's module declared. Sent before `Ready`, and not at all if there are none."""

    timers: tuple[TimerInfo, ...]


class TimerRan(Base, frozen=True, tag=131):
    """The run of that number (`BeginRun`) ended; `error` is what it raised, if it did."""

    number: int
    error: str = ""
    took: float = -1.0
    """Seconds since the function was called; -1 if it was not."""


class RunTimer(Base, frozen=True, tag=132):
    """Run this timer now. Answered by `Done` when the run ends."""

    id: int
    role: str
    name: str


class RoomForRun(Base, frozen=True, tag=136):
    """The later answer to `RunWaits`: the sender can begin that timer at once. Answered by `BeginRun` or `NoRun`."""

    name: str


Up = (
    Hello
    | Ready
    | BootFailed
    | CanariesSent
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
    | Restart
    | EndApp
    | KillCall
    | WatchCall
    | HandsOver
    | WantInheritance
    | HandedOver
    | WantStacks
    | WantCrashes
    | HearCrashes
    | WantTerminal
    | ReturnTerminal
    | WantMetrics
    | WantHistory
    | WantReadiness
    | WantQueue
    | Follow
    | Unfollow
    | Parked
    | TimersAre
    | TimerRan
    | RunTimer
    | RoomForRun
    | OpenGateway
    | Connected
    | Heard
    | Arriving
    | Hung
    | Taken
    | LeaseIs
    | LeftIs
)
