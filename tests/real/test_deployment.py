"""How apps are put into service: one-shot roles, releases behind a symbolic link, nohup, environments, preloading."""

from __future__ import annotations

import os
import signal
import time

from tests.running import Apps, freeze

ONE_SHOT = '.role("migrate", "./migrate.py", restart="temporary").role("web", "./web.py", needs=("migrate",))'


def test_a_role_starts_when_the_one_shot_role_that_it_needs_is_done(apps: Apps) -> None:
    app = apps.start(ONE_SHOT, migrate="print('migrated')\nraise SystemExit(0)", web="def f(): return 'web'")
    client = app.connect()
    assert client.require("web").f().result(30) == "web"
    app.wait_for(r"mob \| migrate\.0 \(pid \d+\) ended by itself \(exit status 0\); it is not revived \(temporary\)\.")
    assert "SystemExit" not in app.output
    assert client.reload().startswith("reloaded 2 workers")  # migrates again, then the new web
    assert len(app.wait_for(r"migrated", 2)) == 2
    assert app.stop() == 0


def test_an_app_whose_one_shot_role_fails_says_so_and_ends_with_1(apps: Apps) -> None:
    app = apps.start(
        f"{ONE_SHOT}.role('other', './web.py')", migrate="raise ValueError('no such table')", web="print('up')"
    )
    assert app.wait() == 1
    assert "mob | 'web' needs 'migrate', which did not end with status 0 and is not revived; the app ends." in app.lines
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
    assert "boot_timeout" not in app.output
