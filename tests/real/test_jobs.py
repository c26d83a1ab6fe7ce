"""Durable jobs: what they promise, whatever is killed. The books are files that exports append to."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

import mob
from mob.jobs import store
from mob.peer.calls import jobs, outbox
from tests.patience import PATIENCE, patient
from tests.running import Apps, RunningApp, freeze, mob_command, wait_until

BACK = """
import asyncio, os, signal, time
import mob

def note(book, what):
    with open(book, "a") as file:
        file.write(f"{what}\\n")

def double(n):
    note("done", n)
    return 2 * n

def who(): return mob.caller().role, mob.delivery().attempt, mob.delivery().key, mob.me().pid

class Sold(Exception):
    def __init__(self, item, left):
        super().__init__(item, left)
        self.item, self.left = item, left

def fail(n, times=99):
    note("tries", n)
    if mob.delivery().attempt <= times:
        raise ValueError("not", n)
    return n

def sell(item): raise Sold(item, 3)

def die(n, times=99):
    note("tries", n)
    if mob.delivery().attempt <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return n

async def wait(n):
    note("began", n)
    while not os.path.exists("go"):
        await asyncio.sleep(0.01)
    note("done", n)
    return n

def generate():
    yield 1

def lend(): return lambda: 1

def big(data): return data + data

def takes(n: int) -> int: return n

class Room:
    def size(self): return 1

async def pause(n):
    await asyncio.sleep(n)
    return n

@mob.on("message")
def hear(obj):
    note("heard", f"{obj} {mob.delivery().attempt} {mob.caller().role or 'client'}")
    if obj == "bad" and mob.delivery().attempt < 2:
        raise ValueError("bad")
"""
FRONT = """
import mob
back = mob.require("back")

async def make(n):
    job = back.options(durable=True).double(n)
    await job.stored
    return job.id

async def result_of(id): return await mob.job(id)
async def who():
    return await back.options(durable=True).who()
def plain(n):
    job = back.options(durable=True).double(n)
    assert job.stored.result() == job.id
    return job.result(timeout=60)
async def say(what): await mob.any("back").send(what, durable=True)
"""
ROLES = '.role("back", "./back.py", workers=2).role("front", "./front.py")'


def start(apps: Apps, roles: str = ROLES, **more: str) -> tuple[RunningApp, mob.Client]:
    files = {"back": BACK, "front": FRONT, **more}
    app = apps.start(roles, **files)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    return app, app.wait_ready()


def again(apps: Apps, app: RunningApp) -> RunningApp:
    """Return the app, started another time."""
    return apps.run(app.name, [sys.executable, "main.py"])


def book(app: RunningApp, name: str = "done") -> list[str]:
    path = app.directory / name
    return path.read_text().splitlines() if path.exists() else []


def durable(client: mob.Client) -> mob.DurableProxy:
    return client.require("back").options(durable=True)


def keeper(app: RunningApp, client: mob.Client) -> int:
    (found,) = wait_until(lambda: app.ready(client, "queue"), "the keeper is ready")
    return int(found.pid)


# --- what everybody does ----------------------------------------------------------------------------------------------


def test_a_job_is_stored_and_done_and_known_by_its_id(apps: Apps) -> None:
    _, client = start(apps)
    job = durable(client).double(21)
    assert job.stored.result(PATIENCE) == job.id
    assert job.result(PATIENCE) == 42
    assert client.job(job.id).result(PATIENCE) == 42
    assert client.job(job.id).status().result(PATIENCE) == "done"
    assert repr(job) == f"<Job {job.id} back.double>"
    assert repr(client.job(job.id)) == f"<Job {job.id}>"


def test_one_role_makes_it_and_another_process_asks_for_it(apps: Apps) -> None:
    _, client = start(apps)
    front = client.require("front")
    id = front.make(4).result(PATIENCE)
    assert front.result_of(id).result(PATIENCE) == 8
    assert client.job(id).result(PATIENCE) == 8
    assert front.plain(5).result(PATIENCE) == 10
    role, attempt, _, _ = front.who().result(PATIENCE)
    assert (role, attempt) == ("front", 1)


def test_an_app_that_makes_no_jobs_has_no_keeper_and_no_file(apps: Apps) -> None:
    app, client = start(apps)
    state = app.directory / "state" / "mob" / "queues"
    assert client.require("back").double(1).result(PATIENCE) == 2
    assert "queue" not in client.roles()
    assert [row.role for row in client.overview()] == ["back", "back", "front"]
    assert [role.name for role in client.metrics().roles] == ["back", "front"]
    assert not state.exists()
    durable(client).double(1).result(PATIENCE)
    assert [row.role for row in client.overview()] == ["back", "back", "front", "queue"]
    assert (state / f"{app.name}.db").exists()


def test_a_job_is_done_in_the_name_of_who_has_made_it(apps: Apps) -> None:
    _, client = start(apps, '.role("back", "./back.py", callers=["front"]).role("front", "./front.py")')
    assert client.require("front").plain(3).result(PATIENCE) == 6
    with pytest.raises(mob.Forbidden, match=r"client \(pid \d+\) may not call back.double"):
        durable(client).double(3).result(PATIENCE)


def test_a_typed_proxy_declares_what_a_job_ends_with(apps: Apps) -> None:
    class Back:
        def double(self, n: int) -> str: ...  # type: ignore[empty-body]

    _, client = start(apps)
    view = client.require("back", Back).options(durable=True)  # type: ignore[attr-defined]
    with pytest.raises(mob.CallError, match="is not annotated to return"):
        view.double(1).result(PATIENCE)


def test_an_exception_of_its_own_comes_back_as_it_was(apps: Apps) -> None:
    _, client = start(apps)
    job = durable(client).options(retries=0).sell("pear")
    with pytest.raises(mob.RemoteError) as caught:
        job.result(PATIENCE)
    assert (caught.value.type_name, caught.value.remote_args) == ("back.Sold", ("pear", 3))
    assert caught.value.remote_attributes == {"item": "pear", "left": 3}
    assert "def sell" in caught.value.remote_traceback or "in sell" in caught.value.remote_traceback
    with pytest.raises(ValueError, match="not"):
        durable(client).options(retries=0).fail(1).result(PATIENCE)


BATCHED = """
import mob

@mob.export(batch=8, within=0.1)
{prefix}def halve(numbers: list[int], by: list[int] = 2) -> list[float]:
    with open("batches", "a") as file:
        print(len(numbers), mob.caller(), file=file)
    if 13 in numbers:
        raise ValueError("unlucky")
    return [ValueError("odd", n) if n % 2 else n / each for n, each in zip(numbers, by, strict=True)]
"""


@pytest.mark.parametrize("prefix", ["", "async "])
def test_an_export_that_takes_batches_has_jobs_in_them(apps: Apps, prefix: str) -> None:
    app = apps.start('.role("back", "./back.py")', back=BATCHED.format(prefix=prefix))
    client = app.wait_ready()
    back, halve = durable(client).options(retries=0), client.require("back").halve
    calls = [back.halve(4), back.halve(9), back.halve(6, by=3), halve(8)]
    assert [calls[n].result(PATIENCE) for n in (0, 2, 3)] == [2, 2, 4]
    with pytest.raises(ValueError, match=r"\('odd', 9\)"):
        calls[1].result(PATIENCE)
    with pytest.raises(mob.ArgumentError):
        back.halve("x").result(PATIENCE)
    with pytest.raises(ValueError, match="unlucky"):
        back.halve(13).result(PATIENCE)
    assert sum(int(line.split()[0]) for line in book(app, "batches")) == 5
    assert [back.halve(2 * n).result(PATIENCE) for n in range(3)] == [0, 1, 2]  # it goes on
    assert all("queue" not in line for line in book(app, "batches"))


def test_large_arguments_and_results_are_kept(apps: Apps) -> None:
    _, client = start(apps)
    data = os.urandom(3_000_000)
    job = durable(client).big(data)
    assert job.result(PATIENCE) == data + data
    assert client.job(job.id).result(PATIENCE) == data + data


def test_what_cannot_be_kept_is_refused_where_it_is_said(apps: Apps) -> None:
    _, client = start(apps)
    back = durable(client)
    with pytest.raises(mob.BadMessage, match="a durable call cannot contain functions or iterators"):
        back.double(lambda: 1)
    with pytest.raises(mob.BadMessage, match="it may outlive their process"), open(os.devnull) as file:
        back.double(file)
    for job, text in ((back.lend(), "ends with its process"), (back.generate(), "is a generator")):
        with pytest.raises(TypeError, match=text):
            job.result(PATIENCE)
        assert job.status().result(PATIENCE) == "dead"
    with pytest.raises(mob.ArgumentError):
        back.takes("x").result(PATIENCE)
    with pytest.raises(mob.UnknownExport, match="makes objects"):
        back.options(retries=0).Room().result(PATIENCE)
    with pytest.raises(mob.UnknownExport, match="'back' exports no function 'doble'"):
        back.doble(1)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"timeout": 1}, TypeError, "timeout= does not apply to a durable call"),
        ({"prioritty": 1}, TypeError, "a durable call has no option 'prioritty'. Did you mean 'priority'?"),
        ({"delay": -1}, ValueError, "delay=-1 is not a number of seconds of at least 0."),
        ({"backoff": float("inf")}, ValueError, "backoff=inf is not a number of seconds"),
        ({"at": float("nan")}, ValueError, "nan"),
        ({"priority": 1.5}, TypeError, "priority=1.5 is not a whole number."),
        ({"key": 7}, TypeError, "key=7 is not text"),
        ({"key": "\ud800"}, ValueError, "contains a lone surrogate"),
        ({"at": float("inf")}, ValueError, "at=inf is not a finite number of seconds."),
        ({"at": "tomorrow"}, TypeError, "at='tomorrow' is text. Expected: a datetime"),
        ({"retries": -1}, ValueError, "retries=-1 is less than 0. With 0 it is tried once."),
        ({"backoff": None}, ValueError, "backoff=None is not a number of seconds"),
        ({"delay": 10**400}, ValueError, "is not a finite number of seconds."),
        ({"delay": 3, "at": 7.0}, ValueError, "at=7.0 and delay=3: give only one of them, the time or the delay."),
    ],
)
def test_options_that_make_no_sense(apps: Apps, options: dict[str, object], error: type[Exception], text: str) -> None:
    _, client = start(apps, '.role("back", "./back.py")')
    with pytest.raises(error, match=text.replace(".", r"\.").replace("?", r"\?")):
        client.require("back").options(durable=True, **options)  # type: ignore[arg-type, call-overload]


def test_of_delay_and_at_the_last_word_counts(apps: Apps) -> None:
    _, client = start(apps)
    back = durable(client)
    tomorrow = time.time() + 86400
    assert back.options(at=tomorrow).options(delay=0.01).double(1).result(PATIENCE) == 2
    assert back.options(at=tomorrow).options(at=None).double(2).result(PATIENCE) == 4
    assert back.options(delay=86400).options(at=time.time()).double(3).result(PATIENCE) == 6
    assert back.options(delay=86400).options(at=tomorrow, delay=0).double(4).status().result(PATIENCE) == "later"


def test_an_option_of_jobs_alone_says_what_is_missing_and_names_of_mobs_own_are_not_told(apps: Apps) -> None:
    _, client = start(apps, '.role("back", "./back.py", workers=1)')
    back = client.require("back")
    with pytest.raises(TypeError, match=r"'delay'\. delay= is for durable calls: options\(durable=True, delay="):
        back.options(delay=3)  # type: ignore[call-overload]
    assert durable(client).double(1).result(PATIENCE) == 2
    with pytest.raises(mob.UnknownExport, match=r"There are: .*'double'") as caught:
        client.store("back").get("this is no store").result(PATIENCE)  # the worker answers
    assert "!" not in str(caught.value)


def test_first_spellings_that_are_wrong_say_what_is_right(apps: Apps) -> None:
    _, client = start(apps)
    back: Any = client.require("back")
    view, job, package = back.options(durable=True), back.options(durable=True).double(1), cast(Any, mob)
    right = r"back\.options\(durable=True\)\.double\(\.\.\.\)"
    for wrong, error, text in (
        (lambda: back.double.durable(1), mob.UnknownExport, rf"for a durable call {right}"),
        (lambda: back.double.options(durable=True)(1), mob.UnknownExport, rf"options before the name, as in {right}"),
        (lambda: view.double.options(delay=3)(1), mob.UnknownExport, r"back\.options\(durable=True, delay=60\)\.do"),
        (lambda: view.double.map([1, 2]), mob.UnknownExport, r"make a job for each item: .*\[view\.double\(item\) for"),
        (lambda: view.double.delay(1), mob.UnknownExport, rf"call it, as {right}; that returns a Job"),
        (lambda: mob.wait([job]), TypeError, r"is a Job\. Its outcome is a call: mob\.wait\(\[job\.outcome\]\)"),
        (lambda: job.cancel(), AttributeError, r"a Job has no 'cancel'\. job\.drop\(\) drops it"),
        (lambda: job.done(), AttributeError, r"a Job has no 'done'\. job\.status\(\) returns its state"),
        (lambda: job.get(), AttributeError, r"a Job has no 'get'\. job\.result\(timeout=60\) waits for its end"),
        (lambda: job.wait(), AttributeError, r"job\.result\(timeout=60\) waits for its end; in async code"),
        (lambda: job.exception(), AttributeError, r"job\.outcome is a call, and has it"),
        (lambda: job.statsu(), AttributeError, r"a Job has no 'statsu'\. Did you mean 'status'\?"),
        (lambda: package.queue, AttributeError, r"a durable call: mob\.require\(role\)"),
        (lambda: package.zzzzz, AttributeError, r"module 'mob' has no 'zzzzz'\. dir\(mob\) lists"),
        (lambda: package.start("a").queue(file="jobs.db"), mob.PlanError, r"no option 'file'\. Here it is 'path'\."),
        (lambda: package.start("a").queue(kep=1), mob.PlanError, r"no option 'kep'\. Did you mean 'keep'\?"),
    ):  # fmt: skip
        with pytest.raises(error, match=text):
            wrong()
    assert not hasattr(job, "__array__")
    assert not hasattr(view.double, "__wrapped__")
    assert job.result(PATIENCE) == 2


def test_one_job_that_is_unfit_leaves_no_trace_of_those_beside_it(apps: Apps) -> None:
    _, client = start(apps, '.role("back", "./back.py")')
    assert durable(client).double(1).result(PATIENCE) == 2
    put = client.require("queue").put

    def row(id: str, *, role: str = "back", priority: object = 0) -> list[object]:
        return [id, role, "double", b"\x91\x02", None, 0.0, None, priority, 3, 1.0, "back.double:k"]

    for unfit in (row("b", role="nobody"), row("b", priority=2**63), row("b", priority="high"), ["b"]):
        with pytest.raises(Exception, match=r"no role 'nobody'|Expected"):
            put([row("a"), unfit]).result(PATIENCE)
    with pytest.raises(mob.UnknownJob):
        client.job("a").result(PATIENCE)
    assert put([row("a")]).result(PATIENCE) == ["a"]  # and its key is free
    assert client.job("a").result(PATIENCE) == 4


def test_what_cannot_be_encoded_fails_and_the_next_job_is_stored(apps: Apps) -> None:
    _, client = start(apps, '.role("back", "./back.py")')
    assert durable(client).double(1).result(PATIENCE) == 2
    with pytest.raises(mob.BadMessage, match="lone surrogate"):
        client.job("\ud800").result(PATIENCE)
    assert durable(client).double(1).result(PATIENCE) == 2


def test_a_job_of_which_nothing_is_known(apps: Apps) -> None:
    _, client = start(apps)
    for call in (client.job("nope").outcome, client.job("nope").status()):
        with pytest.raises(mob.UnknownJob, match=r"there is no job 'nope'\. Either it is not on the disk yet"):
            call.result(PATIENCE)
    assert client.job("nope").drop().result(PATIENCE) is False
    assert client.job("nope").retry().result(PATIENCE) is False
    with pytest.raises(TypeError, match="expected the id of a job"):
        client.job("")


# --- when, which, and how often ---------------------------------------------------------------------------------------


def test_priority_and_order(apps: Apps) -> None:
    _, client = start(apps, '.role("back", "./back.py").queue("jobs.db", in_hand=1)')
    app = apps.running[-1]
    back = durable(client)
    gate = back.wait(0)
    wait_until(lambda: book(app, "began"), "the gate is closed")
    jobs = [back.options(priority=priority).double(n) for n, priority in ((1, 0), (2, 5), (3, -5), (4, 0))]
    for job in jobs:
        job.stored.result(PATIENCE)
    assert [job.status().result(PATIENCE) for job in (gate, *jobs)] == ["running", *["waiting"] * 4]
    (app.directory / "go").touch()
    for job in jobs:
        job.result(PATIENCE)
    assert book(app) == ["0", "2", "1", "4", "3"]


def test_delays_and_certain_times(apps: Apps) -> None:
    app, client = start(apps)
    back = durable(client)
    began = time.time()
    soon = [
        back.options(delay=0.6).double(1),
        back.options(at=time.time() + 0.6).double(2),
        back.options(at=datetime.now(UTC) + timedelta(seconds=0.6)).double(3),
    ]
    past = back.options(at=5.0).double(4)
    assert past.result(PATIENCE) == 8
    assert {job.status().result(PATIENCE) for job in soon} <= {"later", "done", "running"}
    assert [job.result(PATIENCE) for job in soon] == [2, 4, 6]
    assert time.time() - began >= 0.59
    late = back.options(delay=3600).double(5)
    assert late.stored.result(PATIENCE)
    assert late.status().result(PATIENCE) == "later"
    assert late.retry().result(PATIENCE)  # now, please
    assert late.result(PATIENCE) == 10
    assert sorted(book(app)) == ["1", "2", "3", "4", "5"]


def test_a_key_is_unique_while_its_job_waits_or_runs(apps: Apps) -> None:
    app, client = start(apps)
    back = durable(client).options(key="k")
    first = back.wait(1)
    others = [back.wait(2) for _ in range(20)]
    assert {job.stored.result(PATIENCE) for job in others} == {first.stored.result(PATIENCE)}
    assert {job.id for job in others} == {first.id}
    elsewhere = durable(client).options(key="k").double(3)  # a key of another export
    assert elsewhere.result(PATIENCE) == 6
    (app.directory / "go").touch()
    assert [job.result(PATIENCE) for job in others] == [1] * 20
    again = back.wait(4)
    assert again.result(PATIENCE) == 4
    assert again.id != first.id


def test_one_that_fails_is_tried_again_and_dead_in_the_end(apps: Apps) -> None:
    app, client = start(apps)
    back = durable(client).options(backoff=0.01)
    assert back.options(retries=3).fail(1, times=2).result(PATIENCE) == 1
    dead = back.options(retries=2).fail(2)
    with pytest.raises(ValueError, match="'not', 2"):
        dead.result(PATIENCE)
    assert Counter(book(app, "tries")) == {"1": 3, "2": 3}
    assert dead.status().result(PATIENCE) == "dead"
    app.wait_for(rf"back.fail \(job {dead.id}\) is dead after 3 attempts: ValueError: \('not', 2\)\. `mob jobs retry")
    with pytest.raises(ValueError, match="'not', 2"):
        client.job(dead.id).result(PATIENCE)
    assert dead.retry().result(PATIENCE)
    wait_until(lambda: Counter(book(app, "tries"))["2"] == 6, "it is tried again, as often")
    wait_until(lambda: dead.status().result(PATIENCE) == "dead", "and is dead again")
    assert dead.drop().result(PATIENCE)
    with pytest.raises(mob.JobDropped, match="was dropped before it was done"):
        client.job(dead.id).result(PATIENCE)


def test_one_that_kills_its_workers_is_dead_in_the_end(apps: Apps) -> None:
    app, client = start(apps)
    back = durable(client).options(retries=0)
    assert back.die(1, times=1).result(PATIENCE) == 1
    dead = back.die(2)
    with pytest.raises(mob.Lost, match="was killed by SIGKILL"):
        dead.result(patient(60))
    assert Counter(book(app, "tries")) == {"1": 2, "2": 5}
    app.wait_for(rf"back.die \(job {dead.id}\) is dead after 5 attempts: .*[^.]\. `mob jobs retry")


def test_attempts_that_were_lost_are_counted_by_export_and_not_by_job(apps: Apps) -> None:
    _, client = start(apps)
    for n in (1, 2):
        assert durable(client).die(n, times=1).result(PATIENCE) == n

    def exports() -> dict[str, dict[str, int]]:
        found = client.metrics().exports
        return {each.export: dict(each.unserved) for each in found if each.role == "back"}

    wait_until(lambda: exports().get("die", {}).get("Lost") == 2, "both are counted")
    assert set(exports()) == {"die"}


@pytest.mark.parametrize("moment", ["waits", "runs"])
def test_one_that_is_dropped(apps: Apps, moment: str) -> None:
    app, client = start(apps)
    back = durable(client)
    job = back.options(delay=3600 if moment == "waits" else 0).wait(1)
    job.stored.result(PATIENCE)
    if moment == "runs":
        wait_until(lambda: book(app, "began"), "it runs")
    outcome = job.outcome
    assert job.drop().result(PATIENCE) is True
    assert job.drop().result(PATIENCE) is False
    for each in (outcome, client.job(job.id).outcome):
        with pytest.raises(mob.JobDropped):
            each.result(PATIENCE)
    assert job.status().result(PATIENCE) == "dropped"
    (app.directory / "go").touch()
    assert back.double(1).result(PATIENCE) == 2
    assert book(app) == ["1"]


def test_messages_have_the_same_promises(apps: Apps) -> None:
    app, client = start(apps)
    assert client.any("back").send({"n": 1}, durable=True).result(PATIENCE) is None
    client.require("front").say("hello").result(PATIENCE)
    wait_until(lambda: len(book(app, "heard")) == 2, "both were heard")
    assert sorted(book(app, "heard")) == ["hello 1 front", "{'n': 1} 1 client"]
    client.any("back").send("bad", durable=True).result(PATIENCE)
    wait_until(lambda: book(app, "heard")[2:] == ["bad 1 client", "bad 2 client"], "it is tried again")


# --- whatever is killed -----------------------------------------------------------------------------------------------


class Maker(threading.Thread):
    """Makes jobs as fast as possible, and keeps the numbers of those that were stored."""

    def __init__(self, connect: Callable[[], mob.Client], at_most: int = 100_000) -> None:
        super().__init__(daemon=True)
        self.stored: list[int] = []
        self.enough = threading.Event()
        self._connect = connect
        self._at_most = at_most

    def run(self) -> None:
        n = 0
        while not self.enough.is_set() and n < self._at_most:
            try:
                with self._connect() as client:
                    back = durable(client)
                    while not self.enough.is_set() and n < self._at_most:
                        jobs = [(n + i, back.double(n + i)) for i in range(20)]
                        n += len(jobs)
                        for number, job in jobs:
                            job.stored.result(PATIENCE)
                            self.stored.append(number)
            except mob.MobError:
                self.enough.wait(0.01)  # the app is down for a moment

    def __enter__(self) -> Maker:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.enough.set()
        self.join(PATIENCE)


def wait_done(app: RunningApp, numbers: list[int], name: str = "done") -> None:
    wanted = set(map(str, numbers))
    wait_until(lambda: wanted <= set(book(app, name)), f"{len(wanted)} are done\n{app.output[-3000:]}", patient(90))


@pytest.mark.parametrize("victim", ["queue", "back", "both"])
def test_nothing_is_lost_when_a_process_is_killed_again_and_again(apps: Apps, victim: str) -> None:
    app, client = start(apps)
    durable(client).double(-1).result(PATIENCE)
    with Maker(lambda: mob.connect(app.name)) as maker:
        for round in range(6):
            before = len(maker.stored)
            wait_until(lambda before=before: len(maker.stored) >= before + 60, "jobs are stored", patient(60))
            roles = ["queue", "back"] if victim == "both" else [victim]
            for role in roles:
                for member in app.ready(client, role)[: 1 + round % 2]:
                    with contextlib.suppress(ProcessLookupError):  # the round before was faster than the roster
                        os.kill(member.pid, signal.SIGKILL)
    wait_done(app, maker.stored)
    assert len(maker.stored) >= 360


def test_a_caller_that_is_killed_loses_nothing_that_was_stored(apps: Apps) -> None:
    app, client = start(apps)
    for round in range(3):
        numbers = [round * 1000 + n for n in range(50)]
        ids = [client.require("front").make(n) for n in numbers]
        for id in ids:
            id.result(PATIENCE)
        (front,) = app.ready(client, "front")
        os.kill(front.pid, signal.SIGKILL)
        wait_done(app, numbers)


def test_the_kingpin_alone_is_killed_and_the_app_started_again(apps: Apps) -> None:
    app, client = start(apps)
    job = durable(client).wait(7)
    job.stored.result(PATIENCE)
    wait_until(lambda: book(app, "began") == ["7"], "it runs")
    app.process.kill()
    app.process.wait()
    wait_until(lambda: not app.processes(), "the others have ended, too")
    (app.directory / "go").touch()
    app = again(apps, app)
    client = app.wait_ready()
    assert client.job(job.id).result(PATIENCE) == 7
    assert book(app, "began") == ["7", "7"]


PRINTS = """
import atexit, logging, os, stat, subprocess, sys, time

def note(book, what):
    with open(book, "a") as file:
        file.write(f"{what}\\n")

def end():
    print("bye", flush=True)
    note("ended", "in order")

atexit.register(end)

def charge(n):
    note("began", n)
    while not os.path.exists("go"):
        time.sleep(0.01)
    print("charged", n)
    print("charged", n, file=sys.stderr, flush=True)
    logging.getLogger("shop").warning("charged %d", n)
    sys.stdout.buffer.write(b"x" * 100_000)
    sys.stdout.buffer.flush()
    while any(stat.S_ISFIFO(os.fstat(each).st_mode) for each in (1, 2)):
        time.sleep(0.01)
    os.write(1, b"charged")
    subprocess.run(["sh", "-c", "echo charged && echo charged >&2"], check=True)
    note("done", n)
    return n
"""


def test_output_that_nobody_reads_any_more_fails_no_job(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py").queue("jobs.db")', back=PRINTS)
    back = app.wait_ready().require("back").options(durable=True, retries=0)
    made = [back.charge(n) for n in range(3)]
    ids = [job.stored.result(PATIENCE) for job in made]
    wait_until(lambda: book(app, "began") == ["0"], "the first one runs")
    app.process.kill()
    app.process.wait()
    (app.directory / "go").touch()
    wait_until(lambda: not app.processes(), "the others have ended, too")
    assert book(app, "ended") == ["in order"]
    client = again(apps, app).wait_ready()
    assert [client.job(id).result(PATIENCE) for id in ids] == [0, 1, 2]
    assert book(app) == ["0", "1", "2"]


def test_everything_is_killed_at_once_under_load_and_started_again(apps: Apps) -> None:
    app, client = start(apps)
    durable(client).double(-1).result(PATIENCE)
    names = [app.name]
    with Maker(lambda: mob.connect(names[0])) as maker:
        for _ in range(3):
            before = len(maker.stored)
            wait_until(lambda before=before: len(maker.stored) >= before + 100, "jobs are stored", patient(60))
            for pid in app.processes():
                with contextlib.suppress(ProcessLookupError):  # it ended with those before
                    os.kill(pid, signal.SIGKILL)
            app.process.wait()
            app = again(apps, app)
            app.wait_ready()
    wait_done(app, maker.stored)


def test_an_app_that_stops_in_order_finishes_what_runs_and_keeps_the_rest(apps: Apps) -> None:
    app, client = start(apps, ROLES + '.queue("jobs.db")')
    back = durable(client)
    late = back.options(delay=3600).double(1)
    short = [back.pause(0.3) for _ in range(4)]
    for job in (late, *short):
        job.stored.result(PATIENCE)
    assert app.stop() == 0
    with pytest.raises(mob.Unavailable) as caught:
        late.result(PATIENCE)
    asks = f"app.job({late.id!r}).result() waits for the end of the job."
    assert str(caught.value).endswith(f"the app {app.name!r} has ended. When it runs again, {asks}")
    app = again(apps, app)
    client = app.wait_ready()
    assert [client.job(job.id).result(PATIENCE) for job in short] == [0.3] * 4
    assert client.job(late.id).status().result(PATIENCE) == "later"
    assert client.job(late.id).retry().result(PATIENCE)
    assert client.job(late.id).result(PATIENCE) == 2


def test_reloads_restarts_and_upgrades_lose_nothing(apps: Apps) -> None:
    app, client = start(apps)
    durable(client).double(-1).result(PATIENCE)
    with Maker(lambda: mob.connect(app.name)) as maker:
        for step in ("reload", "restart", "upgrade", "reload queue"):
            before = len(maker.stored)
            wait_until(lambda before=before: len(maker.stored) >= before + 60, "jobs are stored", patient(60))
            match step:
                case "reload":
                    client.reload(timeout=PATIENCE)
                case "restart":
                    client.restart("queue")
                case "reload queue":
                    client.reload("queue", timeout=PATIENCE)
                case _:
                    client.upgrade(timeout=PATIENCE)
    wait_done(app, maker.stored)
    assert keeper(app, client)


# --- an export that is not there --------------------------------------------------------------------------------------


def row(id: str, target: str, retries: int) -> list[object]:
    """Return a job as it is sent to the keeper."""
    return [id, "back", target, b"\x91\x02", None, 0.0, None, 0, retries, 1.0, ""]


def test_a_job_of_an_export_that_does_not_exist_is_dead_at_once(apps: Apps) -> None:
    app, client = start(apps)
    back = durable(client)
    renamed = back.options(delay=3600).double(1)
    renamed.stored.result(PATIENCE)
    apps.write(back=BACK.replace("def double", "def twice"))
    client.reload("back", timeout=PATIENCE)
    assert renamed.retry().result(PATIENCE)
    with pytest.raises(mob.UnknownExport) as wanted:
        client.require("back").double(1)
    with pytest.raises(mob.UnknownExport) as caught:
        renamed.result(PATIENCE)
    assert str(caught.value) == str(wanted.value)
    assert "'back' exports no function 'double'" in str(caught.value)
    assert caught.value.executed == "no"
    assert renamed.status().result(PATIENCE) == "dead"
    app.wait_for(rf"back.double \(job {renamed.id}\) is dead after 1 attempt: ")
    apps.write(back=BACK)
    client.reload("back", timeout=PATIENCE)
    assert renamed.retry().result(PATIENCE)
    wait_until(lambda: book(app) == ["1"], "the export is there again")


def test_in_a_reload_a_job_of_a_new_export_waits_for_the_new_worker(apps: Apps) -> None:
    app, client = start(apps)
    assert durable(client).double(1).result(PATIENCE) == 2
    put = client.require("queue").put
    gate = "import os, time\nwhile not os.path.exists('boot'): time.sleep(0.01)\n"
    apps.write(back=BACK + "def triple(n): return 3 * n\n" + gate)
    reload = threading.Thread(target=client.reload, args=("back",), kwargs={"timeout": patient(60)})
    reload.start()
    wait_until(lambda: any(m.state == "booting" for m in client.members() if m.role == "back"), "one boots")
    assert put([row(f"job{n}", "triple", 0) for n in range(20)]).result(PATIENCE) == [f"job{n}" for n in range(20)]
    job = client.job("job0")
    wait_until(lambda: job.status().result(PATIENCE) == "later", "no worker has it yet")
    (app.directory / "boot").touch()
    assert [client.job(f"job{n}").result(PATIENCE) for n in range(20)] == [6] * 20
    reload.join(PATIENCE)
    assert not reload.is_alive()


# --- a keeper that hangs ----------------------------------------------------------------------------------------------


def test_all_that_a_keeper_is_asked_ends_in_its_time_though_it_hangs(
    apps: Apps, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, client = start(apps)
    back = durable(client)
    assert back.double(1).result(PATIENCE) == 2
    late = back.options(delay=3600).double(2)
    late.stored.result(PATIENCE)
    for module in (jobs, outbox):
        monkeypatch.setattr(module, "STORE_TIMEOUT", 1.0)
    frozen = keeper(app, client)
    freeze(frozen)
    many = [back.double(n) for n in range(3000)]  # more than travel at a time
    asked = [late.status(), late.drop(), late.retry()]
    outcome = client.job(late.id).outcome
    for call in (*(job.stored for job in many), *asked):
        text = str(call.exception(PATIENCE))
        assert "queue.0 (pid" in text
        assert "which keeps the durable jobs, did not answer within 1 s. It may be done nevertheless." in text
        assert isinstance(call.exception(), mob.CallTimeout)
    assert "storing back.double: queue.0" in str(many[2999].stored.exception())
    assert isinstance(many[0].outcome.exception(PATIENCE), mob.CallTimeout)
    assert not outcome.done()  # it waits as long as the job takes
    with pytest.raises(mob.CallTimeout):
        client.job(late.id).result(timeout=0.1)
    os.kill(frozen, signal.SIGCONT)
    assert back.double(4).result(PATIENCE) == 8  # it goes on
    client.job(late.id).retry().result(PATIENCE)


def test_a_keeper_that_hangs_is_replaced(apps: Apps) -> None:
    name = f"hangs-{os.getpid()}"
    soon = "import mob, mob.plan\nmob.plan.QUEUE_HANG = 1.0\n"
    main = f'app = mob.start({name!r}).base(__file__)\napp{ROLES}.queue("jobs.db")\napp.run()\n'
    apps.write(main=soon + main, back=BACK, front=FRONT)
    app = apps.run(name, [sys.executable, "main.py"])
    client = app.wait_ready()
    back = durable(client)
    waits = back.options(delay=3).double(1)
    waits.stored.result(PATIENCE)
    frozen = keeper(app, client)
    freeze(frozen)
    new = back.double(2)
    assert new.result(PATIENCE) == 4
    assert waits.result(PATIENCE) == 2
    assert keeper(app, client) != frozen
    app.wait_for(r"queue\.0 .* hangs: ")


# --- what goes wrong with the file ------------------------------------------------------------------------------------


def test_a_full_disk_is_told_to_the_caller_and_it_goes_on(apps: Apps) -> None:
    setup = "import mob.jobs.store as s; s.RETRY = 0.05"
    app, client = start(apps, f'.preload("small"){ROLES}.queue("jobs.db")', small=setup)
    back = durable(client)
    assert back.double(1).result(PATIENCE) == 2
    pid = keeper(app, client)
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    size = max((app.directory / name).stat().st_size for name in ("jobs.db", "jobs.db-wal"))
    held, dropped = back.wait(5), back.wait(6)
    for job in (held, dropped):
        job.stored.result(PATIENCE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size + 40_000, before[1]))
    errors = (back.big(b"x" * 50_000).stored.exception(PATIENCE) for _ in range(100))
    text = str(next(error for error in errors if isinstance(error, mob.QueueFailed)))
    assert f"the queue {app.directory / 'jobs.db'} cannot be written: " in text
    assert "Nothing was stored. Free some space on its disk; the queue continues by itself." in text
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, before[1]))  # not even a few bytes
    (app.directory / "go").touch()
    wait_until(lambda: {"5", "6"} <= set(book(app)), "what ran has ended meanwhile")
    for job in (held, dropped):
        assert job.status().result(PATIENCE) == "running"  # as the next keeper would find it
    listed = mob_command(app.directory, "jobs", "-a", app.name).stdout
    assert held.id in listed
    assert "back: 2 running." in listed
    dropping = dropped.drop()
    resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
    assert held.result(PATIENCE) == 5
    assert held.status().result(PATIENCE) == "done"
    assert dropping.result(PATIENCE) is True
    with pytest.raises(mob.JobDropped):
        dropped.result(PATIENCE)
    assert dropped.status().result(PATIENCE) == "dropped"
    assert back.big(b"x" * 50_000).result(PATIENCE) == b"x" * 100_000
    assert keeper(app, client) == pid
    assert book(app).count("5") == 1


def test_a_damaged_file_is_named_and_nothing_is_dropped(apps: Apps) -> None:
    app, client = start(apps, ROLES + '.queue("jobs.db")')
    jobs = [durable(client).options(delay=3600).double(n) for n in range(300)]
    for job in jobs:
        job.stored.result(PATIENCE)
    assert app.stop() == 0
    path = app.directory / "jobs.db"
    sound = path.read_bytes()
    path.write_bytes(sound[:4096] + b"\xff" * 4096 + sound[8192:])
    damaged = path.read_bytes()
    app = again(apps, app)
    client = app.wait_ready()
    for ask in (lambda: durable(client).double(1).stored, lambda: client.job(jobs[0].id).status()):
        with pytest.raises(mob.QueueFailed) as caught:
            ask().result(PATIENCE)
        text = str(caught.value)
        assert f"{path}, is damaged: " in text
        assert ".recover" in text
        assert "Then run: mob restart queue." in text
    app.wait_for("is damaged: ")
    assert path.read_bytes() == damaged
    path.write_bytes(sound)
    client.restart("queue")
    wait_until(lambda: _status(client, jobs[-1].id) == "later", "the queue goes on")


def _status(client: mob.Client, id: str) -> str:
    try:
        return client.job(id).status().result(PATIENCE)
    except mob.QueueFailed:
        return ""


def test_two_apps_cannot_share_a_file(apps: Apps) -> None:
    app, client = start(apps, ROLES + '.queue("jobs.db")')
    durable(client).double(1).result(PATIENCE)
    path = app.directory / "jobs.db"
    other, second = start(apps, f"{ROLES}.queue({str(path)!r})")
    (keeper,) = app.ready(client, "queue")
    held = rf"is used by another process \(pid {keeper.pid} of the app '{app.name}'\)\. Two apps cannot share a queue"
    with pytest.raises(mob.QueueFailed, match=held):
        durable(second).double(1).stored.result(PATIENCE)

    def waits() -> bool:
        return any("waits for" in row.note for row in second.overview() if row.role == "queue")

    wait_until(waits, "its note says so")
    assert durable(client).double(2).result(PATIENCE) == 4
    assert app.stop() == 0
    other.wait_for("is no longer used by the other process")
    assert durable(second).double(3).result(PATIENCE) == 6
    wait_until(lambda: not waits(), "nothing is waited for")
    assert other.stop() == 0


def test_an_app_that_is_started_again_soon_waits_for_what_is_left_of_the_last_one(apps: Apps) -> None:
    app, client = start(apps, ROLES + '.queue("jobs.db").store("cache", file="cache.db")')
    client.store("cache").set("a", 1).result(PATIENCE)
    job = durable(client).wait(7)
    job.stored.result(PATIENCE)
    wait_until(lambda: book(app, "began") == ["7"], "it runs")
    (keeper,) = app.ready(client, "queue")
    app.process.kill()
    app.process.wait()
    new = again(apps, app)
    new.wait_for(rf"is still used by an earlier process of this app \(pid {keeper.pid}\)")
    client = new.connect()

    def note() -> str:
        (row,) = [each for each in client.overview() if each.role == "queue"]
        return "" if row.state == "ready" else row.note

    wait_until(lambda: f"an earlier process of this app (pid {keeper.pid}) still has it" in note(), "its note says so")
    assert client.not_ready("queue")
    later = durable(client).double(2)
    (app.directory / "go").touch()
    assert later.result(PATIENCE) == 4
    assert client.job(job.id).result(PATIENCE) == 7
    assert book(app, "began") == ["7"]
    assert client.store("cache").get("a").result(PATIENCE) == 1
    assert new.stop() == 0


def test_an_app_that_waits_for_its_file_stops_when_asked(apps: Apps) -> None:
    app, client = start(apps, ROLES + '.queue("jobs.db")')
    durable(client).wait(7).stored.result(PATIENCE)
    wait_until(lambda: book(app, "began") == ["7"], "it runs")
    app.process.kill()
    app.process.wait()
    new = again(apps, app)
    new.wait_for("is still used by an earlier process of this app")
    assert new.stop(patient(10)) == 0  # of the 30 s of grace
    (app.directory / "go").touch()
    wait_until(lambda: not app.processes(), "the others have ended, too")


def test_a_role_of_that_name_keeps_no_jobs(apps: Apps) -> None:
    _, client = start(apps, '.role("back", "./back.py").role("queue", "./back.py")')
    with pytest.raises(mob.Unavailable, match=r"keeps no jobs\."):
        durable(client).double(1).stored.result(PATIENCE)


@pytest.fixture
def clocks() -> str:
    """Return a module that makes the keeper's wall clock jump by the number in a file."""
    return (
        "import os, time\n"
        "import mob.jobs.store\n"
        "real = time.time\n"
        "def jumped():\n"
        "    try: return real() + float(open('jump').read() or 0)\n"
        "    except (OSError, ValueError): return real()\n"
        "time.time = jumped\n"
    )


@pytest.mark.parametrize("jump", [7200.0, -7200.0])
def test_a_clock_that_is_set(apps: Apps, clocks: str, jump: float) -> None:
    app, client = start(apps, f'.preload("clocks"){ROLES}.queue("jobs.db")', clocks=clocks)
    back = durable(client)
    delayed = back.options(delay=3600.0).double(1)
    certain = back.options(at=time.time() + 3600).double(2)
    for job in (delayed, certain):
        job.stored.result(PATIENCE)
    (app.directory / "jump").write_text(str(jump))
    assert back.double(3).result(PATIENCE) == 6  # something happens, so the clock is looked at
    if jump > 0:
        assert certain.result(PATIENCE) == 4
    assert client.job(certain.id).status().result(PATIENCE) == ("done" if jump > 0 else "later")
    assert client.job(delayed.id).status().result(PATIENCE) == "later"
    assert app.stop() == 0
    app = again(apps, app)
    client = app.wait_ready()
    assert client.job(delayed.id).status().result(PATIENCE) == "later"
    assert sorted(book(app)) == (["2", "3"] if jump > 0 else ["3"])


def test_the_file_of_the_tables_is_as_the_manual_says() -> None:
    assert store.DEAD_KEEP == 30 * 86400
