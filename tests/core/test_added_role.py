"""A role that the plan gets while the app runs: the keeper of durable jobs."""

from __future__ import annotations

import pytest

from mob.core.decisions import Announce, Answer, Launch, Retire
from mob.core.states import MobsterState
from mob.core.supervisor import Supervisor
from mob.plan import GATEWAY, Cluster, Plan, RolePlan, queue_role
from mob.wire import messages as m

BACK = RolePlan("back", "back", workers=2)
QUEUE = queue_role("/jobs.db")


def running(*roles: RolePlan, strategy: str = "one_for_one") -> Supervisor:
    """An app whose workers are all ready."""
    supervisor = Supervisor(Plan("app", "/", roles, strategy=strategy))
    supervisor.start(0.0)
    for process in list(supervisor.processes.values()):
        supervisor.handle_forked(process.uid, 1000 + process.uid)
        supervisor.handle_ready(process.uid, 1000 + process.uid, (), True, 0.0)
    return supervisor


@pytest.fixture
def app() -> Supervisor:
    return running(BACK)


def added(app: Supervisor) -> list[object]:
    return list(app.handle_role_added(Plan("app", "/", (QUEUE, BACK)), QUEUE, (7, 1), 1.0))


def test_it_is_told_of_and_launched_at_once(app: Supervisor) -> None:
    decisions = added(app)
    assert decisions[0] == Announce(m.RoleIs(m.RoleInfo("queue")))
    assert [(each.role, each.index) for each in decisions if isinstance(each, Launch)] == [("queue", 0)]
    assert decisions[-1] == Answer((7, 1))
    assert app.plan.role("queue").keeps_jobs
    assert [row.role for row in app.rows(1.0)] == ["back", "back", "queue"]


def test_it_ends_last(app: Supervisor) -> None:
    added(app)
    stopped = {app.processes[each.uid].slot.role for each in app.handle_stop(2.0) if isinstance(each, Retire)}
    assert stopped == {"back"}


def test_the_gateways_end_after_it() -> None:
    """The gateways return its lease."""
    app = running(RolePlan(GATEWAY, "mob.cluster.gateway"), BACK)
    added(app)
    (keeper,) = (each for each in app.processes.values() if each.slot.role == "queue")
    app.handle_forked(keeper.uid, 99)
    app.handle_ready(keeper.uid, 99, (), True, 1.0)
    app.handle_stop(2.0)
    for role in ("back", "queue", GATEWAY):
        asked = [each for each in app.processes.values() if each.state is MobsterState.DRAINING]
        assert {each.slot.role for each in asked} == {role}
        for process in asked:
            app.handle_exited(process.uid, "ended", 3.0, 0)


def test_it_is_not_added_to_an_app_that_ends(app: Supervisor) -> None:
    app.handle_stop(1.0)
    assert added(app) == [Answer((7, 1), error="the app is stopping.")]


def test_its_successor_starts_when_it_has_gone(app: Supervisor) -> None:
    added(app)
    (keeper,) = (each for each in app.processes.values() if each.slot.role == "queue")
    app.handle_forked(keeper.uid, 99)
    app.handle_ready(keeper.uid, 99, (), True, 1.0)
    decisions = app.handle_reload(["queue"], (7, 2), 2.0)
    assert [type(each) for each in decisions if isinstance(each, (Launch, Retire))] == [Retire]
    assert [each.role for each in app.handle_exited(keeper.uid, "ended", 3.0, 0) if isinstance(each, Launch)] == [
        "queue"
    ]


def test_a_reload_of_all_leaves_it_alone(app: Supervisor) -> None:
    added(app)
    launched = [each.role for each in app.handle_reload([], (7, 2), 2.0) if isinstance(each, Launch)]
    assert set(launched) == {"back"}


def test_there_is_never_more_than_one(app: Supervisor) -> None:
    added(app)
    (answer,) = (each for each in app.handle_scale("queue", 2, (7, 3), 2.0) if isinstance(each, Answer))
    assert answer.error == "'queue' is a singleton: it has one worker, not 2."


def test_no_role_is_restarted_because_it_has_died() -> None:
    app = running(QUEUE, BACK, strategy="rest_for_one")
    (keeper,) = (each for each in app.processes.values() if each.slot.role == "queue")
    decisions = app.handle_exited(keeper.uid, "was killed", 2.0, -9)
    assert not [each for each in decisions if isinstance(each, Retire)]


def test_in_a_cluster_it_is_held_until_this_machine_has_its_lease() -> None:
    cluster = Cluster(("nats://127.0.0.1:4222",), "a")
    app = Supervisor(Plan("app", "/", (BACK,), cluster=cluster))
    app.start(0.0)
    decisions = app.handle_role_added(Plan("app", "/", (QUEUE, BACK), cluster=cluster), QUEUE, (7, 1), 1.0)
    assert decisions[0] == Announce(m.RoleIs(m.RoleInfo("queue", workers=0)))
    assert not [each for each in decisions if isinstance(each, Launch)]
    launched = [each for each in app.singletons.handle_won("queue", 5, 2.0) if isinstance(each, Launch)]
    assert [each.role for each in launched] == ["queue"]
