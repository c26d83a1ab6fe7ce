"""Calls whose worker is killed because they take too long (`@mob.export(kill_after=...)`): what each caller gets."""

from __future__ import annotations

import time
from collections import Counter
from functools import partial
from typing import Any

import pytest

import mob
from mob.errors import counted
from tests.patience import PATIENCE, patient
from tests.running import Apps, RunningApp, mob_command, wait_until

LIMIT = patient(1)
"""Seconds; longer than anything else in these tests."""
BACK = f"""
import asyncio, os, re, time
from pathlib import Path

import mob

LIMIT = {LIMIT}

def note(number):
    with open("begun", "a") as file:
        file.write(f"{{number}} {{os.getpid()}}\\n")

def hold_the_interpreter():
    re.match(r"(a+)+$", "a" * 60 + "b")

@mob.export(kill_after=LIMIT)
def stuck(number):
    note(number)
    hold_the_interpreter()

@mob.export(kill_after=LIMIT)
def sleeps(number):
    note(number)
    time.sleep(1000)

@mob.export(kill_after=LIMIT)
async def stuck_async(number):
    note(number)
    await asyncio.sleep(1000)

@mob.export(kill_after=LIMIT, idempotent=True)
def stuck_again(number):
    note(number)
    hold_the_interpreter()

@mob.export(kill_after=1000)
async def patient(number):
    note(number)
    await asyncio.sleep(1000)

@mob.export(kill_after=LIMIT)
def some(number):
    note(number)
    if number == 3:
        hold_the_interpreter()
    return number

@mob.export(kill_after=LIMIT, batch=3, within=0.05)
def batch(numbers: list[int]) -> list[int]:
    note(numbers)
    if 3 in numbers:
        hold_the_interpreter()
    return numbers

@mob.export(kill_after=0.2)
async def quick():
    await asyncio.sleep(0.05)
    return os.getpid()

@mob.export
def wait(number):
    note(number)
    while not Path("door").exists():
        time.sleep(0.005)
    return number

class Room:
    @mob.export(kill_after=LIMIT)
    def stay(self, number):
        note(number)
        hold_the_interpreter()

Room = mob.export(Room)

@mob.export
def pid():
    return os.getpid()
"""


def start(apps: Apps, workers: int = 2, threads: int = 1) -> tuple[RunningApp, mob.Client]:
    app = apps.start(f'.role("back", "./back.py", workers={workers}, threads={threads})', back=BACK)
    return app, app.wait_ready(workers)


def begun(app: RunningApp) -> Counter[str]:
    file = app.directory / "begun"
    lines = file.read_text().splitlines() if file.exists() else []
    return Counter(line.rpartition(" ")[0] for line in lines)


def outcome(call: mob.Call[Any]) -> Any:
    try:
        return call.result(PATIENCE)
    except mob.CallError as error:
        return type(error).__name__, error.executed


@pytest.mark.parametrize("name", ["stuck", "sleeps", "stuck_async", "stuck_again"])
@pytest.mark.parametrize("threads", [1, 2])
def test_its_caller_gets_a_timeout_and_another_worker_comes(apps: Apps, name: str, threads: int) -> None:
    app, client = start(apps, workers=1, threads=threads)
    back = client.require("back")
    before = back.pid().result(PATIENCE)
    with pytest.raises(mob.CallTimeout) as failed:
        getattr(back, name)(1).result(PATIENCE)
    assert str(failed.value) == (
        f"back.{name} ran for more than {LIMIT:g} s (kill_after={LIMIT:g}), so back.0 (pid {before}) was killed. It is "
        f"not repeated."
    )
    assert failed.value.executed == "yes"
    assert begun(app) == {"1": 1}
    assert back.pid().result(PATIENCE) != before
    why = rf"back\.0 \(pid {before}\) was killed because back\.{name} ran for more than {LIMIT:g} s"
    app.wait_for(f"{why} .* restarting it")
    shown = partial(mob_command, app.directory, "crashes", app.name)
    wait_until(lambda: f"(kill_after={LIMIT:g})" in shown().stdout, "`mob crashes` shows it")


def test_what_waited_in_its_worker_goes_to_another(apps: Apps) -> None:
    app, client = start(apps)
    back = client.require("back")
    stuck = back.stuck(-1)
    wait_until(lambda: begun(app) == {"-1": 1}, "it runs")
    dying = next(line.split()[1] for line in (app.directory / "begun").read_text().splitlines())
    calls = [back.options(pid=None).wait(number) for number in range(20)]
    app.directory.joinpath("door").touch()
    assert [outcome(call) for call in [stuck, *calls]] == [("CallTimeout", "yes"), *range(20)]
    assert begun(app) == {str(number): 1 for number in range(-1, 20)}
    assert int(dying) not in {member.pid for member in client.members()}


def test_what_had_begun_beside_it_is_lost_and_says_why(apps: Apps) -> None:
    app, client = start(apps, workers=1, threads=2)
    back = client.require("back")
    beside, patient_one = back.wait(0), back.patient(1)
    wait_until(lambda: len(begun(app)) == 2, "both run")
    stuck = back.sleeps(2)
    wait_until(lambda: len(begun(app)) == 3, "all of them run")
    assert outcome(stuck) == ("CallTimeout", "yes")
    for call in (beside, patient_one):
        with pytest.raises(mob.Lost, match=rf"was killed because back\.sleeps ran for more than {LIMIT:g} s") as lost:
            call.result(PATIENCE)
        assert lost.value.executed == "maybe"


def test_many_calls_that_are_quick_enough_cost_no_worker(apps: Apps) -> None:
    _, client = start(apps, workers=1)
    back = client.require("back")
    until, pids = time.monotonic() + 1, set[int]()
    while time.monotonic() < until:
        pids |= {call.result(PATIENCE) for call in [back.quick() for _ in range(20)]}
    assert len(pids) == 1


def test_a_longer_limit_is_no_excuse(apps: Apps) -> None:
    app, client = start(apps, workers=1)
    back = client.require("back")
    first = back.patient(0)
    wait_until(lambda: begun(app) == {"0": 1}, "it runs")
    assert outcome(back.stuck_async(1)) == ("CallTimeout", "yes")
    assert outcome(first) == ("Lost", "maybe")


def test_all_calls_of_a_batch_took_too_long(apps: Apps) -> None:
    _, client = start(apps, workers=1)
    back = client.require("back")
    calls = [back.batch(number) for number in (1, 2, 3, 4)]
    assert [outcome(call) for call in calls] == [("CallTimeout", "yes")] * 3 + [4]


def test_a_method_of_a_service(apps: Apps) -> None:
    app, client = start(apps, workers=1)
    room = client.require("back").Room().result(PATIENCE)
    assert outcome(room.stay(1)) == ("CallTimeout", "yes")
    assert begun(app) == {"1": 1}


def test_items_of_a_map_that_travelled_with_it_may_have_run(apps: Apps) -> None:
    app, client = start(apps, workers=1)
    outcomes = list(client.require("back").some.map(range(6), return_exceptions=True, chunk=6))
    assert {type(each).__name__ for each in outcomes} == {"CallTimeout"}
    assert {each.executed for each in outcomes if isinstance(each, mob.CallTimeout)} == {"maybe"}
    assert begun(app) == {str(number): 1 for number in range(4)}


def test_a_kingpin_that_has_taken_over_goes_on_watching(apps: Apps) -> None:
    app, client = start(apps, workers=1)
    back = client.require("back")
    assert back.quick().result(PATIENCE)
    stuck = back.sleeps(1)
    wait_until(lambda: begun(app) == {"1": 1}, "it runs")
    upgraded = mob_command(app.directory, "upgrade", app.name)
    assert upgraded.returncode == 0, upgraded.stderr
    assert outcome(stuck) == ("CallTimeout", "yes")
    assert outcome(back.stuck_async(2)) == ("CallTimeout", "yes")


@pytest.mark.parametrize("name", ["stuck", "stuck_async", "stuck_again", "batch"])
def test_a_durable_call_ends_with_a_timeout_and_is_tried_as_often_as_it_says(apps: Apps, name: str) -> None:
    app, client = start(apps, workers=1)
    back = client.require("back").options(durable=True, backoff=0.01)
    for retries in (0, 1):
        job = getattr(back.options(retries=retries), name)(3)
        with pytest.raises(mob.CallTimeout, match=rf"^back\.{name} ran for more than .* was killed\.$") as failed:
            job.result(patient(60))
        assert failed.value.executed == "yes"
        assert job.status().result(PATIENCE) == "dead"
        tries = counted(retries + 1, "attempt")
        app.wait_for(rf"back\.{name} \(job {job.id}\) is dead after {tries}: back\.{name} ran for more than")


def test_durable_calls_beside_it_are_given_to_another_worker(apps: Apps) -> None:
    app, client = start(apps, workers=1)
    back = client.require("back").options(durable=True)
    first = back.patient(0)
    wait_until(lambda: begun(app) == {"0": 1}, "it runs")
    with pytest.raises(mob.CallTimeout):
        back.options(retries=0).stuck_async(1).result(PATIENCE)
    wait_until(lambda: begun(app)["0"] == 2, "it runs again")
    assert first.drop().result(PATIENCE)
