"""What a mobster's liveness thread and the Kingpin say to each other, on the liveness socket."""

from __future__ import annotations

from mob.wire.messages.base import Base


class Running(Base, frozen=True):
    """A call that is being served: what, for how many seconds, and for whom."""

    label: str
    """As people read it: `back.foo`."""
    seconds: float
    caller: str
    """The process that has made the call: `front.0 (pid 4242)`."""


class Tally(Base, frozen=True):
    """What became of the calls of one export since the beat before. Counts are by the range of `core.latency.BOUNDS`
    that a time fell into."""

    export: str
    waited: dict[int, int] = {}
    """Calls that have begun, by the time from their arrival until then."""
    waited_seconds: float = 0.0
    ran: dict[int, int] = {}
    """Calls that have ended, by the time that they ran."""
    ran_seconds: float = 0.0
    failed: dict[str, int] = {}
    """Calls that were answered with an error, by its kind."""


class Beat(Base, frozen=True, tag=29):
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
    """Calls, messages and HTTP requests that were accepted and not finished."""
    parked: dict[str, int] = {}
    """Calls of this process that wait for a worker, by role."""
    running: tuple[Running, ...] = ()
    """The calls that are being served, oldest first; not all if they are many."""
    waiting: int = 0
    """Calls that wait here until they may begin, and have to wait for some time."""
    cpu: float = 0.0
    """Seconds of processor time since the start."""
    lag: float = 0.0
    """Seconds by which the loop came round too late when it was asked last."""
    tallies: tuple[Tally, ...] = ()
    """Of the exports that were called since the beat before."""
    unserved: dict[str, dict[str, int]] = {}
    """Calls made here that ended without an answer since the beat before: of what ("back.foo"), by kind of error."""
    traffic: dict[int, int] = {}
    """Messages that have come in since the beat before, by the uid of their sender."""
    connections: dict[str, int] = {}
    """Open connections that came in on shared ports, by address."""
    parked_bytes: dict[str, int] = {}
    """What the arguments of the calls in `parked` take, by role."""
    flight: dict[str, int] = {}
    """Calls that have begun and not ended, by export."""
    open_requests: int = 0
    """HTTP requests that have begun and not ended; `in_hand` includes them."""
    requests: dict[str, int] = {}
    """HTTP requests that have ended since the start, by the class of their status ("2xx")."""
    blocked: str = ""
    """Where the module of the role has been for some seconds, if it is not ready; or "waits for ...": what it cannot
    begin its work without."""

    @property
    def waits_for(self) -> str:
        """Return what the process cannot begin its work without, in words; "" if it has all."""
        return self.blocked if self.blocked.startswith("waits for ") else ""


class MetricSpec(Base, frozen=True):
    """What the application has declared of one of its own metrics."""

    name: str
    kind: str
    """"counter", "gauge" or "histogram"."""
    help: str = ""
    labels: tuple[str, ...] = ()
    """The names of its labels."""
    bounds: tuple[float, ...] = ()
    """Of a histogram: the upper bounds of its buckets, ascending, without +Inf."""
    across: str = ""
    """Of a gauge: how the values of several workers become one: "sum", "max", "min", or "each" if they do not."""


class SampleNews(Base, frozen=True):
    """What one set of labels has become since the message before."""

    labels: tuple[str, ...]
    """The values of the labels, in the order of their names."""
    number: float
    """Of a counter: by how much it has grown. Of a gauge: its value. Of a histogram: the sum of what was observed."""
    counts: dict[int, int] = {}
    """Of a histogram: how much was observed in each bucket, by its position."""


class MetricNews(Base, frozen=True):
    """What one metric has become since the message before."""

    spec: MetricSpec
    samples: tuple[SampleNews, ...]


class Counted(Base, frozen=True, tag=140):
    """On the liveness socket, behind a beat: what the application has counted in its own metrics since the message
    before. Not sent if nothing has changed."""

    metrics: tuple[MetricNews, ...]


class Inspection(Base, frozen=True, tag=30):
    """On the liveness socket: the answer to `Inspect`."""

    stacks: str


class Inspect(Base, frozen=True, tag=52):
    """On the liveness socket: say where you stand, you will be killed."""


class Prolong(Base, frozen=True, tag=106):
    """On the liveness socket: the lease by which you run holds until then, by the clock of `rim.expiry`."""

    until: float


Heed = Inspect | Prolong
"""What a mobster's liveness thread is told."""

Vital = Beat | Counted | Inspection
"""What a mobster's liveness thread says."""
