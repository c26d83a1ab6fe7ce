"""What the Kingpin knows and shows to whoever asks: who is there, how it goes, what has happened and was printed."""

from __future__ import annotations

from mob.plan import place_name
from mob.wire.messages.base import Base


class Row(Base, frozen=True):
    """One line of `mob ps`: a place of a role, and the process in it."""

    role: str
    index: int
    pid: int
    """0 if there is no process."""
    state: str
    """Of the process: "launching", "booting", "ready" or "draining". Of a place without one: "held", "failing"
    (another try follows), "failed" (its role is given up) or "empty"."""
    uptime: float
    """Seconds since the process was launched."""
    restarts: int
    """How many processes of this place were revived."""
    calls: int
    """Calls and HTTP requests that the process has served."""
    note: str
    """Why it is so, if there is something to say; "" if not."""
    shared: int = 0
    """Bytes of large buffers in shared memory."""


class RoleReadiness(Base, frozen=True):
    """Whether a role can take work."""

    name: str
    ready: int
    """How many of its workers are ready, on this machine."""
    wanted: int
    """How many workers it is to have here."""
    is_ready: bool
    """Whether one is ready, or none is needed."""
    why: str = ""
    """Why not."""


class ExportMetrics(Base, frozen=True):
    """All calls of an export since the app was started, whoever has served them. Counts of times are by the ranges of
    `core.latency.BOUNDS`, and one more for what is beyond the last."""

    role: str
    export: str
    waited: tuple[int, ...]
    """Counts of calls by the time that they waited in their worker."""
    waited_seconds: float
    """All of these times together."""
    ran: tuple[int, ...]
    """Counts of calls by the time that they ran."""
    ran_seconds: float
    """All of these times together."""
    failed: dict[str, int]
    """Answered with an error, by its kind."""
    unserved: dict[str, int]
    """Ended without an answer, by kind of error, as their callers have seen it."""
    in_flight: int = 0
    """Calls that have begun and not ended, as of the last beats."""

    @property
    def calls(self) -> int:
        """Calls that have ended."""
        return sum(self.ran)

    @property
    def failures(self) -> int:
        """Calls that have failed, one way or another."""
        return sum(self.failed.values()) + sum(self.unserved.values())


class MobsterMetrics(Base, frozen=True):
    """How it goes with one mobster, by its last beat."""

    uid: int
    role: str
    index: int
    pid: int
    generation: int
    state: str
    """As in `Row`."""
    uptime: float
    """Seconds since it was launched."""
    restarts: int
    """How many processes of its place were revived."""
    calls: int
    """Calls and HTTP requests that it has served."""
    in_hand: int
    """Calls, messages and HTTP requests that it has accepted and not finished."""
    waiting: int
    """Calls that wait in it until they may begin."""
    cpu: float
    """Seconds of processor time."""
    load: float
    """Processor time per second, in the last seconds: 1.0 is a whole core."""
    memory: int
    """Bytes of resident memory."""
    shared: int
    """Bytes of large buffers in shared memory."""
    lag: float
    """Seconds by which its event loop is late."""
    stuck: float
    """Seconds for which its event loop has been blocked; 0 if it is not."""
    connections: dict[str, int]
    """Open connections on shared ports, by address."""
    traffic: dict[int, float]
    """Messages per second that come in, by the uid of their sender."""
    note: str = ""
    open_requests: int = 0
    """HTTP requests that have begun and not ended."""


class RoleMetrics(Base, frozen=True):
    """How it goes with a role."""

    name: str
    target: int
    """How many workers there are to be."""
    ready: int
    """How many of them may be given work."""
    launches: int
    """Processes that were launched since the app was started."""
    crashes: int
    """Processes that have died unasked since then."""
    parked: int
    """Calls that wait in their callers for a worker."""
    failing: str = ""
    """Why its workers cannot start; "" if they can."""
    parked_bytes: int = 0
    """What the arguments of those calls take."""
    requests: dict[str, int] = {}
    """HTTP requests served since the app was started, by the class of their status ("2xx")."""
    spares: int | None = None
    """How many spares wait to take the place of a worker that dies; None if the role has none."""


class CallerMetrics(Base, frozen=True):
    """Calls of one process that wait there for a worker of one role."""

    pid: int
    role: str
    """The caller's own role; nothing if it is a client."""
    index: int
    waits_for: str
    """The role that they are for."""
    calls: int
    bytes: int
    """What their arguments take."""

    @property
    def name(self) -> str:
        """As people read it: `front.0 (pid 4242)`, `client (pid 4242)`."""
        return f"{place_name(self.role, self.index)} (pid {self.pid})" if self.role else f"client (pid {self.pid})"


class AppSample(Base, frozen=True):
    """One value of a metric of the application's own."""

    role: str
    """The role whose workers have counted it."""
    labels: tuple[str, ...]
    """The values of its labels, in the order of `AppMetric.labels`."""
    value: float
    """Of a counter: the total since the app was started. Of a gauge: its value. Of a histogram: the sum of all
    observations."""
    counts: tuple[int, ...] = ()
    """Of a histogram: the observations in each bucket, the last one for those beyond all bounds."""
    index: int = -1
    """Of a gauge with `across="each"`: the worker's index."""
    pid: int = 0
    """Of a gauge with `across="each"`: the worker's process id."""


class AppMetric(Base, frozen=True):
    """A metric of the application's own: a `mob.counter`, `mob.gauge` or `mob.histogram`."""

    name: str
    """As it was declared; a counter is exposed as `name_total`."""
    kind: str
    """"counter", "gauge" or "histogram"."""
    help: str
    labels: tuple[str, ...]
    """The names of its labels."""
    bounds: tuple[float, ...]
    """Of a histogram: the upper bounds of its buckets, without +Inf."""
    samples: tuple[AppSample, ...]


class TimerMetrics(Base, frozen=True):
    """How it goes with one timer (`mob.every`, `mob.cron`)."""

    role: str
    name: str
    schedule: str
    """As people read it: `every 60 s`, `*/5 8-18 * * mon-fri (Europe/Berlin)`."""
    next: float
    """When its next run is due, in seconds since the epoch; 0 if it is not known."""
    last: float = 0.0
    """When its last run began that has ended, in seconds since the epoch; 0 if none has."""
    seconds: float = 0.0
    """How long that run took."""
    outcome: str = ""
    """How it ended: "ok", "failed" (it raised) or "lost" (its worker ended first); "" if none has ended."""
    error: str = ""
    """What it raised, or how its worker ended."""
    running: int = 0
    """Runs at this moment."""
    runs: dict[str, int] = {}
    """Runs since the app was started, by outcome; "missed" are those that never began."""
    note: str = ""
    """Why it does not run here or now, if there is something to say."""
    is_here: bool = True
    """Whether this machine of a cluster runs it; always, if there is but one."""

    @property
    def label(self) -> str:
        """As commands take it: `back.report`."""
        return f"{self.role}.{self.name}"


class Metrics(Base, frozen=True):
    """How everything goes."""

    app: str
    kingpin_pid: int
    uptime: float
    """Seconds since the app was started."""
    cpu: float
    """Seconds of processor time of the Kingpin."""
    memory: int
    """Bytes of resident memory of the Kingpin."""
    roles: tuple[RoleMetrics, ...]
    mobsters: tuple[MobsterMetrics, ...]
    exports: tuple[ExportMetrics, ...]
    clients: int
    """Processes from outside that are connected."""
    dropped_lines: int = 0
    """Of what mobsters have printed: lines that could not be shown, for they were too many."""
    callers: tuple[CallerMetrics, ...] = ()
    """Processes whose calls wait for a worker; the one with most calls first."""
    lacks: str = ""
    """What the Kingpin cannot do at the moment, for want of descriptors, memory or room, and tries again; "" if it can
    do everything."""
    custom: tuple[AppMetric, ...] = ()
    """The metrics of the application's own, by name."""
    timers: tuple[TimerMetrics, ...] = ()
    """The timers of the roles, in the order in which the roles were declared."""
    titles: str = "mob"
    """The style of the process titles: "mob" or "plain"."""

    def value(self, name: str, **labels: str) -> float:
        """Return the sum of one of the application's own metrics over all samples that have these labels; 0.0 if there
        are none.

        Args:
            name: as the metric was declared.
            labels: values of its labels; `role` counts as one. Labels that are left out may have any value.

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
    """A role in a few seconds of its past."""

    at: float
    """Their end, in monotonic seconds of this machine."""
    seconds: float
    role: str
    calls: int
    """Calls that ended in this time."""
    failures: int
    """Those of them that failed."""
    queue: int
    """Calls that waited at the end: in callers and workers."""
    in_hand: int
    """Calls, messages and HTTP requests that were accepted and not finished at the end."""
    p50: float
    """Seconds that half of the calls ran at most."""
    p99: float
    """Seconds that all but one in a hundred ran at most."""


class Event(Base, frozen=True):
    """Something has happened to the app."""

    at: float
    """When, in monotonic seconds of this machine."""
    kind: str
    """"exit", "crash", "hang", "reload", "recycle", "restart", "scale", "stop", "debug" or "note"."""
    text: str
    """As the log has it."""


class History(Base, frozen=True):
    """The past quarter of an hour, as `Client.history` returns it."""

    now: float
    """The time of the answer, in monotonic seconds of the machine; for `history(since=...)` the next time."""
    points: tuple[Point, ...]
    """For each role and five seconds one, oldest first."""
    events: tuple[Event, ...]
    """What has happened, oldest first."""


class Line(Base, frozen=True):
    """A line that was printed."""

    at: float
    """Seconds since the epoch."""
    role: str
    """"kingpin" for the Kingpin's own words; "" where lines are missing, and then `text` says how many."""
    index: int
    pid: int
    is_error: bool
    """Whether it came on stderr."""
    text: str
    """Without the newline at its end."""
