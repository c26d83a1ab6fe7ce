"""Modules that are imported once, in the fork server, and shared by all mobsters."""

from __future__ import annotations

import os
import signal

from tests.running import Apps, RunningApp, wait_until

BIG = """
    import os
    imported_by = os.getpid()
    value = 1
    print("imported big", flush=True)
    """
BACK = """
    import os, big

    def seen():
        return big.imported_by, big.value, os.getpid()
    """


def start(apps: Apps, big: str = BIG, back: str = BACK) -> RunningApp:
    return apps.start('.preload("big").role("back", "./back.py", workers=2)', big=big, back=back)


def test_a_module_is_imported_once_and_not_by_the_kingpin(apps: Apps) -> None:
    app = start(apps)
    client = app.wait_ready()
    seen = client.all("back").call.seen().result(20)
    assert [by for by, _, _ in seen.values()] == [app.fork_server()] * 2
    assert app.output.count("imported big") == 1


def test_a_reload_imports_it_anew(apps: Apps) -> None:
    app = start(apps)
    client = app.wait_ready()
    first = app.fork_server()
    (apps.directory / "big.py").write_text("import os\nimported_by = os.getpid()\nvalue = 'another one'\n")
    assert client.reload(timeout=60).startswith("reloaded 2 workers")
    seen = client.all("back").call.seen().result(20)
    assert {value for _, value, _ in seen.values()} == {"another one"}
    assert {by for by, _, _ in seen.values()} == {app.fork_server()}
    assert app.fork_server() != first
    assert app.stop() == 0
    app.wait_gone()


def test_mobsters_of_the_old_fork_server_are_still_supervised(apps: Apps) -> None:
    roles = '.preload("big").role("back", "./back.py").role("other", "./back.py")'
    app = apps.start(roles, big=BIG, back=BACK)
    client = app.wait_ready()
    (old,) = (member.pid for member in app.ready(client, "other"))
    client.reload("back", timeout=60)
    assert [member.pid for member in app.ready(client, "other")] == [old]
    client.pid(old).call.seen().result(20)
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: [m.pid for m in app.ready(client, "other")] not in ([], [old]), "it is revived")
    assert client.require("other").seen().result(20)[0] == app.fork_server()


def test_a_preload_that_fails_is_told_and_the_app_lives(apps: Apps) -> None:
    app = start(apps, big="raise ValueError('no such table')", back="def foo():\n    return 1")
    client = app.wait_ready()
    assert client.require("back").foo().result(20) == 1
    app.wait_for("mob: 'big' cannot be preloaded:")
    app.wait_for("ValueError: no such table")


def test_a_preload_that_starts_a_thread_is_warned_about(apps: Apps) -> None:
    big = BIG + "import threading, time\n    threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n"
    app = start(apps, big=big)
    app.wait_ready()
    app.wait_for("mob: preloading 'big' has started a thread, which no mobster will have: locks that it holds at a")
    assert app.stop() == 0
