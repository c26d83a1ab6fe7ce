"""Modules that are imported once, in the fork server, and shared by all mobsters."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from tests.patience import patient
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
    seen = client.all("back").call.seen().result(patient(20))
    assert [by for by, _, _ in seen.values()] == [app.fork_server()] * 2
    assert app.output.count("imported big") == 1


def test_a_reload_imports_it_anew(apps: Apps) -> None:
    app = start(apps)
    client = app.wait_ready()
    first = app.fork_server()
    (apps.directory / "big.py").write_text("import os\nimported_by = os.getpid()\nvalue = 'another one'\n")
    assert client.reload(timeout=patient(60)).startswith("reloaded 2 workers")
    seen = client.all("back").call.seen().result(patient(20))
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
    client.reload("back", timeout=patient(60))
    assert [member.pid for member in app.ready(client, "other")] == [old]
    client.pid(old).call.seen().result(patient(20))
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: [m.pid for m in app.ready(client, "other")] not in ([], [old]), "it is revived")
    assert client.require("other").seen().result(patient(20))[0] == app.fork_server()


def test_what_is_launched_when_a_fork_server_dies_and_a_reload_waits_is_launched_once(apps: Apps) -> None:
    big = "import os\nif os.path.exists('gate'):\n    open('gate').read()\n"
    roles = '.preload("big").role("back", "./back.py").role("other", "./back.py", workers=2)'
    app = apps.start(roles, big=big, back="def foo(): ...")
    client = app.wait_ready()

    def launched(role: str) -> list[int]:
        return [each.uid for each in client.members() if each.role == role and each.state == "launching"]

    os.mkfifo(apps.directory / "gate")  # the next fork server forks nobody, for nobody writes there
    first = client._steering.reload(("back",))
    wait_until(lambda: launched("back"), "the successor is ordered")
    client.restart("other")
    wait_until(lambda: len(launched("other")) == 2, "the successors are ordered")
    client.restart("other")  # what is lost and was to end has a successor at once
    second = client._steering.reload(())
    client.overview()
    (apps.directory / "gate").unlink()
    os.kill(app.fork_server(), signal.SIGKILL)
    assert "was lost with the fork server" in first.result(patient(60)).error
    assert second.result(patient(60)).text.startswith("reloaded 3 workers")

    def states() -> list[str]:
        return [each.state for each in client.members() if each.role]

    wait_until(lambda: states() == ["ready"] * 3, f"nobody is left but three workers: {client.members()}")
    assert app.stop() == 0
    app.wait_gone()


def test_a_preload_that_fails_is_told_and_the_app_lives(apps: Apps) -> None:
    app = start(apps, big="raise ValueError('no such table')", back="def foo():\n    return 1")
    client = app.wait_ready()
    assert client.require("back").foo().result(patient(20)) == 1
    app.wait_for("mob: 'big' cannot be preloaded:")
    app.wait_for("ValueError: no such table")


def test_a_preload_that_starts_a_thread_is_warned_about(apps: Apps) -> None:
    big = BIG + "import threading, time\n    threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n"
    app = start(apps, big=big)
    app.wait_ready()
    app.wait_for("mob: preloading 'big' started a thread, which no worker will have: locks that it holds during a")
    assert app.stop() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="threads that Python does not know are counted by /proc")
def test_a_preload_that_starts_threads_of_a_library_in_c_is_warned_about(apps: Apps) -> None:
    big = """
        import ctypes
        import threading
        imported_by, value = 0, 1
        for each in [threading.Thread(target=print) for _ in range(5)]:  # these have ended
            each.start()
            each.join()
        c = ctypes.CDLL(None)
        threads = [ctypes.c_ulong() for _ in range(2)]
        for thread in threads:
            c.pthread_create(ctypes.byref(thread), None, c.pause, None)
        """
    app = start(apps, big=big)
    app.wait_ready()
    app.wait_for("mob: preloading 'big' started 2 threads of a C library, which no worker will have")


def test_a_preload_that_starts_no_threads_of_its_own_is_not(apps: Apps) -> None:
    pytest.importorskip("numpy")
    big = """
        import threading
        import numpy
        numpy.ones((300, 300)) @ numpy.ones((300, 300))  # by the threads of OpenBLAS, if there are several cores
        imported_by, value = 0, 1
        for each in [threading.Thread(target=print) for _ in range(5)]:
            each.start()
            each.join()
        """
    app = start(apps, big=big)
    app.wait_ready()
    assert "preloading" not in app.output


def test_random_numbers_differ_in_all_workers(apps: Apps) -> None:
    pytest.importorskip("numpy")
    big = """
        import random
        import numpy
        random.seed(1)
        numpy.random.seed(1)
        """
    back = """
        import random
        import numpy
        def drawn(): return [random.random(), float(numpy.random.random())]
        """
    app = start(apps, big=big, back=back)
    client = app.wait_ready()
    first, second = client.all("back").call.drawn().result(patient(20)).values()
    assert first[0] != second[0]
    assert first[1] != second[1]
