"""The Kingpin raises the shell's limit of open files; workers begin with the limit with which the app started."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Iterator

import pytest

from tests.patience import patient
from tests.running import Apps, RunningApp, apps_in

BACK = """
import os, resource, subprocess, sys

def limits():
    return resource.getrlimit(resource.RLIMIT_NOFILE), os.environ.get("MOB_OPEN_FILES")

def limits_of_a_child():
    code = "import resource; print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
"""


def start_with(apps: Apps, limit: str, workers: int) -> RunningApp:
    """Start an app from a shell that set a limit."""
    apps.write(back=BACK)
    name = f"t{os.getpid()}-files-{workers}"
    main = f'import mob\n\nmob.start({name!r}).base(__file__).role("back", "./back.py", workers={workers}).run()\n'
    (apps.directory / "main.py").write_text(main)
    return apps.run(name, ["sh", "-c", f'ulimit {limit}; exec "$0" main.py', sys.executable])


@pytest.fixture
def apps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apps]:
    with apps_in(tmp_path_factory.mktemp("files")) as apps:
        yield apps


def test_the_kingpin_raises_its_limit_and_workers_have_the_old_one(apps: Apps) -> None:
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft = min(before, 512)
    app = start_with(apps, f"-S -n {soft}", workers=1)
    client = app.wait_ready()
    assert resource.prlimit(app.process.pid, resource.RLIMIT_NOFILE)[0] > soft or hard == soft
    back = client.require("back")
    assert back.limits().result(patient(20)) == [[soft, hard], None]
    assert back.limits_of_a_child().result(patient(20)) == [str(soft), str(hard)]
    app.signal(signal.SIGUSR2)  # an upgrade
    app.wait_for("the new Kingpin took over|the Kingpin of .* runs new code")
    client.reload("back")
    assert back.limits().result(patient(20)) == [[soft, hard], None]


def test_a_hard_limit_that_is_too_small_is_told_at_the_start(apps: Apps) -> None:
    app = start_with(apps, "-n 110", workers=5)
    app.wait_for(
        r"mob \| the Kingpin needs up to 128 open files for 5 workers, and the hard limit is 110\. Some may not start\."
    )
