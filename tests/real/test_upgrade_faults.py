"""An upgrade that fails at any step: the app continues; its Kingpin answers, gets signals and can be upgraded."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator

import pytest

import mob
from mob.kingpin.upgrade import upgrade
from tests.patience import patient
from tests.running import Apps, RunningApp, apps_in, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="masks of signals are read from /proc")
BACK = "import os\ndef pid():\n    return os.getpid()"
MAIN = """
import linecache, os, signal, sys
import mob
from mob.kingpin.upgrade import handover_state, upgrade
from mob.kingpin import connections, kingpin, manager, program
from mob.kingpin.output import console, followers, writer
from mob.kingpin.processes import fork_client, ports

HERE = os.path.dirname(os.path.abspath(__file__))
FAULTS = [OSError(24, "Too many open files"), MemoryError("injected"), RuntimeError("injected")]
TRACED = {handover_state.__file__, upgrade.__file__}
PARTS = (connections, console, followers, fork_client, kingpin, manager, ports, writer)
ONCE = {part.__file__ for part in PARTS if part is not kingpin}
FUNCTIONS = {
    **{part.__file__: {"state", "take_over"} for part in PARTS},
    connections.__file__: {"state", "take_over", "open"},
    kingpin.__file__: {"take_over", "give", "hush"},
    program.__file__: {"_take_over"},
}
CARES = {  # for all the others, and can do nothing that fails
    "handle_exit", "_fail", "_handle_end", "fall_back", "end_probation", "begin_probation", "is_on_probation", "_will",
    "set_inheritable", "descriptors",
}
seen = set()

def is_traced(code):
    is_wanted = code.co_filename in TRACED or code.co_name in FUNCTIONS.get(code.co_filename, ())
    return is_wanted and code.co_name not in CARES

def trace(frame, event, arg):
    return step if event == "call" and is_traced(frame.f_code) else None

def step(frame, event, arg):
    whole = frame.f_code.co_filename in ONCE  # its lines are all run by one line of the upgrade
    where = f"{frame.f_code.co_name}:{os.path.basename(frame.f_code.co_filename) if whole else frame.f_lineno}"
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
    if event == "line" and where not in seen and line != "try:":
        sys.settrace(None)
        with open(os.path.join(HERE, "hit"), "w") as file:
            file.write(where)
        raise FAULTS[frame.f_lineno % len(FAULTS)]
    return step

def arm(phase):
    with open(os.path.join(HERE, "fault")) as file:
        wanted, *lines = file.read().split()
    if wanted == phase:
        seen.update(lines)
        sys.settrace(trace)

def handle_wish(signum, frame):
    arm("old")
    open(os.path.join(HERE, "armed"), "w").close()

signal.signal(signal.SIGWINCH, handle_wish)
app = mob.start(NAME).base(__file__).role("back", "./back.py", workers=2)
if os.environ.get("MOB_UPGRADE", "").startswith("inherit"):
    arm("new")
app.run()
"""


def blocked_signals(pid: int) -> int:
    with open(f"/proc/{pid}/status") as lines:
        return int(next(line.split()[1] for line in lines if line.startswith("SigBlk")), 16)


class Site:
    def __init__(self, app: RunningApp) -> None:
        self.app = app
        self.pid = app.process.pid
        self.client = app.wait_ready()
        self.workers = sorted(member.pid for member in app.ready(self.client))

    def upgrade(self, phase: str, seen: Iterable[str]) -> tuple[str, str]:
        """Upgrade; return the line of the fault, which is not one of those `seen`, and the answer to the upgrade."""
        directory = self.app.directory
        for name in ("hit", "armed"):
            (directory / name).unlink(missing_ok=True)
        (directory / "fault").write_text(" ".join((phase, *seen)))
        if phase == "old":
            os.kill(self.pid, signal.SIGWINCH)
            wait_until((directory / "armed").exists, "the fault is set")
        try:
            answer = self.client.upgrade(60)
        except mob.MobError as error:
            answer = f"failed: {error}"
        hit = directory / "hit"
        return hit.read_text() if hit.exists() else "", answer

    def ready(self, but: int) -> list[int]:
        """Return the two ready workers, once `but` is not one of them."""
        found = sorted(member.pid for member in self.app.ready(self.client))
        return found if len(found) == 2 and but not in found else []

    def check(self, where: str) -> None:
        assert self.app.process.poll() is None, where
        assert blocked_signals(self.pid) & (1 << (signal.SIGTERM - 1)) == 0, where
        assert [row.state for row in self.client.overview()] == ["ready"] * 2, where
        assert sorted(member.pid for member in self.app.ready(self.client)) == self.workers, where
        assert self.client.require("back").pid().result(patient(20)) in self.workers, where


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with apps_in(tmp_path_factory.mktemp("faults")) as apps:
        name = "upgrade-faults"
        directory = apps.write(back=BACK, main=MAIN.replace("NAME", repr(name)))
        (directory / "fault").write_text("none")
        yield Site(apps.run(name, [sys.executable, str(directory / "main.py")]))


@pytest.mark.timeout(600)  # a hundred upgrades
@pytest.mark.parametrize(("phase", "least"), [("old", 40), ("new", 30)])
def test_a_fault_at_each_line_changes_nothing(site: Site, phase: str, least: int) -> None:
    seen: dict[str, str] = {}
    while True:
        where, answer = site.upgrade(phase, seen)
        site.check(f"{where}: {answer}")
        if not where:
            break
        seen[where] = answer
    assert answer == "the new Kingpin took over 2 mobsters."
    assert len(seen) >= least, seen


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, str]]:
    """Yield an app that survives all failed upgrades, and its main script."""
    with apps_in(tmp_path_factory.mktemp("lasting")) as apps:
        app = apps.start('.role("back", "./back.py", workers=2, intensity=20)', back=BACK)
        yield Site(app), (app.directory / "main.py").read_text()


def in_earnest(site: Site, good: str, how: str) -> None:
    """Write a main script that does something only when it is to take over."""
    code = f"import os, sys\nimport mob\nif os.environ.get('MOB_UPGRADE', '').startswith('inherit'): {how}\n"
    (site.app.directory / "main.py").write_text(code + good)


@pytest.mark.parametrize("how", ["raise RuntimeError('not today')", "sys.exit(0)", "sys.exit(3)"])
def test_a_main_script_that_fails_only_when_it_is_run_in_earnest_changes_nothing(
    lasting: tuple[Site, str], how: str
) -> None:
    site, good = lasting
    in_earnest(site, good, how)
    with pytest.raises(mob.MobError, match=r"ended before `\.run\(\)`; the app keeps running with its previous plan"):
        site.client.upgrade(60)
    site.check(how)


def test_a_worker_whose_end_is_not_reported_yet(apps: Apps) -> None:
    app = apps.start('.role("a", "./back.py", workers=2).role("b", "./back.py")', back=BACK)
    client = app.wait_ready()
    server = app.fork_server()
    os.kill(server, signal.SIGSTOP)
    for member in app.ready(client, "a"):
        os.kill(member.pid, signal.SIGKILL)
    with pytest.raises(mob.CallError):  # its links were closed
        client.require("a").options(wait=0).pid().result(patient(20))
    assert client.upgrade(60) == "the new Kingpin took over 3 mobsters."
    wait_until(lambda: len(app.ready(client)) == 3, "they are restarted")
    assert client.require("b").pid().result(patient(20))
    client.close()
    assert app.stop() == 0


def test_a_place_that_was_never_forked(apps: Apps) -> None:
    app = apps.start('.role("a", "./back.py", workers=2)', back=BACK)
    client = app.wait_ready()
    os.kill(app.fork_server(), signal.SIGSTOP)
    client.scale("a", 3)
    client.scale("a", 2)
    assert client.upgrade(60) == "the new Kingpin took over 2 mobsters."
    wait_until(lambda: [row.state for row in client.overview()] == ["ready"] * 2, "the third slot is removed")
    client.close()
    assert app.stop() == 0


FAILS = "raise RuntimeError('not today')"


@pytest.mark.parametrize(
    "how",
    [
        f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (12, resource.getrlimit(7)[1])); {FAILS}",
        f"sys.path.clear(); {FAILS}",
        f"os.environ.clear(); {FAILS}",
        # the package is missing for a moment, as while it is being replaced
        (
            "from mob.kingpin import upgrade as u; flag = os.path.abspath('flag'); "
            "u.AGAIN = u.AGAIN.replace('    from mob', f'    if not os.path.exists({flag!r}): "
            f"os.close(os.open({{flag!r}}, os.O_CREAT)); import nowhere_to_be_found\\n    from mob', 1); {FAILS}"
        ),
    ],
    ids=["no descriptors", "no path", "no environment", "no mob"],
)
def test_a_main_script_that_breaks_its_surroundings_and_fails_changes_nothing(
    lasting: tuple[Site, str], how: str
) -> None:
    site, good = lasting
    in_earnest(site, good, how)
    with pytest.raises(mob.MobError, match=r"the app keeps running with its previous plan"):
        site.client.upgrade(60)
    site.check(how)
    victim = site.workers[0]
    os.kill(victim, signal.SIGKILL)
    site.workers = wait_until(lambda: site.ready(but=victim), "it is restarted")


def test_a_main_script_that_clears_its_environment_takes_over_with_its_new_plan(lasting: tuple[Site, str]) -> None:
    site, good = lasting
    in_earnest(site, good.replace("workers=2", "workers=3"), "os.environ.clear()")
    assert site.client.upgrade(60) == "the new Kingpin took over 2 mobsters."
    wait_until(lambda: len(site.app.ready(site.client)) == 3, "the new plan applies")
    assert set(site.workers) < {member.pid for member in site.app.ready(site.client)}
    assert "was lost" not in site.app.output
    site.client.close()
    assert site.app.stop() == 0


def test_a_main_script_that_removes_its_directory_and_fails_changes_nothing(apps: Apps) -> None:
    site = Site(apps.start('.role("back", "./back.py", workers=2)', back=BACK))
    in_earnest(site, (apps.directory / "main.py").read_text(), f"import shutil; shutil.rmtree(os.getcwd()); {FAILS}")
    with pytest.raises(mob.MobError, match=r"the app keeps running with its previous plan"):
        site.client.upgrade(60)
    site.check("no directory")
    site.client.close()
    assert site.app.stop() == 0


def test_a_stop_does_not_wait_for_a_main_script_that_hangs(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py", workers=2)', back=BACK)
    app.wait_ready().close()
    main = app.directory / "main.py"
    hang = "print('hanging', flush=True); time.sleep(1000)"
    main.write_text(
        f"import os, time\nimport mob\nif os.environ['MOB_UPGRADE'].startswith('inherit'): {hang}\n{main.read_text()}"
    )
    app.process.send_signal(signal.SIGUSR2)
    app.wait_for("hanging")
    began = time.monotonic()
    assert app.stop() == 0
    assert time.monotonic() - began < upgrade.REHEARSAL / 2
    assert "did not reach `.run()` before the app was asked to stop" in app.output
