"""How apps are put into service: one-shot roles, releases behind a symbolic link, nohup, environments, preloading."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

import mob
from tests.patience import patient
from tests.running import Apps, RunningApp, freeze

ONE_SHOT = '.role("migrate", "./migrate.py", restart="temporary").role("web", "./web.py", needs=("migrate",))'


def test_a_role_starts_when_the_one_shot_role_that_it_needs_is_done(apps: Apps) -> None:
    app = apps.start(ONE_SHOT, migrate="print('migrated')\nraise SystemExit(0)", web="def f(): return 'web'")
    client = app.connect()
    assert client.require("web").f().result(patient(30)) == "web"
    app.wait_for(
        r"mob \| migrate\.0 \(pid \d+\) ended by itself \(exit status 0\); it is not restarted "
        r"\(restart='temporary'\)\."
    )
    assert "SystemExit" not in app.output
    assert client.reload().startswith("reloaded 2 workers")  # migrates again, then the new web
    assert len(app.wait_for(r"migrated", 2)) == 2
    assert app.stop() == 0


def test_an_app_whose_one_shot_role_fails_says_so_and_ends_with_1(apps: Apps) -> None:
    app = apps.start(
        f"{ONE_SHOT}.role('other', './web.py')", migrate="raise ValueError('no such table')", web="print('up')"
    )
    assert app.wait() == 1
    assert (
        "mob | 'web' needs 'migrate', which did not exit with status 0 and is not restarted; the app ends." in app.lines
    )
    assert "ValueError: no such table" in app.output


def test_time_in_which_the_whole_app_stood_still_is_no_boot_time(apps: Apps) -> None:
    slow = """
        import os, time
        print("begins")
        while not os.path.exists("go"):
            time.sleep(0.02)
        """
    app = apps.start('.role("slow", "./slow.py", boot_timeout=5)', slow=slow)
    app.wait_for("begins")
    pids = app.processes()
    for pid in pids:
        freeze(pid)
    time.sleep(6)  # the time that is not to be counted
    (apps.directory / "go").touch()
    for pid in reversed(pids):
        os.kill(pid, signal.SIGCONT)
    app.wait_ready()
    assert "was not ready within" not in app.output


ENVIRONMENT = """
    import os, sys, time, warnings
    def hour(): return time.localtime(0).tm_hour
    def found(): import extra; return extra.VALUE
    def warned():
        try:
            warnings.warn("x", UserWarning)
        except UserWarning:
            return True
    def bytecode(): return sys.dont_write_bytecode
    """


def test_variables_that_the_interpreter_reads_at_its_start_hold_in_a_role(apps: Apps) -> None:
    (apps.directory / "lib").mkdir()
    (apps.directory / "lib" / "extra.py").write_text("VALUE = 7")
    env = {
        "TZ": "JST-9",
        "PYTHONPATH": str(apps.directory / "lib"),
        "PYTHONWARNINGS": "error",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    roles = f'.role("a", "./a.py", env={env!r}).role("b", "./a.py")'
    app = apps.start(roles, a=ENVIRONMENT, env={"TZ": "UTC0"})
    client = app.wait_ready()
    a, b = client.require("a"), client.require("b")
    assert (a.hour().result(patient(20)), b.hour().result(patient(20))) == (9, 0)
    assert a.found().result(patient(20)) == 7
    assert a.warned().result(patient(20)) is True
    assert a.bytecode().result(patient(20)) is True


def test_a_variable_that_a_preloaded_library_has_read_already_is_refused(apps: Apps) -> None:
    pytest.importorskip("numpy")
    roles = '.preload("numpy").role("a", "./a.py", env={"OPENBLAS_NUM_THREADS": "1"}).role("b", "./a.py")'
    app = apps.start(roles, a="def f(): return 1")
    app.wait_for(r"ValueError: env=\{'OPENBLAS_NUM_THREADS': '1'\} comes too late: \S*openblas\S* reads it when")
    assert app.connect().require("b").f().result(patient(20)) == 1


def test_a_role_file_that_imports_from_its_package_is_told_how_to_name_it(apps: Apps) -> None:
    package = apps.directory / "shop"
    package.mkdir()
    (package / "helper.py").write_text("VALUE = 7")
    (package / "front.py").write_text("from .helper import VALUE\ndef f(): return VALUE")
    app = apps.start('.role("front", "./shop/front.py")')
    hint = r"ImportError: attempted relative import with no known parent package\. "
    app.wait_for(
        hint + r"Name a role that belongs to a package by its import string: \.role\(\"front\", \"shop\.front\"\)\.$"
    )
    named = apps.start('.role("front", "shop.front")')
    assert named.connect().require("front").f().result(patient(20)) == 7


def test_a_role_file_in_the_base_that_is_a_package_itself_is_told_the_base(apps: Apps) -> None:
    app = apps.start('.role("front", "./front.py")', front="from . import helper", helper="")
    name = apps.directory.name
    app.wait_for(
        rf"to a package by its import string: .*{name}\.front\"\), with \.base\('{apps.directory.parent}'\)\.$"
    )


def test_a_role_file_that_hides_a_module_is_named_at_the_start(apps: Apps) -> None:
    app = apps.start('.role("jobs", "./psutil.py")', psutil="def f(): return 1")
    app.wait_ready()
    app.wait_for(r"mob: the file of role 'jobs', .*/psutil\.py, hides the module 'psutil' at .*Rename the file")


def test_a_role_file_that_is_called_like_a_module_of_the_standard_library_hides_it_from_roles_only(apps: Apps) -> None:
    """mob itself needs the module `queue`."""
    user = "import queue\ndef f(): queue.SimpleQueue().put(1); return 2"
    roles = '.role("queue", "./queue.py").role("user", "./user.py")'
    app = apps.start(roles, queue="def f(): return 1", user=user)
    client = app.wait_ready(2)
    app.wait_for(r"mob: the file of role 'queue', .*/queue\.py, hides the module 'queue' of the standard library")
    assert [client.require(role).f().result(patient(20)) for role in ("queue", "user")] == [1, 2]


def test_an_export_that_is_called_as_a_method_of_proxies_is_named(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back="def options(): return 1\ndef map(): return 2")
    client = app.wait_ready()
    app.wait_for(r"the export 'options' cannot be called as back\.options\(\), because proxies have a method 'options'")
    assert client.any("back").call.options().result(patient(20)) == 1
    assert client.require("back").map().result(patient(20)) == 2
    assert "the export 'map'" not in app.output


RELEASE = """\
import os
import helper
def release(): return RELEASE
def parts(): return [RELEASE, helper.RELEASE, os.path.basename(os.path.realpath("."))]
"""


def write_release(directory: Path, number: int) -> Path:
    """Writes a release of an app, whose code knows its number only."""
    place = directory / f"r{number}"
    place.mkdir()
    (place / "a.py").write_text(f"RELEASE = {number}\n{RELEASE}")
    (place / "helper.py").write_text(f"RELEASE = {number}\n")
    return place


def put_into_service(directory: Path, place: str) -> None:
    """Points `current` to a release, in one step, as deployment tools do."""
    (directory / "next").symlink_to(place)
    (directory / "next").replace(directory / "current")


def start_current(apps: Apps, how: str, preload: str = "") -> RunningApp:
    root, name = apps.directory, f"t-current-{os.getpid()}"
    for number in (1, 2):
        main = f"import mob\nmob.start({name!r}).base(__file__){preload}.role('a', './a.py').run()\n"
        (write_release(root, number) / "main.py").write_text(main)
    put_into_service(root, "r1")
    commands = {
        "cd": f"cd {root}/current; exec {sys.executable} main.py",
        "mob run": f"cd {root}/current; exec {sys.executable} -m mob run main.py",
        "path": f"cd /; exec {sys.executable} {root}/current/main.py",
        "relative": f"cd {root}; exec {sys.executable} current/main.py",
    }
    return apps.run(name, ["bash", "-c", commands[how]])


@pytest.mark.parametrize("how", ["cd", "mob run", "path", "relative"])
def test_a_reload_runs_the_release_that_current_points_to(apps: Apps, how: str) -> None:
    app = start_current(apps, how)
    client = app.connect()
    assert client.require("a").release().result(patient(30)) == 1
    put_into_service(apps.directory, "r2")
    client.reload()
    parts = client.require("a").parts().result(patient(20))
    assert parts[:2] == [2, 2]
    assert parts[2] == "r2" or how in ("path", "relative")  # those work in another directory


def test_a_preload_is_of_the_release_that_current_points_to(apps: Apps) -> None:
    app = start_current(apps, "cd", ".preload('helper')")
    client = app.connect()
    assert client.require("a").parts().result(patient(30)) == [1, 1, "r1"]
    put_into_service(apps.directory, "r2")
    client.reload()
    assert client.require("a").parts().result(patient(20)) == [2, 2, "r2"]


def test_an_upgrade_runs_the_main_script_of_the_release_that_current_points_to(apps: Apps) -> None:
    app = start_current(apps, "cd")
    client = app.connect()
    assert client.require("a").release().result(patient(30)) == 1
    main = apps.directory / "r2" / "main.py"
    main.write_text(main.read_text().replace(".run()", ".role('b', './a.py').run()"))
    put_into_service(apps.directory, "r2")
    client.upgrade()
    again = app.connect()
    assert again.require("b").parts().result(patient(20)) == [2, 2, "r2"]
    again.reload()
    assert again.require("a").parts().result(patient(20)) == [2, 2, "r2"]


def test_an_upgrade_needs_no_directory_for_temporary_files(apps: Apps) -> None:
    name = f"t-upgrade-{os.getpid()}"
    main = f"""
        import tempfile
        import mob
        def refuse(*args, **options):
            raise FileNotFoundError(2, "No usable temporary directory found")
        tempfile.TemporaryFile = tempfile.mkstemp = refuse
        mob.start({name!r}).base(__file__).role("a", "./a.py").run()
        """
    apps.write(main=main, a="def f(): return 1")
    app = apps.run(name, [sys.executable, "main.py"])
    app.wait_ready().upgrade()
    app.wait_for(r"the new Kingpin took over 1 mobster")
    assert app.connect().require("a").f().result(patient(20)) == 1


def test_an_upgrade_that_cannot_be_rehearsed_is_answered(apps: Apps) -> None:
    name = f"t-upgrade-{os.getpid()}"
    main = f"""
        import mob
        from mob.rim import places
        make = places.unnamed_file
        def refuse(size=0):
            if size:
                return make(size)  # the board
            raise OSError(28, "No space left on device")
        places.unnamed_file = refuse
        mob.start({name!r}).base(__file__).role("a", "./a.py").run()
        """
    apps.write(main=main, a="def f(): return 1")
    app = apps.run(name, [sys.executable, "main.py"])
    client = app.wait_ready()
    with pytest.raises(mob.MobError, match=r"its rehearsal could not start: .*No space left on device"):
        client.upgrade()
    assert client.require("a").f().result(patient(20)) == 1


def test_a_hangup_that_is_ignored_at_the_start_stays_ignored(apps: Apps) -> None:
    name = f"t-nohup-{os.getpid()}"
    main = f"import mob\nmob.start({name!r}).base(__file__).role('a', './a.py').run()"
    code = "import signal\ndef hangup(): return signal.getsignal(signal.SIGHUP) == signal.SIG_IGN"
    apps.write(main=main, a=code)
    app = apps.run(name, ["nohup", sys.executable, "main.py"])
    client = app.wait_ready()
    app.signal(signal.SIGHUP)
    app.signal(signal.SIGUSR1)  # opens the log again: heard after the other
    assert client.require("a").hangup().result(patient(20)) is True
    assert client.reload().startswith("reloaded 1 worker")
    assert len(app.wait_for(r"mob \| reloading")) == 1


def test_an_interrupt_that_is_ignored_at_the_start_stays_ignored_in_workers_too(apps: Apps) -> None:
    name = f"t-background-{os.getpid()}"
    main = f"import mob\nmob.start({name!r}).base(__file__).role('a', './a.py').run()"
    code = "import signal\ndef interrupt(): return signal.getsignal(signal.SIGINT) == signal.SIG_IGN"
    apps.write(main=main, a=code)
    app = apps.run(name, ["bash", "-c", f"trap '' INT; exec {sys.executable} main.py"])
    client = app.wait_ready()
    app.signal(signal.SIGINT)
    assert client.require("a").interrupt().result(patient(20)) is True
    assert app.stop() == 0


def test_a_frozen_program_is_told_that_it_cannot_be_an_app(apps: Apps) -> None:
    main = """
        import sys
        import mob
        sys.frozen = True
        mob.start("frozen").base(__file__).role("a", "./a.py").run()
        """
    app = apps.run("frozen", [sys.executable, str(apps.write(main=main, a="") / "main.py")])
    assert app.wait() == 1
    assert "mob starts Python interpreters, and this program is frozen (PyInstaller, cx_Freeze, Nuitka)" in app.output
