"""The registry: the measurements of the app, added up from the heartbeats of all mobsters.

It belongs to the Kingpin, so counts survive the mobsters that made them; a mobster that is killed takes its last second
along. Next to the sums since the start there is the past quarter of an hour, as points of a few seconds, with its
events. All of it is bounded: by the number of exports, by `KEPT` and by `MOST_EVENTS`.

Pure: the time is passed in. Nothing here decides anything.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from mob.core import latency
from mob.core.crew import Crew, Process
from mob.core.custom import CustomMetrics, Summed
from mob.core.decisions import Decision, Launch, Record, Tell
from mob.core.states import MobsterState
from mob.wire.messages import (
    Beat,
    CallerMetrics,
    Event,
    ExportMetrics,
    MobsterMetrics,
    Point,
    RoleMetrics,
    Tally,
)

STEP = 5.0
"""Seconds between two points of the history."""
KEPT = 15 * 60.0
"""Seconds of history that are kept."""
MOST_EVENTS = 1000
MOST_KINDS = 20
"""Maximum number of kinds of errors for each export; what is beyond them is "other"."""
MOST_EXPORTS = 1000
"""Maximum number of exports that are counted: callers may make up names."""


class Sums(msgspec.Struct):
    """The sums of all calls of an export."""

    waited: list[int] = msgspec.field(default_factory=lambda: [0] * latency.RANGES)
    ran: list[int] = msgspec.field(default_factory=lambda: [0] * latency.RANGES)
    waited_seconds: float = 0.0
    ran_seconds: float = 0.0
    failed: dict[str, int] = {}
    unserved: dict[str, int] = {}

    def add(self, tally: Tally) -> None:
        """Add what one mobster served since its last heartbeat."""
        latency.add(self.waited, tally.waited)
        latency.add(self.ran, tally.ran)
        self.waited_seconds += tally.waited_seconds
        self.ran_seconds += tally.ran_seconds
        _count(self.failed, tally.failed)


class Lately(msgspec.Struct):
    """The activity of a role since the last point."""

    took: list[int] = msgspec.field(default_factory=lambda: [0] * latency.RANGES)
    calls: int = 0
    failures: int = 0


class Rate(msgspec.Struct):
    """The recent use of resources by a mobster: since the heartbeat before."""

    at: float
    cpu: float
    load: float = 0.0
    traffic: dict[int, float] = {}


class Past(msgspec.Struct):
    """The whole registry as data, for the Kingpin that follows."""

    began: float
    exports: dict[str, dict[str, Sums]]
    launches: dict[str, int]
    crashes: dict[str, int]
    points: list[Point]
    events: list[Event]
    requests: dict[str, dict[str, int]] = {}
    custom: dict[str, Summed] = {}


class Registry:
    """The measurements of the app."""

    def __init__(self, crew: Crew, now: float) -> None:
        self._crew = crew
        self._began = now
        self._exports: dict[str, dict[str, Sums]] = {}
        self._launches: Counter[str] = Counter()
        self._crashes: Counter[str] = Counter()
        self._requests: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._told_requests: dict[int, dict[str, int]] = {}  # by uid, as in the last heartbeat
        self.custom: CustomMetrics = CustomMetrics()
        """The application's own metrics."""
        self._rates: dict[int, Rate] = {}
        self._lately: dict[str, Lately] = {}
        self._last_point = now
        self._points: deque[Point] = deque()
        self._events: deque[Event] = deque(maxlen=MOST_EVENTS)

    def __repr__(self) -> str:
        exports = sum(map(len, self._exports.values()))
        return f"<Registry of {exports} exports, {len(self._points)} points, {len(self._events)} events>"

    # ------------------------------------------------------------------------------------------ what comes in

    def handle_beat(self, process: Process, beat: Beat, now: float) -> None:
        """Handle a heartbeat, before the supervisor does."""
        self._pass_time(now)
        role = process.slot.role
        for tally in beat.tallies:
            self._sums(role, tally.export).add(tally)
            lately = self._lately.setdefault(role, Lately())
            latency.add(lately.took, tally.ran)
            lately.calls += sum(tally.ran.values())
            lately.failures += sum(tally.failed.values())
        for label, kinds in beat.unserved.items():
            called, _, export = label.partition(".")
            if called in self._crew.roles:
                _count(self._sums(called, export).unserved, kinds)
                self._lately.setdefault(called, Lately()).failures += sum(kinds.values())
        self._count_requests(process, beat.requests)
        self._rates[process.uid] = _rate(self._rates.get(process.uid), beat, now)

    def handle_decisions(self, decisions: Iterable[Decision], now: float) -> None:
        """Note decisions that belong to the history of the app; they are carried out."""
        for decision in decisions:
            match decision:
                case Tell(text=text, kind=kind):
                    self._events.append(Event(now, kind, text))
                case Launch(role=role):
                    self._launches[role] += 1
                case Record(member=member):
                    self._crashes[member.role] += 1
                case _:
                    pass

    def handle_exited(self, uid: int) -> None:
        """Forget the rates of a mobster that exited."""
        self._rates.pop(uid, None)
        self._told_requests.pop(uid, None)
        self.custom.handle_exited(uid)

    # --------------------------------------------------------------------------------------------- what is shown

    def uptime(self, now: float) -> float:
        """Return the seconds since the app was started."""
        return now - self._began

    def exports(self) -> tuple[ExportMetrics, ...]:
        """Return the sums of all exports, and the calls in flight. A first call that still runs has no sums yet."""
        flight = self._flight()
        known = {(role, export): sums for role, exports in self._exports.items() for export, sums in exports.items()}
        return tuple(
            ExportMetrics(
                role,
                export,
                tuple(sums.waited),
                sums.waited_seconds,
                tuple(sums.ran),
                sums.ran_seconds,
                sums.failed,
                sums.unserved,
                flight[role, export],
            )
            for (role, export), sums in {**dict.fromkeys(flight, Sums()), **known}.items()
        )

    def _flight(self) -> Counter[tuple[str, str]]:
        """Return the calls in flight by role and export. The calls of a process that died ended with it."""
        flight: Counter[tuple[str, str]] = Counter()
        for process in self._crew.processes.values():
            role = process.slot.role
            for export, count in process.beat.flight.items():
                flight[role, self._counted_as(role, export)] += count
        return flight

    def roles(self) -> tuple[RoleMetrics, ...]:
        """Return the metrics of the roles."""
        crew, callers = self._crew, self.callers()
        return tuple(
            RoleMetrics(
                name,
                role.target,
                sum(member.uid in crew.processes for member in crew.roster.ready(name)),  # not on other machines
                self._launches[name],
                self._crashes[name],
                crew.parked(name),
                crew.roster.roles[name].failing,
                sum(each.bytes for each in callers if each.waits_for == name),
                dict(self._requests.get(name, {})),
                self._spares(name) if role.plan.spare else None,
            )
            for name, role in crew.roles.items()
            if role.target or crew.processes_of(name)  # not a role that the current plan no longer has
        )

    def _spares(self, role: str) -> int:
        processes = (self._crew.current(slot) for slot in self._crew.spares_of(role))
        return sum(each is not None and each.state is MobsterState.SPARE for each in processes)

    def callers(self) -> tuple[CallerMetrics, ...]:
        """Return the processes whose calls wait for a worker, the one with most calls first."""
        return tuple(sorted(self._callers(), key=lambda each: -each.calls))

    def _callers(self) -> Iterator[CallerMetrics]:
        crew = self._crew
        for process in crew.processes.values():
            slot, beat = process.slot, process.beat
            yield from self._waits((process.pid, slot.role, slot.index), beat.parked, beat.parked_bytes)
        for uid, parked in crew.parked_at_clients.items():
            if (client := crew.roster.get(uid)) is not None:
                yield from self._waits((client.pid, "", 0), parked.calls, parked.bytes)

    def _waits(
        self, caller: tuple[int, str, int], calls: Mapping[str, int], sizes: Mapping[str, int]
    ) -> Iterator[CallerMetrics]:
        for role, count in calls.items():
            if role in self._crew.roles and count > 0:
                yield CallerMetrics(*caller, role, count, sizes.get(role, 0))

    def mobsters(self, now: float) -> tuple[MobsterMetrics, ...]:
        """Return the metrics of the mobsters, in the order of the roles."""
        order = {name: number for number, name in enumerate(self._crew.roles)}
        processes = sorted(
            self._crew.processes.values(),
            key=lambda each: (order[each.slot.role], each.slot.is_spare, abs(each.slot.index), each.uid),
        )
        return tuple(self._mobster(process, now) for process in processes)

    def history(self, since: float, now: float) -> tuple[tuple[Point, ...], tuple[Event, ...]]:
        """Return points and events after that time."""
        self._pass_time(now)
        points = tuple(point for point in self._points if point.at > since)
        return points, tuple(event for event in self._events if event.at > since)

    # ------------------------------------------------------------------------------------------- an upgrade

    def past(self) -> Past:
        """Return the registry as data."""
        return Past(
            self._began,
            self._exports,
            dict(self._launches),
            dict(self._crashes),
            list(self._points),
            list(self._events),
            {role: dict(counts) for role, counts in self._requests.items()},
            self.custom.past(),
        )

    def take_over(self, past: Past) -> None:
        """Continue where another Kingpin stopped."""
        self._began = past.began
        self._exports = past.exports
        self._launches, self._crashes = Counter(past.launches), Counter(past.crashes)
        self._requests.update({role: Counter(counts) for role, counts in past.requests.items()})
        self.custom.take_over(past.custom)
        self._points = deque(past.points)
        self._last_point = past.points[-1].at if past.points else past.began
        self._events = deque(past.events, MOST_EVENTS)

    # --------------------------------------------------------------------------------------------- internals

    def _sums(self, role: str, export: str) -> Sums:
        return self._exports.setdefault(role, {}).setdefault(self._counted_as(role, export), Sums())

    def _counted_as(self, role: str, export: str) -> str:
        exports = self._exports.get(role, {})
        return export if export in exports or len(exports) < MOST_EXPORTS else "other"

    def _count_requests(self, process: Process, requests: dict[str, int]) -> None:
        """Add the HTTP requests that a mobster served since the heartbeat before."""
        before = self._told_requests.get(process.uid, process.beat.requests)  # an earlier Kingpin may have counted
        new = {status: count - before.get(status, 0) for status, count in requests.items()}
        if any(new.values()):
            self._told_requests[process.uid] = requests
            self._requests[process.slot.role].update(new)
            lately = self._lately.setdefault(process.slot.role, Lately())
            lately.calls += sum(new.values())
            lately.failures += new.get("5xx", 0)

    def _mobster(self, process: Process, now: float) -> MobsterMetrics:
        slot, beat = process.slot, process.beat
        rate = self._rates.get(process.uid)
        return MobsterMetrics(
            process.uid,
            slot.role,
            slot.index,
            process.pid,
            process.generation,
            str(process.state),
            now - process.launched,
            slot.revival.restarts,
            beat.calls + sum(beat.requests.values()),
            beat.in_hand,
            beat.waiting,
            beat.cpu,
            0.0 if rate is None else rate.load,
            beat.memory,
            beat.shared,
            beat.lag,
            beat.stuck,
            beat.connections,
            {} if rate is None else rate.traffic,
            process.note,
            beat.open_requests,
        )

    def _pass_time(self, now: float) -> None:
        """Close the point of the last few seconds if they are over; forget what is too old."""
        if now < self._last_point + STEP:
            return
        seconds, self._last_point = now - self._last_point, now
        for role in self._crew.roles:
            lately = self._lately.pop(role, None) or Lately()
            processes = self._crew.processes_of(role)
            self._points.append(
                Point(
                    now,
                    seconds,
                    role,
                    lately.calls,
                    lately.failures,
                    self._crew.parked(role) + sum(process.beat.waiting for process in processes),
                    sum(process.beat.in_hand for process in processes),
                    latency.quantile(lately.took, 0.5),
                    latency.quantile(lately.took, 0.99),
                )
            )
        while self._points and self._points[0].at < now - KEPT:
            self._points.popleft()


def _count(counts: dict[str, int], more: dict[str, int]) -> None:
    for kind, count in more.items():
        kind = kind if kind in counts or len(counts) < MOST_KINDS else "other"
        counts[kind] = counts.get(kind, 0) + count


def _rate(before: Rate | None, beat: Beat, now: float) -> Rate:
    seconds = 0.0 if before is None else now - before.at
    if before is None or seconds <= 0:
        return Rate(now, beat.cpu)
    load = max(0.0, (beat.cpu - before.cpu) / seconds)
    return Rate(now, beat.cpu, load, {uid: count / seconds for uid, count in beat.traffic.items()})
