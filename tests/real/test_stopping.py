"""The end of an app: requested, forced, or because its Kingpin was killed. In any case nothing of it is left."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

import mob
from tests.patience import patient
from tests.real.servers import SERVERS, ask, can_listen, source_of
from tests.running import Apps, RunningApp, free_port, freeze, is_alive, wait_until

IN_ORDER = """
    import asyncio, mob

    @mob.on("stop")
    def say():
        print("stops:", mob.me().role)

    @mob.on("stop")
    async def say_more():
        await asyncio.sleep(0.01)
        print("has stopped:", mob.me().role)
    """


def test_a_signal_stops_the_roles_in_order_the_last_one_first(apps: Apps) -> None:
    roles = '.role("one", "./a.py", workers=2).role("two", "./b.py", workers=2).role("three", "./c.py", workers=2)'
    app = apps.start(roles, a=IN_ORDER, b=IN_ORDER, c=IN_ORDER)
    app.wait_ready()
    app.processes()
    app.signal(signal.SIGINT)
    assert app.wait() == 0
    app.wait_gone()
    order = ["three", "three", "two", "two", "one", "one"]
    assert [found[1] for found in app.wait_for(r"\| stops: (\w+)")] == order
    assert [found[1] for found in app.wait_for(r"\| has stopped: (\w+)")] == order


STANDING = """
    import asyncio, mob

    @mob.on("ready")
    async def for_ever():
        try:
            print("ticks")
            await asyncio.sleep(1_000_000)
        finally:
            await asyncio.sleep(0.01)
            print("ticks no more")

    @mob.on("message")
    async def hear(n):
        print("begins", n)
        await asyncio.sleep(0.2)
        print("has heard", n)

    @mob.on("stop")
    def stop():
        print("stops")
    """


def test_a_handler_that_runs_for_ever_is_cancelled_one_of_a_message_is_waited_for(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back=STANDING)
    client = app.wait_ready()
    app.wait_for("ticks")
    client.any("back").send(7)
    app.wait_for("begins 7")
    assert app.stop(patient(10)) == 0  # of a grace period of 30 s
    said = [line.rpartition("| ")[2] for line in app.lines]
    assert said.index("has heard 7") < said.index("ticks no more") < said.index("stops")


def test_the_main_script_goes_on_after_the_stop_and_the_last_words_of_mobsters(apps: Apps) -> None:
    apps.write(
        back="""
        import atexit, sys
        atexit.register(sys.stdout.write, "the last word, without an end")
        """,
        main="""
        import mob
        mob.start("t-goes-on").base(__file__).role("back", "./back.py").run()
        print("all is over")
        """,
    )
    app = apps.run("t-goes-on", [sys.executable, "main.py"])
    app.wait_ready()
    assert app.stop() == 0
    assert app.lines[-1] == "all is over"
    assert app.lines[-2].endswith("| the last word, without an end")


# --------------------------------------------------------------------------------------------- what is under way

SLOW = """
    import asyncio, os, time
    import mob

    def who():
        return os.getpid()

    def sleeps():
        print("begun")
        time.sleep(0.3)
        return "done"

    async def waits():
        print("begun")
        await asyncio.sleep(0.3)
        return "done"
    """

BLOCKS = """
    mob.ready()
    time.sleep(1_000_000)
    """


@pytest.mark.parametrize("threads", [1, 2])
def test_calls_in_flight_those_behind_them_and_those_that_wait_at_their_caller_are_answered(
    apps: Apps, threads: int
) -> None:
    app = apps.start(f'.role("back", "./back.py", threads={threads})', back=SLOW)
    back = app.wait_ready().require("back")
    there = back.options(pid=back.who().result(patient(10)))
    calls = [there.waits(), there.sleeps(), there.sleeps(), *(back.sleeps() for _ in range(3))]
    app.wait_for("begun")
    app.signal(signal.SIGINT)
    assert [call.result(patient(10)) for call in calls] == ["done"] * 6
    assert app.wait() == 0


def test_a_call_between_roles_gets_its_answer(apps: Apps) -> None:
    app = apps.start(
        '.role("back", "./back.py").role("front", "./front.py")',
        back=SLOW,
        front="""
        import mob
        back = mob.require("back")

        async def relay():
            return "relayed " + await back.waits()
        """,
    )
    call = app.wait_ready().require("front").relay()
    app.wait_for("begun")
    app.signal(signal.SIGTERM)
    assert call.result(patient(10)) == "relayed done"
    assert app.wait() == 0


def test_a_module_that_blocks_finishes_its_calls_too(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back=SLOW + BLOCKS)
    call = app.wait_ready().require("back").waits()
    app.wait_for("begun")
    app.signal(signal.SIGTERM)
    assert call.result(patient(10)) == "done"
    assert app.wait() == 0
    assert "Traceback" not in app.output


# --------------------------------------------------------------------------------------------------- the force

HANGS = {
    "asleep at import": """
        import signal, time, mob
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        mob.ready()
        print("hangs")
        time.sleep(1_000_000)
        """,
    "in a loop at import": """
        import signal, mob
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        mob.ready()
        print("hangs")
        while True:
            pass
        """,
    "in a handler that never returns": """
        import time, mob

        @mob.on("ready")
        def hang():
            print("hangs")
            time.sleep(1_000_000)
        """,
    "with the interpreter's lock": """
        import ctypes, mob

        @mob.on("ready")
        def hang():
            print("hangs")
            while True:
                ctypes.PyDLL(None).sleep(100)
        """,
}


def test_a_second_signal_forces_the_end_at_once(apps: Apps) -> None:
    modules = dict(zip("abcde", [*HANGS.values(), 'print("hangs")\nimport time; time.sleep(1_000_000)'], strict=True))
    apps.write(**modules)
    app = apps.start("".join(f'.role("{name}", "./{name}.py")' for name in modules))
    app.wait_for("hangs", len(modules))
    app.processes()
    app.signal(signal.SIGINT)
    app.wait_for(r"mob \| stopping\.")
    app.signal(signal.SIGINT)
    assert app.wait(patient(5)) == 1
    app.wait_gone(patient(5))
    assert app.lines[-1] == "mob | stopping at once."


def test_what_will_not_end_is_killed_after_the_grace_time(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', options="grace=0.5", back=HANGS["asleep at import"])
    app.wait_for("hangs")
    app.processes()
    begun = time.monotonic()
    app.signal(signal.SIGINT)
    app.wait(patient(10))
    assert time.monotonic() - begun >= 0.45
    app.wait_gone(patient(5))
    app.wait_for(r"mob \| killing back\.0 \(pid \d+\): still running after its grace period\.")


def test_a_signal_while_it_still_boots(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py", workers=3)', back="import time; time.sleep(1_000_000)")
    app.connect()
    assert app.stop(patient(5)) == 0
    app.wait_gone(patient(5))
    assert "Traceback" not in app.output


def test_roles_that_are_imported_or_wait_for_their_next_try_end_when_asked(apps: Apps) -> None:
    importing = 'print("begins")\nimport time; time.sleep(1_000_000)'
    app = apps.start('.role("back", "./back.py").role("fails", "./fails.py")', back=importing, fails="1 / 0")
    app.wait_for("begins")
    app.wait_for("ZeroDivisionError", 2)
    assert app.stop(patient(5)) == 0
    app.wait_gone()
    assert app.output.count("Traceback") == 1  # of the module that fails


# --------------------------------------------------------------------------------------------------- Ctrl-C


def test_ctrl_c_makes_no_noise(apps: Apps) -> None:
    ports = {f"s{number}": free_port() for number in range(len(SERVERS))}
    apps.write(**{role: source_of(make, port) for make, (role, port) in zip(SERVERS, ports.items(), strict=True)})
    app = apps.start("".join(f'.role("{role}", "./{role}.py", workers=2)' for role in ports))
    app.wait_ready()
    assert all(map(ask, ports.values()))
    app.signal(signal.SIGINT)
    assert app.wait() == 0
    app.wait_gone()
    for noise in ("Traceback", "KeyboardInterrupt", "Exception", "Error", "never retrieved", "was destroyed"):
        assert noise not in app.output


def test_ctrl_c_in_a_terminal(apps: Apps) -> None:
    port = free_port()
    app = apps.start('.role("front", "./front.py")', front=source_of("http.server", port), terminal=True)
    app.wait_ready()
    assert ask(port)
    app.type("\x03")
    assert app.wait() == 0
    app.wait_gone()
    assert len(app.lines) == 1
    assert app.lines[0].endswith(" | stopping.")


# ------------------------------------------------------------------------------------------ kill -9 of the Kingpin

PARENT = """
    import subprocess, sys
    children = [
        subprocess.Popen(["sleep", "1000"]),
        subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 1000; sleep 1000"]),
        subprocess.Popen([sys.executable, "-c", "import subprocess; subprocess.run(['sleep', '1000'])"]),
    ]
    """
STATES = {
    "rests": "",
    "parent": PARENT,
    "asleep": HANGS["asleep at import"],
    "locked": HANGS["with the interpreter's lock"],
    "stopped": "",
}


def start_in_states(apps: Apps, *states: str, grace: float) -> tuple[RunningApp, int]:
    """Start an app with two workers in each state, and one role that serves; return the app and the port."""
    port = free_port()
    roles = "".join(f'.role("{state}", "./{state}.py", workers=2)' for state in (*states, "serves"))
    apps.write(**{state: STATES[state] for state in states}, serves=source_of("http.server", port))
    app = apps.start(roles, options=f"grace={grace}")
    client = app.wait_ready()
    app.wait_for("hangs", 2 * len({"asleep", "locked"} & set(states)))
    for member in app.ready(client, "stopped"):
        os.kill(member.pid, signal.SIGSTOP)
    if "parent" in states:
        least = 2 + 2 * (len(states) + 1) + 2 * 5
        wait_until(lambda: len(app.processes()) >= least, "children and grandchildren run")
    client.close()
    return app, port


def test_kill_9_of_the_kingpin_leaves_nothing(apps: Apps) -> None:
    app, port = start_in_states(apps, *STATES, grace=0.5)
    app.kill()
    app.wait_gone(patient(10))
    assert can_listen(port)


def kill_both_at_once(app: RunningApp) -> None:
    """Kill Kingpin and fork server, so that neither sees the other exit."""
    both = (app.process.pid, app.fork_server())
    app.processes()
    for pid in both:
        freeze(pid)
    for pid in both:
        os.kill(pid, signal.SIGKILL)


def test_kill_9_of_kingpin_and_fork_server_at_once_leaves_nothing(apps: Apps) -> None:
    app, port = start_in_states(apps, *STATES, grace=100)
    kill_both_at_once(app)
    app.wait_gone(patient(10))
    assert can_listen(port)


def test_kill_9_of_the_kingpin_while_it_starts_another_fork_server_leaves_nothing(apps: Apps) -> None:
    app, _ = start_in_states(apps, "parent", grace=0.5)
    fork_server = app.fork_server()
    app.processes()
    for pid in (fork_server, app.process.pid):
        os.kill(pid, signal.SIGKILL)
    app.wait_gone(patient(10))


def test_kill_9_of_the_kingpin_lets_calls_in_flight_finish(apps: Apps) -> None:
    app = apps.start(
        '.role("back", "./back.py").role("front", "./front.py")',
        back=SLOW,
        front=f"""
        import mob
        back = mob.require("back")

        @mob.on("ready")
        async def relay():
            answer = await back.waits()
            open({str(apps.directory / "answer")!r}, "w").write(answer)
        """,
    )
    app.wait_for("begun")
    app.kill()
    app.wait_gone(patient(5))
    assert (apps.directory / "answer").read_text() == "done"


# ---------------------------------------------------------------------------------------- death of the fork server

BACK = """
    import os

    def pid():
        return os.getpid()
    """


def replace_fork_server(app: RunningApp) -> None:
    """Kill the fork server, and wait until the Kingpin has another one."""
    old = app.fork_server()
    os.kill(old, signal.SIGKILL)
    app.wait_for(r"mob \| the fork server was killed by SIGKILL; starting a new one, its mobsters keep running\.")

    def there_is_another() -> bool:
        try:
            return app.fork_server() != old
        except (StopIteration, psutil.Error):
            return False

    wait_until(there_is_another, "there is another fork server")


def pids(app: RunningApp, client: mob.Client) -> set[int]:
    """Return the pids of the ready mobsters."""
    return {member.pid for member in app.ready(client)}


def test_mobsters_outlive_their_fork_server_and_are_revived_by_the_next(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py", workers=2)', back=BACK)
    client = app.wait_ready()
    before = pids(app, client)
    replace_fork_server(app)
    assert set(client.all("back").call.pid().result(patient(10))) == pids(app, client) == before
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: len(pids(app, client) - {victim}) == 2, "its successor is ready")
    victim = min(pids(app, client))
    for pid in (victim, app.fork_server()):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(pids(app, client) - {victim}) == 2, "its successor is ready")
    assert set(client.all("back").call.pid().result(patient(10))) == pids(app, client)
    freeze(app.fork_server())
    assert app.stop(patient(10)) == 0
    app.wait_gone()


def test_kill_9_of_the_kingpin_after_the_fork_server_leaves_nothing(apps: Apps) -> None:
    app, _ = start_in_states(apps, "rests", "parent", "locked", grace=0.5)
    replace_fork_server(app)
    app.kill()
    app.wait_gone(patient(10))


def test_kill_9_of_the_second_fork_server_and_the_kingpin_leaves_nothing(apps: Apps) -> None:
    app, _ = start_in_states(apps, "parent", grace=100)
    replace_fork_server(app)
    kill_both_at_once(app)
    app.wait_gone(patient(10))


# ----------------------------------------------------------------------------------------------- one mobster


def test_a_mobster_that_ends_is_replaced_and_takes_its_children_with_it(apps: Apps) -> None:
    roles = '.role("serves", "./serves.py").role("blocks", "./blocks.py").role("parent", "./parent.py")'
    app = apps.start(roles, serves=SLOW, blocks=SLOW + BLOCKS, parent=PARENT)
    client = app.wait_ready()

    def pid(role: str, former: int = 0) -> int:
        return wait_until(lambda: sum(m.pid for m in app.ready(client, role) if m.pid != former), f"{role} is ready")

    calls = {role: client.require(role).waits() for role in ("serves", "blocks")}
    old = {role: pid(role) for role in (*calls, "parent")}
    app.wait_for("begun", 2)
    for role, call in calls.items():
        os.kill(old[role], signal.SIGTERM)
        assert call.result(patient(10)) == "done"
        assert pid(role, old[role])
        app.wait_for(rf"mob \| {role}\.0 \(pid {old[role]}\) stopped as requested; restarting it\.")
        assert client.require(role).waits().result(patient(10)) == "done"

    def family() -> set[int]:
        return {child.pid for child in psutil.Process(old["parent"]).children(recursive=True)}

    children = wait_until(lambda: family() if len(family()) == 5 else set(), "children and grandchildren run")
    os.kill(old["parent"], signal.SIGKILL)
    wait_until(lambda: not any(map(is_alive, children)), "they exited", patient(5))
    assert pid("parent", old["parent"])


def test_the_socket_of_the_app_is_free_when_it_has_gone(apps: Apps, tmp_path: Path) -> None:
    app = apps.start('.role("back", "./back.py")', name="t-once-more", back=BACK)
    app.wait_ready()
    app.kill()
    again = apps.start('.role("back", "./back.py")', name="t-once-more", back=BACK)
    assert again.wait_ready().require("back").pid().result(patient(10))


EXHAUSTED = """
import os, resource, mob

held = []

@mob.on("start")
async def serve():
    import asyncio
    global server
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)

def exhaust():
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    try:
        while True:
            held.append(os.dup(0))
    except OSError as error:
        return error.errno
"""


def test_one_that_has_no_descriptor_left_ends_when_asked(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back=EXHAUSTED)
    client = app.wait_ready()
    assert client.require("back").exhaust().result(patient(20)) == errno.EMFILE
    client.close()
    assert app.stop() == 0
    assert "killing" not in app.output
