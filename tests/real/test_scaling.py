"""Larger and smaller: by the role's own code, by a client, by the command, by signals, and by the load."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

import mob
from tests.patience import patient
from tests.real.test_policy import mob_command
from tests.real.test_recycling import Caller
from tests.running import Apps, RunningApp, apps_in, wait_until

BACK = """
    import asyncio, os, time, mob

    def work(number):
        return number, os.getpid()

    def slow(seconds):
        time.sleep(seconds)
        return os.getpid()

    def held():
        while not os.path.exists("grown"):
            time.sleep(0.01)
        return slow(0.1)

    async def waits(seconds):
        await asyncio.sleep(seconds)
        return os.getpid()

    def scale(change):
        return mob.scale(change)

    def place():
        return mob.me().index
    """
FRONT = """
    import mob
    back = mob.require("back")

    async def burst(count):
        calls = [back.held() for _ in range(count)]
        return len({await call for call in calls})
    """


@pytest.fixture(scope="module")
def scaled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("scaling")) as apps:
        roles = '.role("back", "./back.py", workers=2, max_workers=4).role("plain", "./back.py")'
        app = apps.start(roles, back=BACK)
        app.wait_ready()
        yield app


@pytest.fixture
def client(scaled: RunningApp) -> mob.Client:
    """Return a client of an app whose roles have their first size."""
    client = scaled.connect()
    for role, count in (("back", 2), ("plain", 1)):
        client.scale(role, count)
        wait_size(scaled, client, role, count)
    return client


def wait_size(app: RunningApp, client: mob.Client, role: str, count: int) -> list[int]:
    """Wait until that many workers of a role are there and ready; return their pids."""
    wait_until(
        lambda: [m.state for m in client.members() if m.role == role] == ["ready"] * count, f"{role} has {count}"
    )
    return [member.pid for member in app.ready(client, role)]


def test_a_role_scales_itself_within_its_limits(scaled: RunningApp, client: mob.Client) -> None:
    back = client.require("back")
    assert back.scale(1).result(patient(20)) == "back: 3 workers wanted, 2 ready."
    wait_size(scaled, client, "back", 3)
    assert back.scale(1).result(patient(20)) == "back: 4 workers wanted, 3 ready."
    with pytest.raises(mob.RemoteError, match=r"'back' cannot have 5 workers \(workers=2, max_workers=4\)"):
        back.scale(1).result(patient(20))
    assert back.scale(-2).result(patient(20)) == "back: 2 workers."
    with pytest.raises(mob.RemoteError, match="'back' cannot have 1 worker"):
        back.scale(-1).result(patient(20))
    with pytest.raises(mob.RemoteError, match="'plain' cannot have 2 workers"):
        client.require("plain").scale(1).result(patient(20))
    wait_size(scaled, client, "back", 2)


def test_a_client_scales_as_it_likes(scaled: RunningApp, client: mob.Client) -> None:
    assert client.scale("plain", 5) == "plain: 5 workers wanted, 1 ready."
    before = wait_size(scaled, client, "plain", 5)
    assert sorted(client.all("plain").call.place().result(patient(20)).values()) == [0, 1, 2, 3, 4]
    assert client.scale("plain", -2, relative=True) == "plain: 3 workers."
    assert wait_size(scaled, client, "plain", 3) == before[:3]  # the highest places go
    for count in (0, -1, 5000):
        with pytest.raises(mob.MobError, match=r"'plain' cannot have .* workers \(1 to 1,024\)"):
            client.scale("plain", count)
    with pytest.raises(mob.UnknownRole):
        client.scale("plan", 2)


def test_the_command(scaled: RunningApp, client: mob.Client) -> None:
    done = mob_command(scaled, "scale", "plain=3", "back=+1", "-a", scaled.name)
    told = ["plain: 3 workers wanted, 1 ready.", "back: 3 workers wanted, 2 ready.", "back: 3 ready, plain: 3 ready."]
    assert done.stdout.splitlines() == told
    wait_size(scaled, client, "plain", 3)
    wait_size(scaled, client, "back", 3)
    assert [(row.role, row.index) for row in client.overview()] == [
        *(("back", index) for index in range(3)),
        *(("plain", index) for index in range(3)),
    ]
    wrong = mob_command(scaled, "scale", "plain", "-a", scaled.name)
    assert wrong.exit_code == 2
    assert "'plain' does not have the form ROLE=N, as in back=8 or back=+1." in wrong.output
    refused = mob_command(scaled, "scale", "plain=0", "-a", scaled.name)
    assert (refused.exit_code, refused.output) == (1, "Error: 'plain' cannot have 0 workers (1 to 1,024).\n")


def test_signals_change_the_roles_that_may_grow(scaled: RunningApp, client: mob.Client) -> None:
    scaled.signal(signal.SIGTTIN)
    wait_size(scaled, client, "back", 3)
    scaled.signal(signal.SIGTTOU)
    wait_size(scaled, client, "back", 2)
    wait_size(scaled, client, "plain", 1)


def test_a_signal_that_cannot_be_followed_says_why(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back=BACK)
    app.wait_ready()
    app.signal(signal.SIGTTOU)
    app.wait_for(r"mob \| 'back' cannot have 0 workers \(1 to 1,024\)\.")


def test_scaling_down_finishes_the_calls_in_hand(scaled: RunningApp, client: mob.Client) -> None:
    client.scale("plain", 4)
    pids = wait_size(scaled, client, "plain", 4)
    calls = [client.pid(pid).call.waits(1.0) for pid in pids]
    assert [call.result(patient(20)) for call in [client.pid(pid).call.work(1) for pid in pids]] == [
        [1, pid] for pid in pids
    ]
    client.scale("plain", 1)
    assert [call.result(patient(20)) for call in calls] == pids
    assert wait_size(scaled, client, "plain", 1) == pids[:1]


def test_up_and_down_while_callers_call_on(scaled: RunningApp, client: mob.Client) -> None:
    with Caller(scaled, "plain") as caller:
        for count in (4, 1, 3, 2, 1):
            client.scale("plain", count)
            wait_size(scaled, client, "plain", count)
    assert caller.calls > 0


def test_a_key_keeps_its_worker(scaled: RunningApp, client: mob.Client) -> None:
    client.scale("plain", 4)
    wait_size(scaled, client, "plain", 4)
    keys = range(100)

    def places() -> list[int]:
        plain = client.require("plain")
        calls = [plain.options(key=key).place() for key in keys]
        return [call.result(patient(20)) for call in calls]

    before = places()
    assert set(before) == {0, 1, 2, 3}
    old = scaled.ready(client, "plain")[2].pid
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: old not in [member.pid for member in client.members()], "it is gone")
    assert places() == before  # a successor has the place
    client.scale("plain", 5)
    wait_size(scaled, client, "plain", 5)
    moved = [new for old, new in zip(before, places(), strict=True) if old != new]
    assert 0 < len(moved) <= 40
    assert set(moved) == {4}  # what moves, moves to the new one


@pytest.mark.parametrize("workers", [1, 2])
def test_a_role_grows_with_its_load(apps: Apps, workers: int) -> None:
    roles = f'.role("back", "./back.py", workers={workers}, max_workers=5).role("front", "./front.py")'
    app = apps.start(roles, back=BACK, front=FRONT)
    client = app.wait_ready()
    burst = client.require("front").burst(24)
    app.wait_for(r"mob \| back: \d -> \d workers; calls wait\.")
    wait_until(lambda: len(app.ready(client, "back")) >= workers + 2, "it has grown")
    (app.directory / "grown").touch()
    assert burst.result(patient(60)) >= workers  # what was with a worker stays there
    assert client.require("front").burst(24).result(patient(60)) >= workers + 2
    assert len(app.ready(client, "back")) <= 5
