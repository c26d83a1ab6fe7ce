"""`mob run --watch`: saving a file reloads; a broken file is reported and changes nothing; saving it again recovers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

import mob
from mob.cli.main import main
from mob.cli.watch import is_of_the_app
from tests.patience import patient
from tests.running import Apps, RunningApp, is_alive, wait_until

MAIN = """
    import sys
    import mob
    print("arguments:", sys.argv[1:])
    mob.start("NAME").base(__file__).role("back", "./back.py", workers=2).run()
    """


def start(apps: Apps, *options: str) -> RunningApp:
    name = f"t-watch-{os.getpid()}"
    apps.write(main=MAIN.replace("NAME", name), back="def version(): return 1", helper="")
    return apps.run(name, [sys.executable, "-m", "mob", "run", *options])


def versions(client: mob.Client) -> set[int]:
    """What the two workers answer, in turn."""
    back = client.require("back")
    return {back.version().result(patient(10)) for _ in range(4)}


def watcher_of(app: RunningApp) -> int:
    children = psutil.Process(app.process.pid).children()
    return next(child.pid for child in children if "mob.cli.watch" in child.cmdline())


def test_saving_reloads_and_a_mistake_changes_nothing(apps: Apps) -> None:
    app = start(apps, "main.py", "--watch", "--some", "thing")
    app.wait_for(r"arguments: \['--some', 'thing'\]")
    client = app.wait_ready()
    app.wait_for(r"mob \| watching \. for changes")
    apps.write(back="def version(): return 2")  # as long as before, and within the same second
    app.wait_for(r"mob \| back\.py changed\.")
    app.wait_for(r"mob \| reloaded 2 workers")
    wait_until(lambda: versions(client) == {2}, "both have the new code")
    apps.write(back="def version(: return 3")
    app.wait_for(r"SyntaxError")
    app.wait_for(r"reload failed; the old workers keep running")
    assert versions(client) == {2}
    apps.write(back="def version(): return 4")
    wait_until(lambda: versions(client) == {4}, "saving again has healed it")


def test_modules_beside_the_roles_are_watched_and_other_files_are_not(apps: Apps) -> None:
    package = apps.directory / "package"
    package.mkdir()
    app = start(apps, "--watch", "main.py")
    client = app.wait_ready()
    app.wait_for(r"mob \| watching")
    (apps.directory / "notes.txt").write_text("not code")
    (package / "__init__.py").write_text("")
    app.wait_for(r"mob \| package/__init__\.py changed")
    app.wait_for(r"mob \| reloaded 2 workers")
    assert "notes.txt" not in app.output
    assert versions(client) == {1}


def test_several_files_that_are_saved_together_are_one_reload(apps: Apps) -> None:
    app = start(apps, "--watch", "main.py")
    app.wait_ready()
    app.wait_for(r"mob \| watching")
    apps.write(back="def version(): return 22", helper="x = 1")
    app.wait_for(r"mob \| back\.py, helper\.py changed\.")
    app.wait_for(r"mob \| reloaded 2 workers")
    assert len(app.wait_for(r"mob \| reloading")) == 1


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_the_watcher_ends_with_the_kingpin(apps: Apps, signum: int) -> None:
    app = start(apps, "--watch", "main.py")
    app.wait_ready()
    app.wait_for(r"mob \| watching")
    watcher = watcher_of(app)
    app.processes()
    app.signal(signum)
    app.process.wait(patient(30))
    wait_until(lambda: not is_alive(watcher), "the watcher exited")
    app.wait_gone()


def test_the_app_goes_on_without_its_watcher(apps: Apps) -> None:
    app = start(apps, "--watch", "main.py")
    client = app.wait_ready()
    app.wait_for(r"mob \| watching")
    watcher = watcher_of(app)
    os.kill(watcher, signal.SIGKILL)
    wait_until(lambda: not psutil.pid_exists(watcher), "it exited and was reaped")
    app.wait_for(r"mob \| the watcher exited: changed files no longer cause a reload\. Restart the app")
    assert versions(client) == {1}
    assert app.stop() == 0
    assert "Traceback" not in app.output


def test_the_end_of_the_watcher_is_no_news_at_a_stop(apps: Apps) -> None:
    app = start(apps, "--watch", "main.py")
    app.wait_ready()
    app.wait_for(r"mob \| watching")
    assert app.stop() == 0
    app.wait_gone()
    assert "the watcher exited" not in app.output


def test_what_is_written_into_environments_and_caches_reloads_nothing(apps: Apps) -> None:
    places = ["env/lib/site-packages/new", "conda/lib", ".ruff_cache", "vendor/site-packages"]
    for place in places:
        (apps.directory / place).mkdir(parents=True)
    (apps.directory / "env" / "pyvenv.cfg").touch()
    (apps.directory / "conda" / "conda-meta").mkdir()
    app = start(apps, "--watch", "main.py")
    app.wait_ready()
    app.wait_for(r"mob \| watching")
    for place in places:
        (apps.directory / place / "module.py").touch()
    apps.write(helper="x = 2")  # the changes come in the order in which they were made
    app.wait_for(r"mob \| .*helper\.py.* changed\.")
    assert [line for line in app.lines if "module.py" in line] == []


def test_an_app_that_lies_in_an_environment_itself_is_watched(tmp_path: Path) -> None:
    (tmp_path / "pyvenv.cfg").touch()
    base = tmp_path / ".cache" / "app"
    base.mkdir(parents=True)
    assert is_of_the_app(str(base), str(base / "shop" / "cart.py"))
    assert not is_of_the_app(str(tmp_path), str(base / "shop" / "cart.py"))


def test_without_watchfiles_it_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    script = tmp_path / "main.py"
    script.write_text("print('is run')")
    shown = CliRunner().invoke(main, ["run", str(script), "--watch"])
    assert shown.exit_code == 1
    assert shown.output == (
        "Error: --watch needs the package watchfiles, which is not installed. Install it with "
        "`pip install 'mobsters[dev]'`, or run without --watch and reload with `mob reload`.\n"
    )


def test_nobody_who_does_not_watch_imports_watchfiles() -> None:
    code = "import sys, mob.cli.main, mob.cli.run; sys.exit('watchfiles' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=patient(60), check=False).returncode == 0
