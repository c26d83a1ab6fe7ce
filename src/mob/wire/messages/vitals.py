"""Messages between a mobster's liveness thread and the Kingpin, on the liveness socket."""

from __future__ import annotations

from mob.wire.messages.base import Base


class Running(Base, frozen=True):
    """A call that is being served: its name, its running time in seconds, and its caller."""

    label: str
    """Name for people: `back.foo`."""
    seconds: float
    caller: str
    """The process that made the call: `front.0 (pid 4242)`."""


class Tally(Base, frozen=True):
    """The calls of one export since the previous heartbeat.

    Times are counted by the range of `core.latency.BOUNDS` that they fall into.
    """

    export: str
    waited: dict[int, int] = {}
    """Calls that began, by the time from their arrival until then."""
    waited_seconds: float = 0.0
    ran: dict[int, int] = {}
    """Calls that ended, by the time that they ran."""
    ran_seconds: float = 0.0
    failed: dict[str, int] = {}
    """Calls that were answered with an error, by kind of error."""


class Beat(Base, frozen=True, tag=29):
    """A heartbeat on the liveness socket, with the latest measurements."""

    calls: int = 0
    """Calls served since the start."""
    shared: int = 0
    """Bytes of shared memory in use."""
    memory: int = 0
    """Resident memory in bytes."""
    stuck: float = 0.0
    """Seconds for which the event loop has been blocked."""
    allowed: float = 0.0
    """Seconds that the export running on the loop may take by its own declaration; 0 if it declares none."""
    in_hand: int = 0
    """Calls, messages and HTTP requests that were accepted and not finished yet."""
    parked: dict[str, int] = {}
    """Calls of this process that wait for a worker, by role."""
    running: tuple[Running, ...] = ()
    """Calls that are being served, oldest first; not all of them if there are many."""
    waiting: int = 0
    """Calls that wait here until they may begin, and have to wait for some time."""
    cpu: float = 0.0
    """CPU time since the start, in seconds."""
    lag: float = 0.0
    """Seconds by which the event loop was late at the last check."""
    tallies: tuple[Tally, ...] = ()
    """Tallies of the exports that were called since the previous heartbeat."""
    unserved: dict[str, dict[str, int]] = {}
    """Calls made here that ended without an answer since the previous heartbeat: by export ("back.foo") and error."""
    traffic: dict[int, int] = {}
    """Messages received since the previous heartbeat, by the uid of their sender."""
    connections: dict[str, int] = {}
    """Open connections that came in on shared ports, by address."""
    parked_bytes: dict[str, int] = {}
    """Size in bytes of the arguments of the calls in `parked`, by role."""
    flight: dict[str, int] = {}
    """Calls that began and did not end yet, by export."""
    open_requests: int = 0
    """HTTP requests that began and did not end yet; `in_hand` includes them."""
    requests: dict[str, int] = {}
    """HTTP requests that ended since the start, by the class of their status ("2xx")."""
    blocked: str = ""
    """Where the role's module has been for some seconds, if it is not ready.

    Or "waits for ...": what it needs before it can begin its work.
    """

    @property
    def waits_for(self) -> str:
        """Text that says what the process needs before it can begin its work; "" if it needs nothing."""
        return self.blocked if self.blocked.startswith("waits for ") else ""


class MetricSpec(Base, frozen=True):
    """The declaration of one of the application's own metrics."""

    name: str
    kind: str
    """Kind: "counter", "gauge" or "histogram"."""
    help: str = ""
    labels: tuple[str, ...] = ()
    """Names of its labels."""
    bounds: tuple[float, ...] = ()
    """Only for a histogram: the upper bounds of its buckets, ascending, without +Inf."""
    across: str = ""
    """Only for a gauge: how values of several workers are combined: "sum", "max", "min", or "each" if they are not."""


class SampleNews(Base, frozen=True):
    """The change of one set of labels since the previous message."""

    labels: tuple[str, ...]
    """Values of the labels, in the order of their names."""
    number: float
    """Increase of a counter, value of a gauge, or sum of the new observations of a histogram."""
    counts: dict[int, int] = {}
    """Only for a histogram: the number of new observations in each bucket, by its position."""


class MetricNews(Base, frozen=True):
    """The change of one metric since the previous message."""

    spec: MetricSpec
    samples: tuple[SampleNews, ...]


class Counted(Base, frozen=True, tag=140):
    """The changes of the application's own metrics since the previous message, behind a heartbeat.

    Sent on the liveness socket, and only if something changed.
    """

    metrics: tuple[MetricNews, ...]


class Inspection(Base, frozen=True, tag=30):
    """On the liveness socket: the answer to `Inspect`."""

    stacks: str


class Inspect(Base, frozen=True, tag=52):
    """On the liveness socket: report where the process is blocked, because it will be killed."""


class Prolong(Base, frozen=True, tag=106):
    """On the liveness socket: the lease of this singleton holds until then, by the clock of `rim.expiry`."""

    until: float


Heed = Inspect | Prolong
"""Messages to a mobster's liveness thread."""

Vital = Beat | Counted | Inspection
"""Messages from a mobster's liveness thread."""
