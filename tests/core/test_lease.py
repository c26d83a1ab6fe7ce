"""Leases: never do two nodes believe in one, whatever the store, the net and the clocks do within the margin."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from mob.core import decisions as d, supervisor
from mob.core.lease import LEASE, TAKE_OVER, Elsewhere, Extended, Lease, LeaseData, LeaseWish, Won, Yielded
from mob.plan import Cluster, Plan, RolePlan
from mob.wire import messages as m

TICK = 0.2
DRIFT = 0.05
"""Share by which clocks may run faster or slower than they should."""


@dataclass
class Store:
    """A value that only a node that knows its revision can replace."""

    revision: int = 0
    value: m.LeaseRecord = field(default_factory=m.LeaseRecord)
    is_down: bool = False

    def answer(self, request: Any) -> m.LeaseIs | None:
        if self.is_down:
            return None
        match request:
            case m.ReadLease(number=number, role=role):
                return m.LeaseIs(number, role, self.revision, self.value)
            case m.WriteLease(number=number, role=role, revision=revision, lease=lease):
                if revision != self.revision:
                    return m.LeaseIs(number, role)
                self.revision, self.value = self.revision + 1, lease
                return m.LeaseIs(number, role, self.revision, lease, is_written=True)
            case m.GiveBack(number=number, role=role, token=token, left=left):
                if self.value.node and m.token_of(self.value, self.revision) == token:
                    self.revision, self.value = self.revision + 1, m.LeaseRecord(token=token, left=left)
                return m.LeaseIs(number, role, self.revision, is_written=True)
        raise AssertionError(request)


class Node:
    """A Kingpin that is suspended from time to time, and a mobster that ends itself when its time is over."""

    def __init__(self, number: int, offset: float, rate: float) -> None:
        self.number = number
        self.offset, self.rate = offset, rate
        self.lease = Lease("cron", number, f"n{number}")
        self.wish = LeaseWish.TAKE
        self.deadline: float | None = None  # of the mobster, by this node's clock
        self.token = 0
        self.stands_until = 0.0

    def clock(self, now: float) -> float:
        return self.offset + now * self.rate

    def runs(self, now: float) -> bool:
        return self.deadline is not None and self.clock(now) < self.deadline

    def tell(self, outcomes: list[Any], now: float) -> list[Any]:
        """Do what the Kingpin does with the outcomes; return the requests."""
        requests: list[Any] = []
        for outcome in outcomes:
            match outcome:
                case Won(token=token, until=until):
                    self.deadline, self.token, self.wish = until, token, LeaseWish.KEEP
                case Extended(until=until):
                    if self.runs(now):
                        self.deadline = until
                case Yielded(why=why):
                    assert why or not self.runs(now), "given back while it runs"
                    self.deadline, self.wish = None, LeaseWish.TAKE if why else self.wish
                case Elsewhere():
                    pass
                case _:
                    requests.append(outcome)
        if not self.runs(now) and self.deadline is not None:  # the mobster has ended itself, its exit is seen
            self.deadline = None
        return requests


class World:
    """Nodes around a store, with a net that is late and loses."""

    def __init__(self, seed: int, count: int, lateness: float, loss: float) -> None:
        self.luck = Random(seed)
        self.now = 0.0
        self.store = Store()
        self.lateness, self.loss = lateness, loss
        self.is_calm = False
        """True if nothing is much later than it should be."""
        rates = [1 + self.luck.uniform(-DRIFT, DRIFT) for _ in range(count)]
        self.nodes = [Node(i + 1, self.luck.uniform(0, 1e6), rate) for i, rate in enumerate(rates)]
        self.numbers = 0
        self.events: list[tuple[float, int, Any]] = []
        self.tokens: list[tuple[int, int]] = []
        self.moved: list[float] = []
        for node in self.nodes:
            self.later(self.luck.random(), ("tick", node))

    def later(self, seconds: float, event: Any) -> None:
        self.numbers += 1
        heapq.heappush(self.events, (self.now + seconds, self.numbers, event))

    def delay(self) -> float:
        if self.is_calm:
            return self.lateness
        return self.luck.expovariate(1 / self.lateness) if self.luck.random() > 0.05 else self.luck.uniform(0, 20)

    def send(self, node: Node, requests: list[Any]) -> None:
        for request in requests:
            if self.luck.random() >= self.loss:
                self.later(self.delay(), ("asked", node, request))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.events and self.events[0][0] <= end:
            self.now, _, event = heapq.heappop(self.events)
            getattr(self, f"handle_{event[0]}")(*event[1:])
            self.check()
        self.now = end

    def handle_tick(self, node: Node) -> None:
        self.later(TICK, ("tick", node))
        if self.now >= node.stands_until:
            if node.wish is LeaseWish.KEEP and not node.runs(self.now) and not node.lease.token:
                node.wish = LeaseWish.TAKE
            self.numbers += 1
            outcomes = node.lease.handle_wake(node.wish, self.numbers, node.clock(self.now))
            self.send(node, node.tell(outcomes, self.now))

    def handle_asked(self, node: Node, request: Any) -> None:
        answer = self.store.answer(request)
        if answer is not None and self.luck.random() >= self.loss:
            self.later(self.delay(), ("answered", node, answer))

    def handle_answered(self, node: Node, answer: m.LeaseIs) -> None:
        if self.now < node.stands_until:
            self.later(node.stands_until - self.now + self.luck.random() * 0.01, ("answered", node, answer))
        else:
            self.send(node, node.tell(node.lease.handle_answer(answer, node.clock(self.now)), self.now))

    def check(self) -> None:
        running = [node for node in self.nodes if node.runs(self.now)]
        assert len(running) <= 1, f"at {self.now:.2f} several run: {[node.number for node in running]}"
        for node in running:
            if not self.tokens or self.tokens[-1] != (node.number, node.token):
                assert not self.tokens or node.token > self.tokens[-1][1], "a token that is not greater"
                self.tokens.append((node.number, node.token))

    @property
    def holder(self) -> Node | None:
        return next((node for node in self.nodes if node.runs(self.now)), None)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    count=st.integers(2, 6),
    lateness=st.sampled_from([0.001, 0.05, 0.5, 3.0]),
    loss=st.sampled_from([0.0, 0.1, 0.5]),
    faults=st.lists(st.tuples(st.sampled_from(["stand", "down", "die", "give back"]), st.floats(0.1, 20)), max_size=12),
)
def test_never_do_two_believe_at_a_time(
    seed: int, count: int, lateness: float, loss: float, faults: list[tuple[str, float]]
) -> None:
    world = World(seed, count, lateness, loss)
    world.run(12)
    for fault, seconds in faults:
        node = (
            world.holder if world.holder is not None and world.luck.random() < 0.7 else world.luck.choice(world.nodes)
        )
        assert node is not None
        if fault == "stand":
            node.stands_until = world.now + seconds
        elif fault == "down":
            world.store.is_down = True
            world.run(seconds)
            world.store.is_down = False
        elif fault == "die":  # its mobster lives until its time is over; another run of the node has another number
            node.stands_until = world.now + LEASE * 2
            world.run(LEASE * 2)
        elif node.runs(world.now):
            node.deadline = None  # its process has ended in order
            node.wish = LeaseWish.NONE
            world.later(seconds, ("want", node))
        world.run(seconds)
    if lateness < 1 and not loss:
        for node in world.nodes:
            node.stands_until, node.wish = 0.0, LeaseWish.KEEP if node.runs(world.now) else LeaseWish.TAKE
        world.run(60)
        assert world.tokens, "no node has ever run"


def _want(self: World, node: Node) -> None:
    node.wish = LeaseWish.KEEP if node.runs(self.now) else LeaseWish.TAKE


World.handle_want = _want  # type: ignore[attr-defined]


def test_margin_is_larger_than_what_clocks_may_differ() -> None:
    assert LEASE * (1 + DRIFT) / (1 - DRIFT) < TAKE_OVER


@pytest.mark.parametrize("seed", range(20))
def test_a_dead_holder_is_followed_in_time(seed: int) -> None:
    world = World(seed, 3, 0.002, 0.0)
    world.is_calm = True
    world.run(TAKE_OVER * 1.1 + 2)
    first = world.holder
    assert first is not None
    first.stands_until = 1e9
    world.run(TAKE_OVER * 1.1 + 2)
    assert world.holder not in (None, first)


@pytest.mark.parametrize("seed", range(10))
def test_what_is_given_back_moves_at_once(seed: int) -> None:
    world = World(seed, 2, 0.001, 0.0)
    world.is_calm = True
    world.run(TAKE_OVER * 1.1 + 2)
    first = world.holder
    assert first is not None
    first.deadline, first.wish = None, LeaseWish.NONE
    world.run(0.5)
    for node in world.nodes:
        node.lease.look_again()
    world.run(0.6)
    assert world.holder not in (None, first)


def test_a_store_that_has_lost_all_gives_no_smaller_token() -> None:
    world = World(1, 2, 0.001, 0.0)
    world.run(100)
    first = world.holder
    assert first is not None
    world.store.revision, world.store.value = 0, m.LeaseRecord()
    world.run(2)
    assert world.holder is first, "it renews it"
    first.stands_until = 1e9
    world.run(20)
    assert world.holder not in (None, first)  # `check` has compared the tokens


def test_an_error_is_told_once_and_is_the_reason_of_the_loss() -> None:
    lease = Lease("cron", 1, "a")
    (request,) = lease.handle_wake(LeaseWish.TAKE, 1, 100.0)
    assert lease.handle_answer(m.LeaseIs(1, "cron", error="no JetStream"), 100.1) == [Elsewhere("cron", "no JetStream")]
    (request,) = lease.handle_wake(LeaseWish.TAKE, 2, 101.2)
    assert isinstance(request, m.ReadLease)
    assert lease.handle_answer(m.LeaseIs(2, "cron", error="no JetStream"), 101.3) == []
    lease.handle_wake(LeaseWish.TAKE, 3, 102.4)
    given_back = m.LeaseRecord(token=7)
    assert lease.handle_answer(m.LeaseIs(3, "cron", 9, given_back), 102.5) == [Elsewhere("cron", "waits for its lease")]
    (write,) = lease.handle_wake(LeaseWish.TAKE, 4, 102.6)
    assert isinstance(write, m.WriteLease)
    assert write == m.WriteLease(4, "cron", 9, m.LeaseRecord(1, "a", 8, True))
    (won,) = lease.handle_answer(m.LeaseIs(4, "cron", 10, write.lease, is_written=True), 102.7)
    assert won == Won("cron", 10, 102.6 + LEASE)
    lease.handle_wake(LeaseWish.KEEP, 5, 103.7)
    lease.handle_answer(m.LeaseIs(5, "cron", error="NATS did not answer"), 103.8)
    (lost,) = lease.handle_wake(LeaseWish.KEEP, 6, 102.6 + LEASE)
    assert isinstance(lost, Yielded)
    assert "could not be renewed for 5 s: NATS did not answer" in lost.why


# ------------------------------------------------------------------------------------------------- the supervisor


def clustered(**options: Any) -> supervisor.Supervisor:
    roles = (RolePlan("cron", "cron", singleton=True, **options), RolePlan("back", "back"))
    return supervisor.Supervisor(Plan("app", "/", roles, cluster=Cluster(("nats://127.0.0.1",), "a")))


def launched(decisions: list[Any]) -> list[str]:
    return [each.role for each in decisions if isinstance(each, d.Launch)]


def test_a_singleton_is_launched_when_its_lease_is_won_and_killed_when_it_is_lost() -> None:
    mind = clustered()
    assert launched(mind.start(0.0)) == ["back"]
    assert mind.singletons.wish("cron") is LeaseWish.TAKE
    assert mind.roster.places("cron") == [("", 0)]
    assert [row.note for row in mind.rows(0.0) if row.role == "cron"] == ["waits for its lease"]
    mind.singletons.handle_elsewhere("cron", "runs on 'b'")
    assert [row.note for row in mind.rows(0.0) if row.role == "cron"] == ["runs on 'b'"]
    decisions = mind.singletons.handle_won("cron", 9, 1.0)
    assert launched(decisions) == ["cron"]
    (process,) = mind.crew.processes_of("cron")
    assert process.member().token == 9
    assert mind.singletons.wish("cron") is LeaseWish.KEEP
    assert d.Kill(process.uid) in mind.singletons.handle_lost("cron", "its lease could not be renewed")
    assert launched(mind.handle_exited(process.uid, "was killed", 2.0, -9)) == []
    assert mind.singletons.wish("cron") is LeaseWish.TAKE
    assert mind.roster.places("cron") == [("", 0)]


def test_a_pause_before_a_revival_ends_with_the_lease() -> None:
    mind = clustered()
    mind.start(0.0)
    now = 1.0
    mind.singletons.handle_won("cron", 9, now)
    while mind.slots["cron", 0].state != "waiting":
        (process,) = mind.crew.processes_of("cron")
        mind.handle_exited(process.uid, "exited", now, 1)
    mind.singletons.handle_lost("cron", "another has it")
    assert launched(mind.handle_wake(now + 100)) == []
    assert launched(mind.singletons.handle_won("cron", 12, now + 101)) == ["cron"]


@pytest.mark.parametrize("is_lost", [False, True])
def test_a_reload_ends_the_old_one_first(is_lost: bool) -> None:
    mind = clustered()
    mind.start(0.0)
    mind.singletons.handle_won("cron", 9, 0.0)
    (old,) = mind.crew.processes_of("cron")
    mind.handle_ready(old.uid, 100, (), True, 1.0)
    decisions = mind.handle_reload(["cron"], (7, 1), 2.0)
    assert launched(decisions) == []
    assert [each.uid for each in decisions if isinstance(each, d.Retire)] == [old.uid]
    if is_lost:
        mind.singletons.handle_lost("cron", "another has it")
        assert [each.error for each in mind.handle_exited(old.uid, "ended", 3.0, 0) if isinstance(each, d.Answer)]
        return
    assert launched(mind.handle_exited(old.uid, "ended", 3.0, 0)) == ["cron"]
    (new,) = mind.crew.processes_of("cron")
    answers = [each for each in mind.handle_ready(new.uid, 101, (), True, 4.0) if isinstance(each, d.Answer)]
    assert [answer.text for answer in answers] == ["reloaded 1 worker in 2.0 s."]


def test_a_stop_gives_the_lease_back_when_its_process_has_gone() -> None:
    mind = clustered()
    mind.start(0.0)
    mind.singletons.handle_won("cron", 9, 0.0)
    mind.handle_stop(1.0)
    assert mind.singletons.wish("cron") is LeaseWish.KEEP
    for process in list(mind.processes.values()):
        mind.handle_exited(process.uid, "ended", 2.0, 0)
    assert mind.singletons.wish("cron") is LeaseWish.NONE


def test_a_singleton_cannot_be_scaled() -> None:
    mind = clustered()
    mind.start(0.0)
    (answer,) = mind.handle_scale("cron", 2, (7, 1), 0.0)
    assert isinstance(answer, d.Answer)
    assert answer.error == "'cron' is a singleton: it has one worker, not 2."


def test_without_a_cluster_it_is_a_role_of_one_worker() -> None:
    mind = supervisor.Supervisor(Plan("app", "/", (RolePlan("cron", "cron", singleton=True),)))
    assert launched(mind.start(0.0)) == ["cron"]


@pytest.mark.parametrize("seed", range(20))
def test_a_lease_that_is_looked_at_when_it_says_misses_nothing(seed: int) -> None:
    """Before `next_wake` a look does nothing; so a Kingpin that looks then, and when something happens, is enough."""
    luck, lease, store, wish, now, sent = Random(seed), Lease("cron", 1, "a"), Store(), LeaseWish.TAKE, 100.0, 0
    for number in range(1, 300):
        at = lease.next_wake(wish)
        if at == float("inf"):
            assert wish is not LeaseWish.TAKE
            assert not lease.token
            wish = LeaseWish.TAKE
            continue
        if at > now:
            assert lease.handle_wake(wish, number, luck.uniform(now, at - 1e-6)) == []
            now = at
        outcomes = lease.handle_wake(wish, number, now)
        while outcomes:
            outcome = outcomes.pop(0)
            match outcome:
                case Won() | Extended() | Elsewhere():
                    wish = LeaseWish.KEEP if lease.token else wish
                case Yielded():
                    wish = luck.choice([LeaseWish.TAKE, LeaseWish.KEEP, LeaseWish.NONE])
                case _:
                    sent += 1
                    answer = store.answer(outcome) if luck.random() < 0.8 else None
                    if answer is not None:
                        now += luck.uniform(0, 2)
                        outcomes += lease.handle_answer(answer, now)
        if luck.random() < 0.1:
            wish = LeaseWish.NONE
        if luck.random() < 0.3 and not lease.token:
            wish = LeaseWish.TAKE
    assert sent > 20


def test_the_next_kingpin_of_this_process_has_the_lease_of_the_one_before() -> None:
    before, after = Lease("cron", 1, "n1"), Lease("cron", 1, "n1")
    assert before.data() is None
    assert repr(before) == "<Lease of 'cron', unknown>"
    before.adopt(LeaseData(7, 9, 12.5))
    held = before.data()
    assert held is not None
    assert held == LeaseData(7, 9, 12.5)
    after.adopt(held)
    assert (after.token, after.until) == (7, 12.5)
    assert repr(after) == "<Lease of 'cron', held with token 7>"


def test_a_singleton_that_is_to_run_and_has_no_lease_is_held() -> None:
    for command in ("reload", "restart"):
        mind = clustered(restart="temporary")
        mind.start(0.0)
        mind.singletons.handle_won("cron", 9, 1.0)
        (process,) = mind.crew.processes_of("cron")
        mind.handle_ready(process.uid, 100, (), True, 1.0)
        mind.handle_exited(process.uid, "exited", 1.0, 0)
        assert mind.slots["cron", 0].state == "empty"
        mind.singletons.handle_lost("cron", "")
        if command == "reload":
            mind.handle_reload(["cron"], (7, 1), 2.0)
        else:
            mind.handle_restart(["cron"], 0, (7, 1), 2.0)
        assert mind.crew.processes_of("cron") == []
        assert mind.slots["cron", 0].state == "held"


def test_a_restarted_singleton_whose_lease_is_lost_meanwhile_is_held() -> None:
    mind = clustered()
    mind.start(0.0)
    mind.singletons.handle_won("cron", 9, 0.0)
    (old,) = mind.crew.processes_of("cron")
    mind.handle_ready(old.uid, 100, (), True, 1.0)
    mind.handle_restart(["cron"], 0, (7, 1), 2.0)
    mind.singletons.handle_lost("cron", "another has it")
    assert launched(mind.handle_exited(old.uid, "ended", 3.0, 0)) == []
    assert mind.slots["cron", 0].state == "held"


def test_a_singleton_without_a_place_here_wants_no_lease() -> None:
    mind = clustered()
    mind.start(0.0)
    del mind.crew.slots["cron", 0]
    assert mind.singletons.wish("cron") is LeaseWish.NONE


@pytest.mark.parametrize("asks", [False, True])
def test_a_singleton_that_has_done_its_part_ends_before_its_successor_starts(asks: bool) -> None:
    mind = clustered()
    mind.start(0.0)
    mind.singletons.handle_won("cron", 9, 0.0)
    (old,) = mind.crew.processes_of("cron")
    mind.handle_ready(old.uid, 100, (), True, 1.0)
    if asks:
        mind.handle_draining(old.uid, 1.5)
        mind.crew.retire(old, 1.5)
    decisions = mind.rollout.recycle(mind.slots["cron", 0], "served 9 calls", 2.0)
    assert launched(decisions) == []
    assert [each.uid for each in decisions if isinstance(each, d.Retire)] == ([] if asks else [old.uid])


def test_a_lease_that_another_has_taken_meanwhile_is_lost() -> None:
    lease = Lease("cron", 1, "a")
    lease.handle_wake(LeaseWish.TAKE, 1, 100.0)
    lease.look_again()  # the answer would be too old
    (read,) = lease.handle_wake(LeaseWish.TAKE, 2, 100.1)
    assert read == m.ReadLease(2, "cron")
    lease.handle_answer(m.LeaseIs(2, "cron", 8, m.LeaseRecord(token=7)), 100.2)
    (write,) = lease.handle_wake(LeaseWish.TAKE, 3, 100.3)
    assert isinstance(write, m.WriteLease)
    lease.handle_answer(m.LeaseIs(3, "cron", 9, write.lease, is_written=True), 100.4)
    lease.handle_wake(LeaseWish.KEEP, 4, 101.5)
    assert lease.handle_answer(m.LeaseIs(4, "cron"), 101.6) == []  # it had another revision
    assert lease.handle_wake(LeaseWish.KEEP, 5, 101.7) == [m.ReadLease(5, "cron")]
    answer = m.LeaseIs(5, "cron", 11, m.LeaseRecord(2, "b", 10))
    assert lease.handle_answer(answer, 101.8) == [Yielded("cron", "'b' took over its lease")]


def test_what_was_left_is_carried_on_until_it_has_arrived() -> None:
    store, lease = Store(), Lease("cron", 1, "a")
    store.revision, store.value = 4, m.LeaseRecord(token=3, left=3)
    (read,) = lease.handle_wake(LeaseWish.TAKE, 1, 100.0)
    lease.handle_answer(said(store, read), 100.0)
    (write,) = lease.handle_wake(LeaseWish.TAKE, 2, 100.0)
    assert lease.handle_answer(said(store, write), 100.0) == [Won("cron", 5, 105.0, left=3)]
    assert lease.left == 3
    (write,) = lease.handle_wake(LeaseWish.KEEP, 3, 101.0)
    assert lease.handle_answer(said(store, write), 101.0) == [Extended("cron", 106.0, 3)]
    lease.left = 0  # the singleton is ready
    lease.look_again()
    (write,) = lease.handle_wake(LeaseWish.KEEP, 4, 101.1)
    assert lease.handle_answer(said(store, write), 101.1) == [Extended("cron", 106.1), m.DropLeft("cron", 3)]
    lease.left = 5
    lease.look_again()
    (write,) = lease.handle_wake(LeaseWish.KEEP, 5, 101.2)
    assert lease.handle_answer(said(store, write), 101.2) == [Extended("cron", 106.2, 5)]
    following = Lease("cron", 1, "a")
    data = lease.data()
    assert data is not None
    assert data == LeaseData(5, store.revision, 106.2, 5)
    following.adopt(data)
    following.left = 0
    (write,) = following.handle_wake(LeaseWish.KEEP, 6, 101.3)
    assert following.handle_answer(said(store, write), 101.3) == [Extended("cron", 106.3), m.DropLeft("cron", 5)]
    following.left = 5
    assert following.handle_wake(LeaseWish.NONE, 7, 101.4) == [Yielded("cron", ""), m.GiveBack(7, "cron", 5, left=5)]
    assert following.left == 0


def said(store: Store, request: Any) -> m.LeaseIs:
    answer = store.answer(request)
    assert answer is not None
    return answer
