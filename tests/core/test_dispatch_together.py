"""Callers and workers together, as a joined pair: what one side decides is delivered to the other, at any time."""

from __future__ import annotations

import math
from collections import Counter, deque
from typing import Any

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mob.core.dispatch import AskForPlace, Queued, Route
from mob.core.invitations import INVITATION_TIMEOUT, Invitations, WorkerLoad
from mob.core.lanes import LOOP, Lane
from mob.core.routing import Place

LANES = {"task": Lane(2, True), "gate": Lane(1, True)}
GROUPS = {"add": "loop", "tiny": "loop", "slow": "loop", "task": "tasks", "gate": "gate"}
COSTS = {"add": 0, "tiny": 150, "slow": 9000, "task": 0, "gate": 0}
NAMES = sorted(COSTS)
MARKS = list(COSTS)


class Target:
    """A worker as one caller sees it: what the board says, which may be old, and the caller's own calls."""

    is_choked = False

    def __init__(self, worker: Worker, uid: int, is_distant: bool) -> None:
        self.worker = worker
        self.uid = uid
        self.place: Place = ("", worker.index)
        self.is_distant = is_distant
        self.pending: Counter[str] = Counter()

    def _own(self, *groups: str) -> int:
        return sum(count for name, count in self.pending.items() if GROUPS[name] in groups)

    @property
    def in_hand(self) -> int:
        return max(self._own("loop"), 0 if self.is_distant else self.worker.board[0])

    @property
    def outstanding(self) -> int:
        return max(sum(self.pending.values()), 0 if self.is_distant else sum(self.worker.board[:2]))

    @property
    def pace(self) -> int:
        return 0 if self.is_distant else 150

    @property
    def is_wanted(self) -> bool:
        return not self.is_distant and self.worker.board[2] > 0


class Worker:
    """A worker that runs calls until the test says that they are finished."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.invitations = Invitations()
        self.in_hand: list[tuple[int, Queued]] = []
        self.is_ready = True
        self.board = (0, 0, 0)

    def count(self, group: str) -> int:
        return sum(GROUPS[item.name] == group for _, item in self.in_hand)

    def look(self, name: str) -> WorkerLoad:
        group = GROUPS[name]
        return WorkerLoad(group, LANES.get(name, LOOP), self.count(group), COSTS[name], 150)

    def publish(self) -> None:
        loop = self.count("loop")
        self.board = loop, len(self.in_hand) - loop, self.invitations.waiting


class Caller:
    def __init__(self, uid: int, is_distant: bool) -> None:
        self.uid = uid
        self.is_distant = is_distant
        self.is_blocked = False
        self.route = Route[Target]("back", lambda mark: COSTS[MARKS[mark]])
        self.route.lanes |= LANES


class Pairs(RuleBasedStateMachine):
    @initialize(workers=st.integers(1, 3), callers=st.lists(st.booleans(), min_size=1, max_size=4))
    def begin(self, workers: int, callers: list[bool]) -> None:
        self.now = 0.0
        self.workers: list[Worker] = []
        self.callers = [Caller(uid, is_distant) for uid, is_distant in enumerate(callers, 1)]
        self.targets: dict[tuple[int, int], Target] = {}  # by caller and worker
        self.letters: dict[tuple[Any, Any], deque[tuple[Any, ...]]] = {}  # by sender and receiver
        self.items: dict[Queued, Caller] = {}
        self.sent: Counter[Queued] = Counter()
        self.cancelled: set[Queued] = set()
        for _ in range(workers):
            self.workers.append(Worker(len(self.workers)))
        for caller in self.callers:
            self.reroute(caller)

    # the callers

    def reroute(self, caller: Caller) -> None:
        there = [worker for worker in self.workers if worker.is_ready]
        targets = [
            self.targets.setdefault((caller.uid, w.index), Target(w, 100 + w.index, caller.is_distant)) for w in there
        ]
        caller.route.places = len(there)
        self.put(caller, targets)

    def put(self, caller: Caller, targets: list[Target]) -> None:
        far = caller.is_distant
        self.ask(caller, caller.route.put([] if far else targets, targets if far else [], self.now))

    def ask(self, caller: Caller, asks: list[AskForPlace[Target]]) -> None:
        for target, line, name in asks:
            self.post(caller, target.worker, "waiting", line, name)

    def post(self, sender: Any, receiver: Any, *message: Any) -> None:
        self.letters.setdefault((sender, receiver), deque()).append(message)

    def send(self, caller: Caller, item: Queued, target: Target) -> None:
        self.sent[item] += 1
        target.pending[item.name] += 1
        self.post(caller, target.worker, "call", item)

    def living(self) -> list[Caller]:
        return [caller for caller in self.callers if not caller.is_blocked]

    @rule(data=st.data(), name=st.sampled_from(NAMES), key=st.integers(0, 15), count=st.integers(1, 4))
    def call(self, data: st.DataObject, name: str, key: int, count: int) -> None:
        caller = data.draw(st.sampled_from(self.callers))
        place = ("", key) if key < 2 else None
        for _ in range(count):
            item = Queued(name, 1, 30.0, place)
            self.items[item] = caller
            target = caller.route.choose(name, MARKS.index(name), True, place)
            if target is not None:
                self.send(caller, item, target)
            else:
                self.ask(caller, caller.route.park(item, self.now))

    @rule(data=st.data(), is_first=st.booleans())
    def cancel(self, data: st.DataObject, is_first: bool) -> None:
        items = [item for caller in self.callers for item in caller.route.items()]
        firsts = [item for item in items if item.line.head is item]
        if items:
            item = data.draw(st.sampled_from(firsts if is_first else items))
            assert item.line.route.forget(item)
            self.cancelled.add(item)
            self.ask(self.items[item], item.line.route.asks_after(item.line.number))

    @rule(data=st.data(), what=st.sampled_from(["block", "die", "break", "break", "grow", "drain"]))
    def make_trouble(self, data: st.DataObject, what: str) -> None:
        caller, worker = data.draw(st.sampled_from(self.callers)), data.draw(st.sampled_from(self.workers))
        ready = [each for each in self.workers if each.is_ready]
        if what == "block":
            caller.is_blocked = not caller.is_blocked
        elif what == "die" and len(self.callers) > 1:
            self.callers.remove(caller)
            for each in self.workers:
                self.lose_link(caller, each)
            for item in [item for item, owner in self.items.items() if owner is caller]:
                del self.items[item]
        elif what == "break" and worker.is_ready:
            self.lose_link(caller, worker)
            if data.draw(st.booleans()):  # the caller may notice it before there is another, or after that
                others = [target for target in caller.route.targets if target.worker is not worker]
                self.put(caller, others)
                self.reroute(caller)
            else:
                self.ask(caller, caller.route.replace_worker(self.targets[caller.uid, worker.index]))
        elif what == "grow" and len(ready) < 4:
            self.workers.append(Worker(len(self.workers)))
        elif what == "drain" and len(ready) > 1 and worker.is_ready:
            worker.is_ready = False
            worker.invitations.clear()
        for each in self.callers:
            self.reroute(each)

    def lose_link(self, caller: Caller, worker: Worker) -> None:
        """Lose what was on its way; calls that were sent count as done here."""
        self.letters.pop((caller, worker), None)
        self.letters.pop((worker, caller), None)
        worker.invitations.handle_lost(caller.uid)
        worker.in_hand = [each for each in worker.in_hand if each[0] != caller.uid]
        self.targets[caller.uid, worker.index].pending.clear()
        self.invite(worker)

    # the workers

    @rule(data=st.data(), count=st.integers(1, 5))
    def finish(self, data: st.DataObject, count: int) -> None:
        busy = [worker for worker in self.workers if worker.in_hand]
        if busy:
            worker = data.draw(st.sampled_from(busy))
            for _ in range(min(count, len(worker.in_hand))):
                self.finish_one(worker)

    def finish_one(self, worker: Worker) -> None:
        uid, item = worker.in_hand.pop(0)
        for caller in self.callers:
            if caller.uid == uid:
                self.targets[uid, worker.index].pending[item.name] -= 1
        self.invite(worker)

    def invite(self, worker: Worker) -> None:
        if not worker.is_ready:
            return
        for uid, line, calls, _ in worker.invitations.invite(worker.look, self.now):
            for caller in self.callers:
                if caller.uid == uid:
                    self.post(worker, caller, "invite", line, calls)

    # what is on its way

    @rule(data=st.data(), count=st.integers(1, 10))
    def deliver(self, data: st.DataObject, count: int) -> None:
        for _ in range(count):
            ways = [way for way, letters in self.letters.items() if letters and not self.is_held(way)]
            if ways:
                self.deliver_next(data.draw(st.sampled_from(ways)))

    def is_held(self, way: tuple[Any, Any]) -> bool:
        return isinstance(way[1], Caller) and way[1].is_blocked

    def deliver_next(self, way: tuple[Any, Any]) -> None:
        sender, receiver = way
        match self.letters[way].popleft():
            case ("waiting", line, name):
                receiver.invitations.handle_waiting(sender.uid, line, name, sender.is_distant)
                self.invite(receiver)
            case ("declined", line):
                receiver.invitations.handle_declined(sender.uid, line)
                self.invite(receiver)
            case ("call", item):
                receiver.invitations.handle_call(sender.uid, item.name)
                receiver.in_hand.append((sender.uid, item))
                self.invite(receiver)
            case ("invite", line, calls):
                self.answer(receiver, sender, line, calls)
            case message:
                raise AssertionError(message)

    def answer(self, caller: Caller, worker: Worker, line: int, calls: int) -> None:
        target = self.targets[caller.uid, worker.index]
        items = caller.route.accept(target, line, calls)
        for item in items:
            self.send(caller, item, target)
        if not items:
            self.post(caller, worker, "declined", line)
        self.ask(caller, caller.route.asks_after(line))

    @rule(data=st.data(), seconds=st.floats(0.0, 2 * INVITATION_TIMEOUT))
    def wait(self, data: st.DataObject, seconds: float) -> None:
        data.draw(st.sampled_from(self.workers)).publish()
        self.pass_time(seconds)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for worker in self.workers:
            if worker.invitations.wake_at() <= self.now:
                self.invite(worker)

    def settle(self) -> None:
        """Deliver all letters; no blocked caller keeps places for which others wait, neither the first one that
        was invited, nor the next."""
        self.pass_time(2 * INVITATION_TIMEOUT)
        while True:
            while ways := [way for way, letters in self.letters.items() if letters and not self.is_held(way)]:
                for way in ways:
                    self.deliver_next(way)
            if all(worker.invitations.wake_at() == math.inf for worker in self.workers):
                return
            self.pass_time(2 * INVITATION_TIMEOUT)

    def look_for_free_places(self) -> None:
        """Check that no worker has a free place while a call that it may run waits, once nothing is on its way."""
        self.settle()
        for caller in self.living():
            for item in caller.route.items():
                for worker in self.workers:
                    is_its = item.place is None or item.place == ("", worker.index)
                    if worker.is_ready and is_its and item.line.head is item:
                        width = LANES.get(item.name, LOOP).width
                        assert worker.count(GROUPS[item.name]) >= width, (item, worker.in_hand)

    def teardown(self) -> None:
        if hasattr(self, "callers"):
            self.look_for_free_places()
            self.work_all_off()

    def work_all_off(self) -> None:
        """Check that every call was sent once, and no worker knows of anything that waits."""
        for caller in self.callers:
            caller.is_blocked = False
        for _ in range(1000):
            self.settle()
            busy = [worker for worker in self.workers if worker.in_hand]
            if not busy:
                break
            for worker in busy:
                while worker.in_hand:
                    self.finish_one(worker)
        there = {worker.index for worker in self.workers if worker.is_ready}
        for caller in self.callers:
            left = caller.route.items()
            assert all(item.place is not None and item.place[1] not in there for item in left), left
            assert caller.route.waiting == len(left)
        for worker in self.workers:
            if worker.is_ready:
                assert repr(worker.invitations) == "<Invitations, 0 callers wait, 0 invited>"
                assert len(worker.invitations) == 0
                worker.publish()

    @invariant()
    def every_call_is_sent_or_waits(self) -> None:
        waiting = Counter(item for caller in self.callers for item in caller.route.items())
        for item in self.items:
            assert self.sent[item] + waiting[item] + (item in self.cancelled) == 1
        for caller in self.callers:
            assert caller.route.waiting == caller.route.size == len(caller.route.items())


TestPairs = Pairs.TestCase
TestPairs.settings = settings(max_examples=250, stateful_step_count=40)
