"""Exports that take batches (`@mob.export(batch=...)`), in real workers: which calls are in which batch, and which
calls a failure affects.

`within=1000` means "not before it is full": a test that ends has not waited for that.
"""

from __future__ import annotations

import os
import signal
import threading
from asyncio import CancelledError
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mob
from tests.patience import PATIENCE, patient
from tests.running import Apps, RunningApp, apps_in, wait_until

BACK = """
import asyncio, os, time
from pathlib import Path

import mob

def note(name, numbers):
    with open("batches", "a") as file:
        file.write(f"{name} {os.getpid()} {' '.join(map(str, numbers))}\\n")

def is_open(number):
    return Path("door").exists() or Path(f"door{number}").exists()

@mob.export(batch=3, within=1000)
def full(numbers: list[int], label: list[str] = "", *, times: list[int] = 2) -> list[str]:
    note("full", numbers)
    return [f"{label}{number * factor}" for number, label, factor in zip(numbers, label, times, strict=True)]

@mob.export(batch=3, within=1000)
async def full_async(numbers: list[int]) -> list[int]:
    note("full_async", numbers)
    await asyncio.sleep(0)
    return [2 * number for number in numbers]

@mob.export(batch=3, within=0.01)
def soon(numbers: list[int]) -> list[int]:
    return [len(numbers)] * len(numbers)

@mob.export(batch=4)
def held(numbers: list[int]) -> list[int]:
    note("held", numbers)
    while not is_open(numbers[0]):
        time.sleep(0.002)
    return numbers

@mob.export(batch=4)
async def held_async(numbers: list[int]) -> list[int]:
    note("held_async", numbers)
    try:
        while not is_open(numbers[0]):
            await asyncio.sleep(0.002)
    except asyncio.CancelledError:
        note("cancelled", numbers)
        raise
    return numbers

@mob.export(batch=2, within=1000, concurrency=2)
async def two(numbers: list[int]) -> list[int]:
    note("two", numbers)
    while not is_open(numbers[0]):
        await asyncio.sleep(0.002)
    return numbers

@mob.export(batch=4, timeout=0.05)
async def short(numbers: list[int]) -> list[int]:
    await asyncio.sleep(1000)
    return numbers

@mob.export(batch=4, idempotent=True)
def again(numbers: list[int]) -> list[int]:
    return held(numbers)

@mob.export(batch=3, within=1000)
def some_fail(numbers: list[int]) -> list[object]:
    found = {1: 1, 2: ValueError("two"), 3: object()}
    return [found[number] for number in numbers]

@mob.export(batch=3, within=1000)
def raises(numbers: list[int]) -> list[int]:
    raise LookupError("all of them")

@mob.export(batch=3, within=1000)
def counted(numbers: list[int]) -> list[int]:
    raise LookupError("all of them")

@mob.export(batch=3, within=1000)
def too_few(numbers: list[int]) -> list[int]:
    return numbers[1:]

class Array(tuple):
    def tolist(self): ...

@mob.export(batch=3, within=1000)
def no_list(numbers: list[int]) -> list[int]:
    return Array(numbers)

@mob.export(batch=3, within=1000)
def who(numbers: list[int]) -> list[str]:
    caller = mob.caller()
    return ["several" if caller is None else "one"] * len(numbers)

class Model:
    def __init__(self, factor: int):
        self.factor = factor

    @mob.export(batch=3, within=1000)
    def times(self, numbers: list[int]) -> list[int]:
        note("times", numbers)
        return [number * self.factor for number in numbers]

Model = mob.export(Model)

@mob.export
def in_hand() -> int:
    from mob.mobster import api
    return api.current("x").statistics()["in_hand"]
"""


class Running:
    """An app with one worker of `back` and one of `threaded`, and their batches."""

    def __init__(self, app: RunningApp, role: str) -> None:
        self.app = app
        self.client = app.wait_ready()
        self.back = directly(self.client, role)
        self.asks = 1 if role == "threaded" else 0  # `in_hand` itself is in a thread, and counts
        self.batches_file.unlink(missing_ok=True)
        for door in app.directory.glob("door*"):
            door.unlink()

    @property
    def batches_file(self) -> Path:
        return self.app.directory / "batches"

    @property
    def door(self) -> Path:
        return self.app.directory / "door"

    def open_door(self, number: int) -> None:
        """Let the batch go on that begins with that number."""
        self.app.directory.joinpath(f"door{number}").touch()

    def batches(self, name: str = "") -> list[list[int]]:
        """Return the batches that began, in order."""
        lines = self.batches_file.read_text().splitlines() if self.batches_file.exists() else []
        return [[int(each) for each in line.split()[2:]] for line in lines if line.startswith(f"{name} ") or not name]

    def wait_in_hand(self, count: int) -> None:
        """Wait until the worker has so many calls in hand."""
        wait_until(
            lambda: self.back.in_hand().result(PATIENCE) - self.asks == count, f"{count} calls are in hand there"
        )


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("batches")) as apps:
        yield apps.start('.role("back", "./back.py").role("threaded", "./back.py", threads=2)', back=BACK)


@pytest.fixture
def running(app: RunningApp) -> Iterator[Running]:
    made = Running(app, "back")
    yield made
    made.door.touch()


@pytest.fixture(params=["back", "threaded"])
def either(app: RunningApp, request: pytest.FixtureRequest) -> Iterator[Running]:
    made = Running(app, request.param)
    yield made
    made.door.touch()


def directly(client: mob.Client, role: str) -> Any:
    """Return the only worker of a role by its pid, so that calls wait there and not at the caller."""
    pid = next(member.pid for member in client.members() if member.role == role)
    return client.require(role).options(pid=pid)


def outcome(call: mob.Call[Any]) -> Any:
    """Return the result, or the type of the error and `.executed`."""
    try:
        return call.result(PATIENCE)
    except CancelledError:
        return "cancelled"
    except mob.CallError as error:
        return type(error).__name__, error.executed


@pytest.mark.parametrize("name", ["full", "full_async"])
def test_calls_with_single_values_get_single_results(either: Running, name: str) -> None:
    calls = [getattr(either.back, name)(number) for number in range(6)]
    kind = str if name == "full" else int
    assert [call.result(PATIENCE) for call in calls] == [kind(2 * number) for number in range(6)]
    assert either.batches() == [[0, 1, 2], [3, 4, 5]]


def test_each_call_has_its_own_named_arguments_and_defaults(running: Running) -> None:
    calls = [running.back.full(1), running.back.full(2, "x"), running.back.full(label="y", numbers=3, times=5)]
    assert [call.result(PATIENCE) for call in calls] == ["2", "x4", "y15"]


def test_a_batch_that_is_not_full_begins_after_within(running: Running) -> None:
    assert running.back.soon(0).result(PATIENCE) == 1


def test_what_waits_meanwhile_forms_the_next_batches(either: Running) -> None:
    first = either.back.held_async(0)
    wait_until(lambda: either.batches() == [[0]], "the first one runs alone")
    calls = [either.back.held_async(number) for number in range(1, 11)]
    either.wait_in_hand(11)
    assert either.batches() == [[0]]  # one batch at a time
    either.door.touch()
    assert [call.result(PATIENCE) for call in [first, *calls]] == list(range(11))
    assert either.batches() == [[0], [1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]


def test_as_many_batches_at_once_as_concurrency_says(running: Running) -> None:
    calls = [running.back.two(number) for number in range(6)]
    wait_until(lambda: len(running.batches()) == 2, "two batches run")
    running.wait_in_hand(4)  # two batches, and two calls that wait
    assert running.batches() == [[0, 1], [2, 3]]
    running.door.touch()
    assert [call.result(PATIENCE) for call in calls] == list(range(6))


def test_an_argument_that_does_not_fit_fails_alone(either: Running) -> None:
    calls = [either.back.full(number) for number in (1, "two", 3, 4)]
    outcomes = [outcome(call) for call in calls]
    assert outcomes == ["2", ("ArgumentError", "no"), "6", "8"]
    assert either.batches() == [[1, 3, 4]]


def test_an_exception_in_the_list_fails_its_call_only(either: Running) -> None:
    calls = [either.back.some_fail(number) for number in (1, 2, 3)]
    assert calls[0].result(PATIENCE) == 1
    with pytest.raises(ValueError, match="two") as failed:
        calls[1].result(PATIENCE)
    assert isinstance(failed.value, mob.CallError)
    assert failed.value.executed == "yes"
    with pytest.raises(mob.CallError, match="cannot send result"):
        calls[2].result(PATIENCE)


FAILING = {
    "raises": (LookupError, r"all of them"),
    "too_few": (
        mob.CallError,
        r"returned 2 results for a batch of 3 calls\. It must return one for each call, in the order of its arguments",
    ),
    "no_list": (mob.CallError, r"must return a list; it returned 'Array'\. Make it a list, for example with `\.toli"),
}


@pytest.mark.parametrize("name", FAILING)
def test_what_fails_as_a_whole_fails_all(either: Running, name: str) -> None:
    kind, text = FAILING[name]
    for call in [getattr(either.back, name)(number) for number in range(3)]:
        with pytest.raises(kind, match=text) as failed:
            call.result(PATIENCE)
        assert isinstance(failed.value, mob.CallError)
        assert failed.value.executed == "yes"


def test_a_call_that_is_cancelled_while_it_waits_is_in_no_batch(either: Running) -> None:
    calls = [either.back.full(number) for number in (1, 2)]
    either.wait_in_hand(2)
    assert calls[1].cancel()
    either.wait_in_hand(1)
    calls += [either.back.full(number) for number in (3, 4)]
    assert [outcome(call) for call in calls] == ["2", "cancelled", "6", "8"]
    assert either.batches() == [[1, 3, 4]]


def test_a_call_that_expires_while_it_waits_is_in_no_batch(either: Running) -> None:
    calls = [either.back.full(1), either.back.options(pid=None, timeout=0.05).full(2)]
    assert outcome(calls[1]) == ("CallTimeout", "no")
    calls += [either.back.full(number) for number in (3, 4)]
    assert [outcome(call) for call in calls] == ["2", ("CallTimeout", "no"), "6", "8"]
    assert either.batches() == [[1, 3, 4]]


@pytest.mark.parametrize(
    ("either", "name"),
    [("back", "held_async"), ("threaded", "held"), ("threaded", "held_async")],  # not where `def` blocks the loop
    indirect=["either"],
)
def test_a_call_that_is_cancelled_or_expires_while_it_runs_harms_no_other(either: Running, name: str) -> None:
    held = getattr(either.back, name)
    first = held(0)
    wait_until(lambda: either.batches() == [[0]], "a batch runs")
    calls = [held(1), getattr(either.back.options(timeout=patient(0.5)), name)(2), held(3), held(4)]
    either.wait_in_hand(5)
    either.open_door(0)
    assert first.result(PATIENCE) == 0
    wait_until(lambda: either.batches() == [[0], [1, 2, 3, 4]], "the others are in one batch")
    assert calls[2].cancel()
    assert outcome(calls[1]) == ("CallTimeout", "yes")
    either.open_door(1)
    assert [outcome(call) for call in calls] == [1, ("CallTimeout", "yes"), "cancelled", 4]


def test_a_batch_that_nobody_wants_is_cancelled(either: Running) -> None:
    first = either.back.held_async(0)
    wait_until(lambda: either.batches() == [[0]], "a batch runs")
    calls = [either.back.held_async(number) for number in (1, 2)]
    either.wait_in_hand(3)
    assert first.cancel()
    wait_until(lambda: either.batches() == [[0], [0], [1, 2]], "it was cancelled, and the next one runs")
    assert calls[0].cancel()
    either.open_door(1)
    assert calls[1].result(PATIENCE) == 2
    assert either.batches("cancelled") == [[0]]
    either.open_door(9)
    assert either.back.held_async(9).result(PATIENCE) == 9


def test_the_timeout_of_the_export_is_that_of_a_batch(either: Running) -> None:
    assert [outcome(call) for call in [either.back.short(number) for number in range(3)]] == [
        ("CallTimeout", "yes")
    ] * 3
    either.wait_in_hand(0)


def test_map(either: Running) -> None:
    assert list(either.client.require("back").soon.map(range(3_000))).count(3) > 2_000
    assert list(either.client.require("back").full.map(range(300))) == [str(2 * number) for number in range(300)]


def test_the_caller_of_a_batch_of_several_is_none(running: Running) -> None:
    other = directly(running.app.connect(), "back")
    calls = [running.back.who(1), running.back.who(2), other.who(3)]
    assert [call.result(PATIENCE) for call in calls] == ["several"] * 3
    assert [call.result(PATIENCE) for call in [running.back.who(number) for number in range(3)]] == ["one"] * 3


def test_methods_of_a_service_take_batches_for_each_object(running: Running) -> None:
    two, five = running.back.Model(2), running.back.Model(5)
    calls = [(two if number % 2 else five).times(number) for number in range(6)]
    assert [call.result(PATIENCE) for call in calls] == [0, 2, 10, 6, 20, 10]
    assert sorted(running.batches()) == [[0, 2, 4], [1, 3, 5]]


def test_calls_are_counted_one_by_one(running: Running) -> None:
    def counted() -> tuple[int, int]:
        exports = running.client.metrics().exports
        figures = next((each for each in exports if (each.role, each.export) == ("back", "counted")), None)
        return (0, 0) if figures is None else (sum(figures.ran), sum(figures.failed.values()))

    calls, failed = counted()
    for call in [running.back.counted(number) for number in range(6)]:
        assert call.exception(PATIENCE) is not None
    wait_until(lambda: counted()[0] == calls + 6, "all of them are counted")
    assert counted()[1] == failed + 6


def test_a_signature_is_that_of_a_single_call(running: Running) -> None:
    assert repr(running.back.full) == "<back.full(numbers: int, label: str = '', *, times: int = 2) -> str>"


# ------------------------------------------------------------------------------------------------ ends of workers


def start(apps: Apps, workers: int = 2, threads: int = 1) -> tuple[RunningApp, mob.Client]:
    app = apps.start(f'.role("back", "./back.py", workers={workers}, threads={threads})', back=BACK)
    return app, app.wait_ready(workers)


def begun(app: RunningApp) -> list[tuple[int, list[int]]]:
    """Return the pid and the calls of each batch that began."""
    file = app.directory / "batches"
    lines = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
    return [(int(pid), [int(number) for number in numbers]) for _, pid, *numbers in lines]


@pytest.mark.parametrize(("name", "threads"), [("held", 1), ("held", 2), ("held_async", 1), ("again", 1)])
def test_a_death_costs_those_that_were_in_a_batch_and_no_other(apps: Apps, name: str, threads: int) -> None:
    app, client = start(apps, threads=threads)
    calls = [getattr(client.require("back"), name)(number) for number in range(40)]
    wait_until(lambda: len(begun(app)) == 2, "a batch runs in each worker")
    (dying, lost), _ = begun(app)
    os.kill(dying, signal.SIGKILL)
    wait_until(lambda: len(begun(app)) == 3, "its successor works")
    app.directory.joinpath("door").touch()
    gone = [] if name == "again" else lost
    expected = [("Lost", "maybe") if number in gone else number for number in range(40)]
    assert [outcome(call) for call in calls] == expected
    ran = [number for _, numbers in begun(app) for number in numbers]
    assert sorted(ran) == sorted([*range(40), *(lost if name == "again" else [])])


def test_a_reload_costs_no_call(apps: Apps) -> None:
    app, client = start(apps)
    back = client.require("back")
    calls = [back.held(number) for number in range(40)]
    wait_until(lambda: len(begun(app)) == 2, "a batch runs in each worker")
    reload = threading.Thread(target=client.reload, args=("back",))
    reload.start()
    app.directory.joinpath("door").touch()
    assert [outcome(call) for call in calls] == list(range(40))
    assert sorted(number for _, numbers in begun(app) for number in numbers) == list(range(40))
    reload.join(PATIENCE)
    wait_until(lambda: all(member.generation == 2 for member in app.ready(client, "back")), "both were replaced")


def test_a_function_that_cannot_take_batches_is_refused_as_an_import_that_fails(apps: Apps) -> None:
    back = "import mob\n\n@mob.export(batch=4)\ndef f(*x):\n    return x\n"
    app = apps.start('.role("back", "./back.py")', back=back)
    app.wait_for(
        r"back\.0 \(pid \d+\) could not import 'back'; .*Same error as before: TypeError: back\.f has the parameter \*x"
    )
    assert "Traceback" not in app.output
    assert "status 70" not in app.output
