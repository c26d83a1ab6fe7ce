"""What ps(1) and `mob ps` show of the processes of an app whose titles are plain."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.patience import PATIENCE
from tests.running import Apps, RunningApp, apps_in, mob_command, wait_until

BACK = """
    import os

    def pid():
        return os.getpid()
    """


@pytest.fixture
def apps(tmp_path: Path) -> Iterator[Apps]:
    with apps_in(tmp_path) as apps:
        yield apps


def shown(app: RunningApp) -> Counter[str]:
    """Return the titles of all processes of an app, but its guardian's."""
    found: Counter[str] = Counter()
    for pid in app.processes():
        try:
            title = " ".join(psutil.Process(pid).cmdline()).strip()  # psutil may split a title at its spaces
        except psutil.Error:
            continue
        found[title] += not title.startswith("guardian")
    return +found


def expected(app: RunningApp, *others: str) -> Counter[str]:
    return Counter([f"{app.name}: supervisor", f"{app.name}: fork server", *(f"{app.name}: {each}" for each in others)])


@pytest.mark.parametrize(("said", "env"), [(".titles()", {}), ("", {"MOB_TITLES": "plain"})])
def test_plain_titles_last_through_deaths_and_an_upgrade(apps: Apps, said: str, env: dict[str, str]) -> None:
    app = apps.start(f'{said}.role("back", "./back.py", workers=2, spare=1)', back=BACK, env=env)
    client = app.connect()
    before = expected(app, "back.0", "back.1", "back.spare")
    wait_until(lambda: shown(app) == before, "all have plain titles")
    header = mob_command(app.directory, "ps", "--app", app.name).stdout.splitlines()[0]
    assert f"supervisor {app.process.pid}" in header
    assert "Kingpin" not in header
    killed = client.require("back").pid().result()
    os.kill(killed, signal.SIGKILL)  # the spare takes its place, and its title
    wait_until(lambda: shown(app) == before and killed not in app.processes(), "the spare is titled as its place")
    states = ["ready", "ready", "spare"]
    wait_until(lambda: sorted(each.state for each in client.members() if each.role) == states, "all three have booted")
    app.signal(signal.SIGUSR2)
    app.wait_for("the new Kingpin took over 3 mobsters")
    wait_until(lambda: shown(app) == before, "the new Kingpin has the same title")


def test_the_environment_overrides_the_main_script(apps: Apps) -> None:
    app = apps.start('.titles("plain").role("back", "./back.py")', back=BACK, env={"MOB_TITLES": "mob"})
    app.connect()
    names = [f"{app.name} (kingpin)", f"{app.name} (fork server)", f"{app.name} - back (mobster)"]
    wait_until(lambda: shown(app) == Counter(names), "all have the usual titles")


def test_an_unknown_style_is_refused(apps: Apps) -> None:
    app = apps.start('.titles("simple").role("back", "./back.py")', back=BACK)
    app.wait_for(r"PlanError: titles\('simple'\): unknown style. There are: 'mob', 'plain'.")
    assert app.process.wait(PATIENCE) == 1
