"""What the Kingpin reports on request: members, measurements, past events and printed lines."""

from __future__ import annotations

from mob.plan import place_name
from mob.wire.messages.base import Base


class Row(Base, frozen=True):
    """One line of `mob ps`: a place of a role, and the process in it."""

    role: str
    index: int
    pid: int
    """Process id; 0 if there is no process."""
    state: str
    """State of the process: "launching", "booting", "ready" or "draining".

    Of a place without one: "held", "failing" (another try follows), "failed" (its role is given up) or "empty".
    """
    uptime: float
    """Seconds since the process was launched."""
    restarts: int
    """Number of restarts in this place."""
    calls: int
    """Calls and HTTP requests that the process served."""
    note: str
    """Reason for the state, if there is something to say; else ""."""
    shared: int = 0
    """Bytes of large buffers in shared memory."""


class RoleReadiness(Base, frozen=True):
    """The readiness of a role for work."""

    name: str
    ready: int
    """Number of its ready workers on this machine."""
    wanted: int
    """Number of workers that it should have here."""
    is_ready: bool
    """True if a worker is ready, or none is needed."""
    why: str = ""
    """Why it is not ready; "" if it is."""


class ExportMetrics(Base, frozen=True):
    """All calls of an export since the app was started, in all workers.

    Counts of times are by the ranges of `core.latency.BOUNDS`, plus one for everything beyond the last.
    """

    role: str
    export: str
    waited: tuple[int, ...]
    """Numbers of calls by the time that they waited in their worker."""
    waited_seconds: float
    """Sum of these times, in seconds."""
    ran: tuple[int, ...]
    """Numbers of calls by the time that they ran."""
    ran_seconds: float
    """Sum of these times, in seconds."""
    failed: dict[str, int]
    """Number of calls answered with an error, by kind of error."""
    unserved: dict[str, int]
    """Number of calls that ended without an answer, by kind of error, as reported by their callers."""
    in_flight: int = 0
    """Calls that began and did not end yet, as of the last heartbeats."""

    @property
    def calls(self) -> int:
        """Number of calls that ended."""
        return sum(self.ran)

    @property
    def failures(self) -> int:
        """Number of calls that failed in any way."""
        return sum(self.failed.values()) + sum(self.unserved.values())


class MobsterMetrics(Base, frozen=True):
    """The measurements of one mobster, as of its last heartbeat."""

    uid: int
    role: str
    index: int
    pid: int
    generation: int
    state: str
    """State, as in `Row`."""
    uptime: float
    """Seconds since it was launched."""
    restarts: int
    """Number of restarts in its place."""
    calls: int
    """Calls and HTTP requests that it served."""
    in_hand: int
    """Calls, messages and HTTP requests that it accepted and did not finish yet."""
    waiting: int
    """Calls that wait in it until they may begin."""
    cpu: float
    """CPU time in seconds."""
    load: float
    """CPU time per second, over the last seconds: 1.0 is a whole core."""
    memory: int
    """Resident memory in bytes."""
    shared: int
    """Bytes of large buffers in shared memory."""
    lag: float
    """Seconds by which its event loop is late."""
    stuck: float
    """Seconds for which its event loop has been blocked; 0 if it is not."""
    connections: dict[str, int]
    """Open connections on shared ports, by address."""
    traffic: dict[int, float]
    """Messages received per second, by the uid of their sender."""
    note: str = ""
    open_requests: int = 0
    """HTTP requests that began and did not end yet."""


class RoleMetrics(Base, frozen=True):
    """The measurements of a role."""

    name: str
    target: int
    """Number of workers that it should have."""
    ready: int
    """Number of workers that accept work."""
    launches: int
    """Processes launched since the app was started."""
    crashes: int
    """Processes that crashed since then."""
    parked: int
    """Calls that wait in their callers for a worker."""
    failing: str = ""
    """Why its workers cannot start; "" if they can."""
    parked_bytes: int = 0
    """Size of the arguments of those calls in bytes."""
    requests: dict[str, int] = {}
    """HTTP requests served since the app was started, by the class of their status ("2xx")."""
    spares: int | None = None
    """Number of spares that wait to replace a worker that dies; None if the role has none."""


class CallerMetrics(Base, frozen=True):
    """Calls of one process that wait there for a worker of one role."""

    pid: int
    role: str
    """The caller's own role; "" if it is a client."""
    index: int
    waits_for: str
    """The role that the calls are for."""
    calls: int
    bytes: int
    """Size of their arguments in bytes."""

    @property
    def name(self) -> str:
        """Name for people: `front.0 (pid 4242)`, `client (pid 4242)`."""
        return f"{place_name(self.role, self.index)} (pid {self.pid})" if self.role else f"client (pid {self.pid})"


class AppSample(Base, frozen=True):
    """One value of a metric of the application's own."""

    role: str
    """The role whose workers counted it."""
    labels: tuple[str, ...]
    """Values of its labels, in the order of `AppMetric.labels`."""
    value: float
    """Total of a counter since the app was started, value of a gauge, or sum of all observations of a histogram."""
    counts: tuple[int, ...] = ()
    """Only for a histogram: the observations in each bucket, the last one for those beyond all bounds."""
    index: int = -1
    """Only for a gauge with `across="each"`: the worker's index."""
    pid: int = 0
    """Only for a gauge with `across="each"`: the worker's process id."""


class AppMetric(Base, frozen=True):
    """A metric of the application's own: a `mob.counter`, `mob.gauge` or `mob.histogram`."""

    name: str
    """Name as it was declared; a counter is exposed as `name_total`."""
    kind: str
    """Kind: "counter", "gauge" or "histogram"."""
    help: str
    labels: tuple[str, ...]
    """Names of its labels."""
    bounds: tuple[float, ...]
    """Only for a histogram: the upper bounds of its buckets, without +Inf."""
    samples: tuple[AppSample, ...]


class TimerMetrics(Base, frozen=True):
    """The state of one timer (`mob.every`, `mob.cron`)."""

    role: str
    name: str
    schedule: str
    """Schedule for people: `every 60 s`, `*/5 8-18 * * mon-fri (Europe/Berlin)`."""
    next: float
    """When its next run is due, in seconds since the epoch; 0 if unknown."""
    last: float = 0.0
    """When the last finished run began, in seconds since the epoch; 0 if none finished."""
    seconds: float = 0.0
    """Duration of that run in seconds."""
    outcome: str = ""
    """Outcome of that run: "ok", "failed" (it raised) or "lost" (its worker ended first); "" if none finished."""
    error: str = ""
    """The exception that it raised, or how its worker ended."""
    running: int = 0
    """Number of current runs."""
    runs: dict[str, int] = {}
    """Runs since the app was started, by outcome; "missed" are those that never began."""
    note: str = ""
    """Why it does not run here or now; "" if there is nothing to say."""
    is_here: bool = True
    """True if this machine of a cluster runs it; always True on a single machine."""

    @property
    def label(self) -> str:
        """Name as commands take it: `back.report`."""
        return f"{self.role}.{self.name}"


class Metrics(Base, frozen=True):
    """All measurements of an app."""

    app: str
    kingpin_pid: int
    uptime: float
    """Seconds since the app was started."""
    cpu: float
    """CPU time of the Kingpin in seconds."""
    memory: int
    """Resident memory of the Kingpin in bytes."""
    roles: tuple[RoleMetrics, ...]
    mobsters: tuple[MobsterMetrics, ...]
    exports: tuple[ExportMetrics, ...]
    clients: int
    """Number of connected clients."""
    dropped_lines: int = 0
    """Lines printed by mobsters that were not shown, because there were too many."""
    callers: tuple[CallerMetrics, ...] = ()
    """Processes whose calls wait for a worker; the one with most calls first."""
    lacks: str = ""
    """What the Kingpin cannot do at the moment, because it lacks file descriptors, memory or disk space.

    It keeps trying; "" if it lacks nothing.
    """
    custom: tuple[AppMetric, ...] = ()
    """Metrics of the application's own, by name."""
    timers: tuple[TimerMetrics, ...] = ()
    """Timers of the roles, in the order in which the roles were declared."""
    titles: str = "mob"
    """The style of the process titles: "mob" or "plain"."""

    def value(self, name: str, **labels: str) -> float:
        """Return the sum of one of the application's own metrics over all samples with these labels.

        Args:
            name: The metric's name, as it was declared.
            **labels: Values of its labels; `role` counts as one. Labels that are left out may have any value.

        Returns:
            The sum; 0.0 if there are no such samples.

        Example:
            >>> sample = AppSample("shop", ("card",), 3.0)
            >>> orders = AppMetric("orders", "counter", "", ("payment",), (), (sample,))
            >>> Metrics("myapp", 1, 2.0, 0.5, 1000, (), (), (), 1, custom=(orders,)).value("orders", payment="card")
            3.0
        """
        found = 0.0
        for metric in self.custom:
            if metric.name == name:
                for each in metric.samples:
                    has = {**dict(zip(metric.labels, each.labels, strict=True)), "role": each.role}
                    found += each.value if labels.items() <= has.items() else 0.0
        return found


class Point(Base, frozen=True):
    """A role during a few seconds of its past."""

    at: float
    """End of the interval, in monotonic seconds of this machine."""
    seconds: float
    """Length of the interval in seconds."""
    role: str
    calls: int
    """Calls that ended in the interval."""
    failures: int
    """Calls among them that failed."""
    queue: int
    """Calls that waited at the end of the interval: in callers and workers."""
    in_hand: int
    """Calls, messages and HTTP requests that were accepted and not finished at the end of the interval."""
    p50: float
    """Median of the running times of the calls, in seconds."""
    p99: float
    """99th percentile of the running times of the calls, in seconds."""


class Event(Base, frozen=True):
    """Something that happened to the app."""

    at: float
    """When it happened, in monotonic seconds of this machine."""
    kind: str
    """Kind: "exit", "crash", "hang", "reload", "recycle", "restart", "scale", "stop", "debug" or "note"."""
    text: str
    """Text, as in the log."""


class History(Base, frozen=True):
    """The past quarter of an hour, as `Client.history` returns it."""

    now: float
    """Time of the answer, in monotonic seconds of the machine; pass it to the next `history(since=...)`."""
    points: tuple[Point, ...]
    """One point for each role and five seconds, oldest first."""
    events: tuple[Event, ...]
    """Events, oldest first."""


class Line(Base, frozen=True):
    """A line that was printed."""

    at: float
    """Seconds since the epoch."""
    role: str
    """Role that printed it; "kingpin" for the Kingpin's own lines; "" where lines are missing: `text` says how many."""
    index: int
    pid: int
    is_error: bool
    """True if it came on stderr."""
    text: str
    """Text without the newline at its end."""
