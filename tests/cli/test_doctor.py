"""What `mob doctor` reports about a machine, about modules and about running apps."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

import mob
from mob.cli.doctor import facts, modules, running
from mob.cli.doctor.findings import FAIL, OK, WARN, Facts, Finding, count_of, judge
from mob.cli.main import main
from mob.plan import MIB, Plan, RolePlan
from tests.patience import patient
from tests.running import Apps, free_port, freeze

SMALL = Plan("a", "/", (RolePlan("back", "back.py", workers=4), RolePlan("front", "front.py", workers=2)))
LARGE = Plan("a", "/", (RolePlan("back", "back.py", workers=400, shared_memory=0),))
SHARING = Plan("a", "/", (RolePlan("back", "back.py", workers=8, shared_memory=1024 * MIB),))
LIMITED = Plan("a", "/", (RolePlan("back", "back.py", limits={"nofile": 30}),))
FINE = Facts()


def found(check: str, plan: Plan | None = None, **changes: Any) -> Finding:
    return next(each for each in judge(msgspec.structs.replace(FINE, **changes), plan) if each.check == check)


def test_a_good_machine_is_fine_for_a_small_app() -> None:
    assert {each.verdict for each in judge(FINE, None)} == {OK}
    assert {each.verdict for each in judge(FINE, SMALL)} == {OK}
    assert count_of(SMALL) == 4 + 1 + 2 + 1


@pytest.mark.parametrize(
    ("check", "plan", "changes", "verdict", "told"),
    [
        ("Python", None, {"python": (3, 10, 4)}, FAIL, "3.10.4"),
        ("kernel", None, {"kernel": (3, 10)}, WARN, "Linux 3.10"),
        ("kernel", None, {"system": "Darwin", "kernel": (24, 1)}, WARN, "Darwin 24.1"),
        ("open files", None, {"nofile": (256, 4096)}, WARN, "256 open files (hard limit 4096)"),
        ("open files", LARGE, {}, FAIL, "the Kingpin may need 2040, the limit is 1024"),
        ("open files", LARGE, {"nofile": (3000, 4096)}, WARN, "room for only a few connections"),
        ("open files", LARGE, {"nofile": (-1, -1)}, OK, "no limit open files"),
        ("open files", LIMITED, {}, FAIL, "a worker of 'back' may need 44, the limit is 30"),
        ("processes", SMALL, {"nproc": (40, 40), "threads": 20}, FAIL, "34 for this app"),
        ("processes", SMALL, {"nproc": (40, 40), "threads": 20, "is_root": True}, OK, "no limit"),
        ("processes", SMALL, {"cgroup_pids": 50}, WARN, "room for 50 more"),
        ("processes", None, {"cgroup_pids": 10}, WARN, "room for 10 more"),
        ("shared memory", None, {"has_memfd": False}, WARN, "no memfd"),
        ("shared memory", SHARING, {}, OK, "up to 8.0 GB"),
        ("shared memory", SHARING, {"cgroup_memory": 512 * MIB}, WARN, "512 MB of memory available in this control"),
        ("core files", None, {"core": -1}, WARN, "'core' in the directory of the app"),
        ("core files", None, {"core": -1, "core_pattern": "|/usr/lib/x -P %p"}, OK, "go to /usr/lib/x"),
        ("core files", None, {"core": 1, "core_pattern": "/var/%e"}, OK, "go to /var/%e"),
        ("crash reports", None, {"state": "/x cannot be written"}, WARN, "XDG_STATE_HOME"),
        ("ptrace", None, {"ptrace": 1}, OK, "py-spy needs root; `mob stacks` does not"),
        ("ptrace", None, {"ptrace": 0}, OK, "may attach"),
        ("clock", None, {"clock": "hpet"}, WARN, "some microseconds"),
        ("clock", None, {"clock": "tsc"}, OK, "tsc"),
        ("shared memory", SHARING, {}, OK, "at most 1.0 GB each)"),
        ("fresh pages", None, {}, OK, "allocated in advance"),
        ("fresh pages", None, {"can_populate": False}, OK, "Linux 5.14 can allocate them in advance"),
        ("fresh pages", None, {"shared_huge_pages": "advise"}, OK, "huge pages for shared memory: advise"),
        ("fresh pages", None, {"shared_huge_pages": "never"}, OK, "echo advise > /sys/kernel/mm/transparent_hugepage/"),
        ("/dev/shm", None, {"shm": 64 * MIB}, OK, "64 MB wanted  mob does not use it"),
        ("huge pages", None, {"huge_pages": "always"}, WARN, "wanted madvise"),
        ("huge pages", None, {"huge_pages": "never"}, OK, "never"),
        ("overcommit", None, {"overcommit": 2}, WARN, "launches may fail"),
        ("overcommit", None, {"overcommit": 1}, OK, "1"),
    ],
    ids=range(33),
)
def test_each_fact_is_judged(check: str, plan: Plan | None, changes: dict[str, Any], verdict: str, told: str) -> None:
    each = found(check, plan, **changes)
    assert each.verdict == verdict
    assert told in f"{each.seen} wanted {each.wanted} {each.advice}"
    assert each.verdict == OK or each.advice, "what is not fine comes with what to do"


def test_this_machine_can_be_looked_at() -> None:
    seen = facts.look()
    assert seen.python == sys.version_info[:3]
    assert seen.memory > 0
    assert seen.threads > 0
    assert list(judge(seen, SMALL))


# --- modules ----------------------------------------------------------------------------------------------------------


def of_modules(place: Path, plan: Plan, is_measured: bool = False, **files: str) -> list[Finding]:
    for name, text in files.items():
        (place / f"{name}.py").write_text(textwrap.dedent(text))
    return list(modules.findings(msgspec.structs.replace(plan, base=str(place)), is_measured))


BACK = Plan("a", "/", (RolePlan("back", "back.py", boot_timeout=5.0),))


def test_imports_that_cannot_be_found_are_told_without_running_anything(tmp_path: Path) -> None:
    back = (
        "import os, json, nothere.sub\nfrom helper import x\ntry:\n    import perhaps\nexcept ImportError: ...\n1 / 0\n"
    )
    (each,) = of_modules(tmp_path, BACK, back=back, helper="raise SystemExit")
    assert (each.check, each.verdict, each.seen) == ("imports of back", FAIL, "not found: nothere.sub")
    (each,) = of_modules(tmp_path, BACK, back="import os, helper\nserve_for_ever()\n")
    assert (each.verdict, each.seen) == (OK, "all 2 found; boot_timeout=5 s")
    (each,) = of_modules(tmp_path, BACK, back="def f(:\n")
    assert (each.verdict, each.seen[:25]) == (FAIL, "back.py cannot be read: i")


def test_slow_imports_are_measured(tmp_path: Path) -> None:
    slow = "import time\ntime.sleep(0.4)\n"
    asks = "import mob\nback = mob.require('other')\n"  # the proxy is absent, because no mobster imports the module
    (each,) = of_modules(tmp_path, BACK, True, back="import asks, slow\n1 / 0\n", slow=slow, asks=asks)
    assert each.verdict == OK
    assert "slow 0.4" in each.seen
    tight = Plan("a", "/", (RolePlan("back", "back.py", boot_timeout=0.9),))
    (each,) = of_modules(tmp_path, tight, True, back="import slow\n")
    assert each.verdict in (WARN, FAIL)
    assert "less than 0.9 s (boot_timeout)" in each.wanted
    hurried = Plan("a", "/", (RolePlan("back", "back.py", boot_timeout=0.2),))
    (each,) = of_modules(tmp_path, hurried, True, back="import slow\n")
    assert (each.verdict, each.seen) == (FAIL, "took longer than 0.2 s")


def test_an_import_that_fails_is_told(tmp_path: Path) -> None:
    (each,) = of_modules(tmp_path, BACK, True, back="import broken\n", broken="raise ValueError('no good')")
    assert (each.verdict, each.seen) == (FAIL, "import broken: ValueError: no good")


THREADS = "import threading\nthreading.Thread(target=threading.Event().wait, name='mine', daemon=True).start()\n"


@pytest.mark.parametrize(
    ("text", "verdict", "told"),
    [
        ("x = 1", OK, "models: no threads"),
        (THREADS, FAIL, "models: starts threads: mine"),
        ("1 / 0", FAIL, "models: ZeroDivisionError: division by zero"),
        ("print('hello')", OK, "models: no threads"),
    ],
    ids=range(4),
)
def test_threads_before_the_fork(tmp_path: Path, text: str, verdict: str, told: str) -> None:
    plan = Plan("a", "/", preload=("models",))
    (each,) = of_modules(tmp_path, plan, models=text)
    assert (each.check, each.verdict, each.seen) == ("preload", verdict, told)


# --- ports and running apps -------------------------------------------------------------------------------------------


def test_who_holds_a_port_is_told() -> None:
    number = free_port()
    assert running.port(number).verdict == OK
    with socket.create_server(("127.0.0.1", number)):
        each = running.port(number)
    assert each.verdict == WARN
    assert f"(pid {os.getpid()})" in each.seen
    assert f"dashboard(port={number + 1})" in each.advice


BIND = """
    import socket, mob
    sock = socket.create_server(("127.0.0.1", {port}))
    """


def test_a_running_app_is_looked_at(apps: Apps) -> None:
    number = free_port()
    app = apps.start('.role("back", "./back.py", workers=2)', back=BIND.format(port=number))
    app.wait_ready()
    label = f"app {app.name}"
    files, ports = running.apps(app.name)
    assert (files.check, files.verdict, ports.verdict) == (label, OK, OK)
    assert files.seen.startswith("5 processes; at most ")
    assert ports.seen == f"listens on {number}"
    freeze(app.process.pid)
    try:
        first = next(iter(running.apps(app.name)))
    finally:
        app.signal(signal.SIGCONT)
    assert (first.verdict, first.seen) == (FAIL, f"its Kingpin (supervisor, pid {app.process.pid}) is stopped")
    assert f"kill -CONT {app.process.pid}" in first.advice
    app.stop()
    (gone,) = running.apps(app.name)
    assert (gone.verdict, gone.seen) == (FAIL, "is not running")


@pytest.mark.parametrize(
    ("titles", "title"), [("", "{} - back (mobster)"), (".titles()", "{}: back.0")], ids=["usual", "plain"]
)
def test_what_a_dead_app_has_left_is_told(apps: Apps, titles: str, title: str) -> None:
    back = """
        import time
        def sleeps():
            print("begun")
            time.sleep(1000)
        """
    app = apps.start(f'{titles}.role("back", "./back.py")', options="grace=20", back=back)
    client = app.wait_ready()
    (busy,) = app.ready(client)
    call = client.require("back").sleeps()
    app.wait_for("begun")
    app.kill()
    left = next(each for each in running.apps(None) if each.check == "leftovers")
    assert left.verdict == WARN
    assert f"{title.format(app.name)} (pid {busy.pid})" in left.seen
    os.kill(busy.pid, signal.SIGKILL)
    assert isinstance(call.exception(patient(20)), mob.Lost)


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_draws_a_table_and_says_by_its_status_whether_it_works(tmp_path: Path) -> None:
    script = tmp_path / "main.py"
    script.write_text('import mob\nmob.start("shop").base(__file__).role("back", "./back.py").run()\n')
    (tmp_path / "back.py").write_text("import os\n")
    fine = CliRunner().invoke(main, ["doctor", str(script)])
    assert fine.exit_code == 0, fine.output
    assert "this machine, for shop: back x 1" in fine.output
    assert "imports of back" in fine.output
    (tmp_path / "back.py").write_text("import nothere\n")
    bad = CliRunner().invoke(main, ["doctor", str(script)])
    assert bad.exit_code == 1
    assert "not found: nothere" in bad.output
    assert "1 failed" in bad.output


def test_the_command_prints_json(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text('import mob\nmob.start("shop").role("back", "./back.py").run()\n')
    line = [sys.executable, "-m", "mob", "doctor", "--json", "main.py"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=patient(60))
    assert done.returncode == 1
    told = {each["check"]: each for each in json.loads(done.stdout)}
    assert told["imports of back"]["verdict"] == "fail"
    assert set(told["Python"]) == {"check", "verdict", "seen", "wanted", "advice"}


def test_measuring_needs_a_script() -> None:
    done = CliRunner().invoke(main, ["doctor", "--imports"])
    assert done.exit_code == 2
    assert "name its main script" in done.output
