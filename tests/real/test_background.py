"""Apps that a script has inside of it: they end with it, by whatever way it ends, and leave nothing behind."""

from __future__ import annotations

import pytest

from tests.real.scripts import MARK, Scripts
from tests.running import Apps


@pytest.fixture
def scripts(apps: Apps) -> Scripts:
    return Scripts(apps)


def test_a_script_starts_an_app_calls_it_and_stops_it(scripts: Scripts) -> None:
    script = scripts.run(
        """
with background.start(plan(NAME)) as app:
    print("result", app.require("back").foo(1).result())
print("over", app.wait_stopped(0))
with background.start(plan(NAME)) as app, background.start(plan(NAME + "-2")) as other:
    print("again", app.require("back").foo(app.require("back").foo(5).result()).result())
    print("other", other.require("back").foo(10).result())
"""
    )
    assert script.wait() == 0, script.output
    for line in ("result 2", "over True", "again 7", "other 11"):
        assert line in script.lines
    assert script.wait_for(r"back\.\d \d+ \| foo 1")
    scripts.wait_nothing_left()


ENDINGS = {
    "its end": "pass",
    "an exception": "raise ValueError",
    "sys.exit": "sys.exit(3)",
    "os._exit": "os._exit(4)",
    "kill -9": "os.kill(os.getpid(), signal.SIGKILL)",
    "SIGTERM": "os.kill(os.getpid(), signal.SIGTERM)",
    "SIGINT": "os.killpg(0, signal.SIGINT); time.sleep(3000)",
    "a forked child that lives longer": """
if os.fork():
    os._exit(0)
os.setsid()
del os.environ[{mark!r}]
os.execv("/bin/sleep", ["sleep", "60"])
""",
}


@pytest.mark.parametrize("way", ENDINGS)
def test_the_app_ends_with_its_script(scripts: Scripts, way: str) -> None:
    script = scripts.run(
        f"""
app = background.start(plan(NAME))
print("pid", app.require("back").pid().result(), flush=True)
for _ in range(2):
    app.require("back").sleep()
{ENDINGS[way].replace("{mark!r}", repr(MARK))}
"""
    )
    script.wait_for("pid")
    script.wait()
    scripts.wait_nothing_left()


def test_it_is_ended_at_once_whatever_its_mobsters_do(scripts: Scripts) -> None:
    script = scripts.run(
        """
app = background.start(msgspec.structs.replace(plan(NAME), grace=3600))
print("pid", app.require("back").pid().result(), flush=True)
for _ in range(2):
    app.require("back").sleep()
app.end_at_once()
print("ended", flush=True)
"""
    )
    script.wait_for("ended")
    assert script.wait() == 0
    scripts.wait_nothing_left()


def test_a_forked_child_has_no_part_in_the_app(scripts: Scripts) -> None:
    """It can do nothing with the client, its end stops nothing, and while it lives the app ends with the script."""
    script = scripts.run(
        """
app = background.start(plan(NAME))
r, w = os.pipe()
if not os.fork():
    try:
        app.require("back")
    except mob.WrongProcess as error:
        print("child:", error, flush=True)
    app.close()
    sys.exit(0)
os.wait()
print("parent:", app.require("back").foo(1).result(), flush=True)
if not os.fork():
    os.close(w)
    os.read(r, 1)  # until the parent is gone
    while app.app in __import__("mob.rim.addresses").rim.addresses.running_apps():
        time.sleep(0.01)
    print("the app has ended", flush=True)
    os._exit(0)
os.kill(os.getpid(), signal.SIGKILL)
"""
    )
    script.wait_for("child: this client was made in process")
    script.wait_for("parent: 2")
    script.wait_for("the app has ended")
    scripts.wait_nothing_left()


def test_what_a_direct_app_prints_comes_from_its_mobsters_alone(scripts: Scripts) -> None:
    """It is there before the result is, as it was printed, and what shares the pipe lives on when mobsters die."""
    script = scripts.run(
        """
with background.start(direct(plan(NAME))) as app:
    back = app.require("back")
    for x in range(20):
        print("result", back.foo(x).result(), flush=True)
    for _ in range(3):
        pid = back.pid().result()
        os.kill(pid, signal.SIGKILL)
        while any(member.pid == pid for member in app.members()):
            time.sleep(0.01)
print("over")
"""
    )
    assert script.wait() == 0, script.output
    wanted = [line for x in range(20) for line in (f"foo {x}", f"result {x + 1}")]
    assert script.lines == [*wanted, "over"]
    scripts.wait_nothing_left()


def test_the_death_of_its_kingpin_is_an_error_at_once(scripts: Scripts) -> None:
    script = scripts.run(
        """
with background.start(plan(NAME)) as app:
    app.require("back").pid().result()
    os.kill(app.kingpin_pid, signal.SIGKILL)
    app.wait_stopped()
    try:
        app.require("back").foo(1).result()
    except mob.MobError as error:
        print("error:", error)
"""
    )
    assert script.wait() == 0, script.output
    assert script.wait_for("error: .*the app .* has ended")
    scripts.wait_nothing_left()


def test_a_kingpin_that_is_stopped_does_not_hold_up_the_script(scripts: Scripts) -> None:
    script = scripts.run(
        """
app = background.start(plan(NAME))
app.require("back").pid().result()
os.kill(app.kingpin_pid, signal.SIGSTOP)
app.close()
print("closed")
"""
    )
    assert script.wait() == 0, script.output
    scripts.wait_nothing_left()


def test_a_name_that_is_taken_is_told(scripts: Scripts) -> None:
    script = scripts.run(
        """
with background.start(plan(NAME)) as app:
    try:
        background.start(plan(NAME))
    except mob.AppRunning as error:
        print("error:", error, error.pid == app.kingpin_pid)
"""
    )
    assert script.wait() == 0, script.output
    assert script.wait_for(r"error: an app named 'bg-\w+' is already running .* True")
    scripts.wait_nothing_left()


PLACES: dict[str, str] = {
    "a thread": """
import threading
thread = threading.Thread(target=use)
thread.start()
thread.join()
""",
    "a thread that takes no signals": """
from mob.rim.processes import start_thread
start_thread(use, "t").join()
""",
    "a running loop": """
import asyncio
async def main():
    use()
    with background.start(plan(NAME)) as app:
        print("awaited", await app.require("back").foo(1))
asyncio.run(main())
""",
    "a forked process": """
import multiprocessing
process = multiprocessing.get_context("fork").Process(target=use)
process.start()
process.join()
sys.exit(process.exitcode)
""",
    "a process beside an app of its parent's": """
with background.start(plan(NAME + "-parent")) as app:
    app.require("back").foo(1).result()
    if not os.fork():
        use()
        os._exit(0)
    assert os.wait()[1] == 0
    app.require("back").foo(1).result()
""",
    "where SIGTERM, SIGINT and SIGCHLD are ignored": """
for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
    signal.signal(signum, signal.SIG_IGN)
use()
""",
    "python -c": """
import subprocess
subprocess.run([sys.executable, "-c", open("script.py").read().split("# end")[0] + "use()"], check=True)
""",
    "standard input": """
import subprocess
subprocess.run([sys.executable], input=(open("script.py").read().split("# end")[0] + "use()").encode(), check=True)
""",
    "a rehearsal of an upgrade": """
os.environ["MOB_UPGRADE"] = "rehearse:x:1"
use()
""",
}


@pytest.mark.parametrize("place", PLACES)
def test_it_works_wherever_it_is_called(scripts: Scripts, place: str) -> None:
    script = scripts.run(
        f"""
def use():
    with background.start(plan(NAME)) as app:
        print("result", app.require("back").foo(1).result(), flush=True)
# end
{PLACES[place]}
"""
    )
    assert script.wait() == 0, script.output
    script.wait_for("^result 2$")
    scripts.wait_nothing_left()


def test_an_app_within_a_mobster_of_another_ends_with_it(scripts: Scripts, apps: Apps) -> None:
    apps.write(
        outer=f"""
import msgspec
import mob
from mob import background

plan = mob.start({scripts.name + "-in"!r}).role("back", "./back.py").hand_over()
app = background.start(plan)

def inner(x):
    return app.require("back").foo(x).result()
"""
    )
    script = scripts.run(
        """
plan = mob.start(NAME).role("outer", "./outer.py").hand_over()
with background.start(plan) as app:
    print("result", app.require("outer").inner(1).result(), flush=True)
"""
    )
    assert script.wait() == 0, script.output
    script.wait_for("^result 2$")
    assert not script.wait_for("Traceback", 0)
    scripts.wait_nothing_left()
    script = scripts.run(
        """
plan = mob.start(NAME).role("outer", "./outer.py").hand_over()
with background.start(plan) as app:
    print("result", app.require("outer").inner(1).result(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    )
    script.wait_for("^result 2$")
    scripts.wait_nothing_left()
