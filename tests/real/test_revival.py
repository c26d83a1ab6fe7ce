"""Mobsters that die are restarted in their place; those that cannot start are reported and harm no other."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import psutil
import pytest

import mob
from tests.patience import patient
from tests.running import Apps, RunningApp, apps_in, wait_until

BACK = """
import asyncio
import ctypes
import os

def who():
    return os.getpid()

async def for_ever():
    await asyncio.Event().wait()

def die(how):
    match how:
        case "kill -9 by its own hand":
            os.kill(os.getpid(), 9)
        case "os._exit":
            os._exit(3)
        case "segfault":
            ctypes.string_at(0)
"""

FRONT = """
import asyncio
import mob

back = mob.require("back")
tasks = []
served = {}
failed = []

async def load(key, view):
    while True:
        try:
            await view.who()
            served[key] = served.get(key, 0) + 1
        except mob.CallError as error:
            failed.append([key, type(error).__name__, error.executed])

@mob.export
async def begin(pids):
    served.clear()
    failed.clear()
    tasks.append(asyncio.create_task(load("any", back)))
    for pid in pids:
        tasks.append(asyncio.create_task(load(str(pid), back.options(pid=pid))))

@mob.export
def progress():
    return served

@mob.export
async def end():
    while tasks:
        tasks.pop().cancel()
    return failed
"""

GOOD = """
def double(number):
    return 2 * number
"""

BROKEN: dict[str, Any] = {
    "raises": """
        def helper():
            return {}["the key that is missing"]

        def double(number):
            return 2 * number

        helper()
        """,
    "typo": """
        def double(number)
            return 2 * number
        """,
    "leaves": """
        import sys
        sys.exit(3)
        """,
    "crashes": """
        import ctypes
        ctypes.string_at(0)
        """,
}
PROMPT = patient(5.0)
"""Maximum seconds of prompt steps on a loaded machine; what waits for a timeout takes 30."""


# ------------------------------------------------------------------------------------------- a worker that was ready


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("revival")) as apps:
        app = apps.start(
            '.role("back", "./back.py", workers=4).role("front", "./front.py")',
            back=BACK,
            front=FRONT,
        )
        app.wait_ready()
        yield app


@pytest.mark.parametrize("how", ["kill -9", "kill -9 by its own hand", "os._exit", "segfault"])
def test_a_dead_worker_is_succeeded_and_the_others_never_notice(app: RunningApp, how: str) -> None:
    client = app.clients[0]
    front, back = client.require("front"), client.require("back")
    before = wait_until(lambda: all_four(app), "four workers are there")
    doomed = min(before, key=lambda member: member.generation)
    others = [member for member in before if member is not doomed]
    in_flight = [back.options(pid=doomed.pid).for_ever() for _ in range(3)]
    wait_until(lambda: back.options(pid=doomed.pid).who().result(PROMPT), "the calls have arrived")
    front.begin([member.pid for member in others]).result(PROMPT)
    wait_until(lambda: len(front.progress().result(PROMPT)) == 4, "the load runs")

    died = time.monotonic()
    if how == "kill -9":
        os.kill(doomed.pid, signal.SIGKILL)
    else:
        in_flight.append(back.options(pid=doomed.pid).die(how))
    errors = [call.exception(PROMPT) for call in in_flight]
    assert time.monotonic() - died < PROMPT
    assert [(type(error), error.executed) for error in errors] == [(mob.Lost, "maybe")] * len(errors)  # type: ignore[union-attr]

    def successor() -> list[Any]:
        return [
            m for m in app.ready(client, "back") if m.index == doomed.index and m.generation == doomed.generation + 1
        ]

    (revived,) = wait_until(successor, "its successor is ready", PROMPT)
    assert revived.pid != doomed.pid
    then = front.progress().result(PROMPT)
    wait_until(lambda: has_grown(then, front.progress().result(PROMPT)), "the load goes on", PROMPT)
    failed = front.end().result(PROMPT)
    assert all(failure == ["any", "Lost", "maybe"] for failure in failed), failed
    assert len(failed) <= 1  # the one that was at the dead worker, if one was
    assert [m for m in app.ready(client, "back") if m.index != doomed.index] == others
    assert back.options(pid=revived.pid).who().result(PROMPT) == revived.pid
    app.wait_for(rf"mob \| back\.{doomed.index} \(pid {doomed.pid}\) .*; restarting it")


def all_four(app: RunningApp) -> list[Any]:
    ready = app.ready(app.clients[0], "back")
    return ready if len(ready) == 4 else []


def has_grown(then: dict[str, int], now: dict[str, int]) -> bool:
    return set(now) == set(then) and all(now[key] > then[key] for key in then)


def test_a_worker_that_dies_again_and_again_is_given_growing_pauses(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back=BACK)
    client = app.wait_ready()
    for generation in range(1, 7):
        (member,) = wait_until(lambda: app.ready(client, "back"), f"generation {generation} is there", PROMPT)
        assert member.generation == generation
        os.kill(member.pid, signal.SIGKILL)
        wait_until(lambda: member not in client.members(), "its end is known", PROMPT)  # noqa: B023  asked at once
    told = app.wait_for(r"mob \| back\.0 \(pid \d+\) was killed by SIGKILL; restarting it(?: in (.+) s)?\.", 6)
    assert told[0][1] is None
    for match, pause in zip(told[1:], [0.1, 0.15, 0.225, 0.3375, 0.506], strict=True):
        assert float(match[1]) == pytest.approx(pause, abs=0.1 * pause + 0.051)  # by chance, and rounded
    (row,) = client.overview()
    assert row.restarts == 6


# -------------------------------------------------------------------------------------- a worker that never gets ready


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    """An app with one good role and four that cannot come up; each has failed a few times already."""
    with apps_in(tmp_path_factory.mktemp("failing")) as apps:
        roles = "".join(f'.role("{name}", "./{name}.py")' for name in BROKEN)
        app = apps.start(f'.role("good", "./good.py", workers=2){roles}', good=GOOD, **BROKEN)
        client = app.connect()
        for name in BROKEN:
            app.wait_for(rf"mob \| {name}\.0 .* in .* s\.", 6)
        assert len(app.ready(client)) == 2
        yield app


def pauses_of(app: RunningApp, role: str) -> list[float]:
    found = app.wait_for(rf"mob \| {role}\.0 \(pid \d+\) .*(?:next try|restarting it) in (\d+\.\d) s\.", 6)
    return [float(match[1]) for match in found]


@pytest.mark.parametrize("role", BROKEN)
def test_it_is_tried_again_after_growing_pauses(failing: RunningApp, role: str) -> None:
    pauses = pauses_of(failing, role)
    for said, pause in zip(pauses, [0.1, 0.15, 0.225, 0.3375, 0.506, 0.759], strict=False):
        assert said == pytest.approx(pause, abs=0.1 * pause + 0.051)  # by chance, and rounded
    assert all(later >= earlier for earlier, later in pairwise(pauses))


def test_an_exception_is_reported_with_its_traceback(failing: RunningApp) -> None:
    """The error is shown in full once; then only that it is the same."""
    first = re.search(
        r"mob \| raises\.0 \(pid \d+\) could not import 'raises'.*Its error:\n((?: {4}.*\n)+)", failing.output
    )
    assert first is not None, failing.output
    report = first[1]
    assert report.startswith("    Traceback (most recent call last):\n")
    assert f'File "{failing.directory / "raises.py"}", line 8, in <module>' in report
    assert "in helper" in report
    assert report.endswith("KeyError: 'the key that is missing'\n")
    assert "mob/mobster" not in report
    assert "importlib" not in report
    assert failing.output.count("raises.py") == 2
    failing.wait_for(
        r"raises\.0 \(pid \d+\) could not import 'raises'; .* Same error as before: KeyError: 'the key that", 3
    )


def test_a_mistyped_module_is_reported_with_its_line(failing: RunningApp) -> None:
    failing.wait_for(r"mob \| typo\.0 \(pid \d+\) could not import 'typo'; next try in 0.1 s. Its error:")
    failing.wait_for(r"^    SyntaxError: expected ':'")
    assert f'File "{failing.directory / "typo.py"}", line 2' in failing.output


def test_a_module_that_leaves_is_reported_as_such(failing: RunningApp) -> None:
    failing.wait_for(r"^    SystemExit: the module called sys.exit\(3\) while it was imported\.")


def test_a_module_that_crashes_is_reported_with_its_signal(failing: RunningApp) -> None:
    failing.wait_for(r"mob \| crashes\.0 \(pid \d+\) was killed by SIGSEGV before it was ready; restarting it in")
    failing.wait_for(r"^crashes\.0 \d+ \| Fatal Python error: Segmentation fault")
    failing.wait_for(r"^crashes\.0 \d+ \|   File \".*crashes\.py\", line 3 in <module>")


@pytest.mark.parametrize(
    ("role", "reason"),
    [
        ("raises", "KeyError: 'the key that is missing'"),
        ("typo", "SyntaxError: expected ':'"),
        ("leaves", "SystemExit: the module called sys.exit(3) while it was imported."),
        ("crashes", "was killed by SIGSEGV"),
    ],
)
def test_it_is_shown_as_failing(failing: RunningApp, role: str, reason: str) -> None:
    client = failing.clients[0]

    def shown() -> Any:
        return next((row for row in client.overview() if row.role == role and row.state == "failing"), None)

    row = wait_until(shown, f"{role} is shown as failing")
    assert row.pid == 0
    assert row.restarts >= 6
    assert re.fullmatch(re.escape(reason.removesuffix(".")) + r"; next try in \d+\.\d s", row.note)
    assert client.roles()[role].failing == f"{role}.0: {reason}"
    error = client.require(role).options(wait=0.1).double(1).exception(PROMPT)
    assert isinstance(error, mob.Unavailable)
    assert error.executed == "no"
    assert reason in str(error)


def test_the_other_roles_go_on(failing: RunningApp) -> None:
    client = failing.clients[0]
    assert [client.require("good").double(n).result(PROMPT) for n in range(20)] == [2 * n for n in range(20)]
    assert [member.generation for member in failing.ready(client, "good")] == [1, 1]


def test_trying_again_costs_next_to_nothing(failing: RunningApp) -> None:
    """All processes of the app, including those that live and die meanwhile, use less than half a core."""
    began, before = time.monotonic(), cpu_time(failing)
    time.sleep(1.0)  # not to wait for anything: this is what is measured
    used, passed = cpu_time(failing) - before, time.monotonic() - began
    assert used / passed < 0.5


def cpu_time(app: RunningApp) -> float:
    """Return the seconds that the app has used, including those of its ended processes."""
    total = 0.0
    for pid in app.processes():
        try:
            total += sum(psutil.Process(pid).cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue  # its time counts as its parent's now, or does a little later
    return total


def test_once_repaired_it_comes_up(failing: RunningApp) -> None:
    client = failing.clients[0]
    waiting = [client.require(role).double(21) for role in BROKEN]
    for role in BROKEN:
        (failing.directory / f"{role}.py").write_text(GOOD)
    assert [call.result(patient(20)) for call in waiting] == [42] * 4
    wait_until(lambda: {row.state for row in client.overview()} == {"ready"}, "all are ready")
    assert {row.note for row in client.overview()} == {""}
    wait_until(lambda: not any(info.failing for info in client.roles().values()), "no role is failing any more", PROMPT)
