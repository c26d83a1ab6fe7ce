"""What a mobster or a client says to the Kingpin, on the control link."""

from __future__ import annotations

from mob.wire.messages.base import Base
from mob.wire.messages.cluster import Arriving, Connected, Heard, Hung, LeaseIs, LeftIs, OpenGateway, Taken
from mob.wire.messages.roster import ExportInfo


class Hello(Base, frozen=True, tag=20):
    """A client's first word."""

    protocol: int
    pid: int


class Ready(Base, frozen=True, tag=21):
    """The role's module is up, or it listens on a shared port; these are its exports. May be said again."""

    pid: int
    exports: tuple[ExportInfo, ...]
    complete: bool
    """False while the module still runs and may define more."""
    hears: bool = True
    """Whether it has a handler of messages."""


class BootFailed(Base, frozen=True, tag=22):
    """The role's module could not be imported, or a handler of `ready` has raised; the process ends."""

    report: str
    is_unfit: bool = False
    """Whether it is a spare whose module cannot wait, so that another one would end in the same way."""


class CanariesSent(Base, frozen=True, tag=150):
    """Their end tells that I end, before the kernel has freed my memory. Takes `count` descriptors."""

    count: int


CLIENTS = "@clients"
"""Instead of a role: the clients. Whoever has asked for them hears of each, others of those they are linked to."""


class WantRole(Base, frozen=True, tag=23):
    """Introduce me to every worker of the role, now and in future. "*" is every role."""

    role: str


class WantMember(Base, frozen=True, tag=24):
    """Introduce me to one process; `again` if the link that there was has broken."""

    uid: int
    again: bool = False


class SocketAddress(Base, frozen=True):
    """Where to listen. `host` is an IP address or a Unix socket's path; `numbers` are the port and what follows it."""

    family: int
    host: str
    numbers: tuple[int, ...]

    def has_free_port(self) -> bool:
        """Whether any free port will do."""
        return self.numbers[:1] == (0,)


class Bind(Base, frozen=True, tag=25):
    """I want to listen here. `nth` counts the sockets that listen on port 0; `mode` is that of a socket file, or -1."""

    id: int
    address: SocketAddress
    v6only: bool
    nth: int
    mode: int = -1


class Unbind(Base, frozen=True, tag=26):
    """I do not listen there after all, or not any more; as in the `Bind`. `serves`: I have served from there, and the
    queue may be my successor's."""

    id: int
    address: SocketAddress
    nth: int
    serves: bool = False


class Overview(Base, frozen=True, tag=27):
    """Show me the table of `mob ps`."""

    id: int


class Draining(Base, frozen=True, tag=28):
    """I was asked by somebody else to end (a signal), or I have failed, or end by myself: announce it, send me nothing
    new. `by_itself`: nobody has asked (`mob.exit`), so my exit status counts as that of any process."""

    by_itself: bool = False


class Scale(Base, frozen=True, tag=31):
    """Have so many workers of a role; or, if `relative`, so many more or less."""

    id: int
    role: str
    count: int
    relative: bool = False


class Reload(Base, frozen=True, tag=32):
    """Replace the workers of these roles (none: of all) one after the other by new ones, with new code."""

    id: int
    roles: tuple[str, ...]


class Upgrade(Base, frozen=True, tag=34):
    """Let a Kingpin with new code take the place of this one."""

    id: int


class WantCrash(Base, frozen=True, tag=33):
    """What was the last crash of my role?"""

    id: int


class HearCrashes(Base, frozen=True, tag=143):
    """I have a handler of `crash`: tell me of each worker that dies out of order from now on, by `Crashed`."""


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
    """End a call that I have made, whatever it does: kill the process of that uid if it runs it, else see that it does
    not begin. Answered by `Done` with a `Fate`."""

    id: int
    uid: int
    number: int
    """The id of the call on the link between the two."""


class HandsOver(Base, frozen=True, tag=161):
    """I have a handler that returns what I leave to my successor."""


class WantInheritance(Base, frozen=True, tag=162):
    """I am about to start: what has the one before me left? Answered by `Inheritance`."""

    id: int


class HandedOver(Base, frozen=True, tag=163):
    """This is what I leave, `size` bytes. Takes a descriptor; none if there is an `error`, which says why not."""

    error: str = ""
    size: int = 0


class WatchCall(Base, frozen=True, tag=160):
    """I run a call that must have ended by `deadline` (monotonic seconds): look at my entry of the board then."""

    deadline: float


class WantStacks(Base, frozen=True, tag=37):
    """Where does this mobster stand? Answered by `Done`."""

    id: int
    uid: int


class WantMetrics(Base, frozen=True, tag=38):
    """How does everything go?"""

    id: int


class WantReadiness(Base, frozen=True, tag=141):
    """Can each role take work? Answered by `ReadinessIs`."""

    id: int


class WantHistory(Base, frozen=True, tag=39):
    """What was measured, and what has happened, since that time (monotonic seconds of this machine)?"""

    id: int
    since: float = 0.0


class WantTerminal(Base, frozen=True, tag=110):
    """I stand at a `breakpoint()`, `where` tells which one: give me your terminal. I wait as long as it takes."""

    id: int
    where: str


class ReturnTerminal(Base, frozen=True, tag=111):
    """I do not want the terminal any more that I have asked for by the `WantTerminal` of that id."""

    id: int


class WantCrashes(Base, frozen=True, tag=120):
    """The latest reports of crashes, so many."""

    id: int
    number: int


class Follow(Base, frozen=True, tag=54):
    """Send me what mobsters print: of a role (or of its place `index`), of a pid, or all. First the `last` lines that
    there are; then, if `goes_on`, what follows, until `Unfollow`."""

    id: int
    role: str = ""
    pid: int = 0
    last: int = 0
    goes_on: bool = False
    index: int = -1


class Unfollow(Base, frozen=True, tag=55):
    """I have seen enough of what I asked for by the `Follow` of that id."""

    id: int


class WantQueue(Base, frozen=True, tag=124):
    """Something durable is to be kept: start the role that does so, unless it is there. Answered by `Done`."""

    id: int


class Parked(Base, frozen=True, tag=122):
    """A client's calls that wait for a worker, and their bytes, by role; empty when none waits any more. Repeated once
    a second while something waits. A mobster says the same in its `Beat`."""

    calls: dict[str, int] = {}
    bytes: dict[str, int] = {}


class TimerInfo(Base, frozen=True):
    """A timer, as the module of a role has declared it."""

    name: str
    every: float = 0.0
    """Seconds between two runs; 0 if it goes by a cron line."""
    line: str = ""
    """A cron line."""
    zone: str = ""
    """The time zone of that line; "" is the machine's own."""
    jitter: float = 0.0
    """Seconds by which a run is put off at most, by chance."""
    overlap: int = 1
    """How many runs there may be at a time; 0 is any number."""
    each: bool = False
    """Whether every worker runs it."""
    first: float | None = None
    """Seconds until the first run, if that is not `every`."""
    max_late: float | None = None
    """Seconds by which a run may begin too late at most."""

    @property
    def schedule(self) -> str:
        """When it runs, as people read it."""
        if self.line:
            return f"{self.line} ({self.zone})" if self.zone else self.line
        return f"every {self.every:g} s"


class TimersAre(Base, frozen=True, tag=130):
    """My role's module has declared these timers. Said before `Ready`, and not at all if there are none."""

    timers: tuple[TimerInfo, ...]


class TimerRan(Base, frozen=True, tag=131):
    """The run of that number (`BeginRun`) has ended; `error` says what it raised, if it did."""

    number: int
    error: str = ""
    took: float = -1.0
    """Seconds since the function was called; -1 if it was not."""


class RunTimer(Base, frozen=True, tag=132):
    """Run this timer now. Answered by `Done` when the run has ended."""

    id: int
    role: str
    name: str


class RoomForRun(Base, frozen=True, tag=136):
    """The answer to `RunWaits`, once it is so: I can begin that timer at once. Answered by `BeginRun` or `NoRun`."""

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
