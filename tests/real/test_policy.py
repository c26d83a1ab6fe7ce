"""Which workers are restarted, and how often; what happens when a role gives up; roles that need each other."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

import mob
from mob.cli.main import main
from tests.patience import patient
from tests.running import Apps, RunningApp, apps_in, wait_until

BACK = """
    import os, mob

    def pid():
        return os.getpid()

    async def leave(status):
        mob.exit(status)

    def crash():
        os.kill(os.getpid(), 9)
    """


def row(client: mob.Client, role: str, index: int = 0) -> Any:
    """Return the line of `mob ps` for a place."""
    return next(row for row in client.overview() if (row.role, row.index) == (role, index))


def wait_state(client: mob.Client, role: str, state: str) -> Any:
    """Wait until place 0 of a role is shown in that state; return the line."""
    return wait_until(
        lambda: row(client, role) if row(client, role).state == state else None,
        f"{role}.0 is {state}; it is {row(client, role)}",
    )


def mob_command(app: RunningApp, *arguments: str) -> Result:
    """Run a command of `mob` here, as a person would."""
    return CliRunner(env={"XDG_STATE_HOME": str(app.directory / "state")}).invoke(main, arguments)


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    """An app in which each policy has a role."""
    with apps_in(tmp_path_factory.mktemp("policy")) as apps:
        roles = """.role("permanent", "./back.py")\\
            .role("transient", "./back.py", restart="transient")\\
            .role("temporary", "./back.py", restart="temporary")\\
            .role("codes", "./back.py", stop_exit_codes=[3])\\
            .role("limited", "./back.py", intensity=1, period=60)\\
            .role("other", "./back.py")"""
        app = apps.start(roles, back=BACK)
        app.wait_ready()
        yield app


def leave(app: RunningApp, client: mob.Client, role: str, status: int) -> int:
    """Have the worker of a role end with this status; return its pid."""
    (old,) = (member.pid for member in app.ready(client, role))
    client.require(role).leave(status)
    wait_until(lambda: old not in [member.pid for member in client.members()], f"{role}.0 is gone")
    return int(old)


@pytest.mark.parametrize(
    ("role", "status"), [("permanent", 0), ("permanent", 1), ("transient", 1), ("codes", 1), ("codes", 0)]
)
def test_it_is_revived(several: RunningApp, role: str, status: int) -> None:
    client = several.connect()
    wait_until(lambda: several.ready(client, role), "it is ready")
    old = leave(several, client, role, status)
    assert client.require(role).pid().result(patient(20)) != old


@pytest.mark.parametrize(("role", "status"), [("transient", 0), ("temporary", 1), ("codes", 3)])
def test_it_is_not_revived_until_somebody_reloads_it(several: RunningApp, role: str, status: int) -> None:
    client = several.connect()
    wait_until(lambda: several.ready(client, role), "it is ready")
    old = leave(several, client, role, status)
    wait_state(client, role, "empty")
    policy = "permanent" if role == "codes" else role
    several.wait_for(
        rf"mob \| {role}\.0 \(pid {old}\) .*(status {status}|told).*; it is not restarted \(restart='{policy}'\)\."
    )
    assert mob_command(several, "reload", role, "-a", several.name).stdout.startswith("reloaded 1 worker in")
    assert client.require(role).pid().result(patient(20)) != old


def test_a_role_that_fails_too_often_is_given_up(several: RunningApp) -> None:
    client = several.connect()
    limited = client.require("limited")
    for _ in range(2):
        with pytest.raises(mob.Lost):
            limited.crash().result(patient(20))
    shown = wait_state(client, "limited", "failed")
    assert shown.note == "was killed by SIGKILL"
    several.wait_for(
        r"mob \| limited\.0 \(pid \d+\) was killed by SIGKILL; 'limited' is given up: too many restarts "
        r"\(more than intensity=1 within period=60 s\)\."
    )
    assert "failed" in mob_command(several, "ps", "-a", several.name).stdout
    with pytest.raises(mob.Unavailable, match=r"the role 'limited' was given up.*was killed by SIGKILL") as failed:
        limited.pid().result(patient(5))
    assert failed.value.executed == "no"
    assert client.require("other").pid().result(patient(5))  # the others go on
    reloaded = mob_command(several, "reload", "limited", "-a", several.name)
    assert reloaded.exit_code == 0, reloaded.output
    assert limited.pid().result(patient(20))
    with pytest.raises(mob.Lost):  # and it has its restarts again
        limited.crash().result(patient(20))
    assert limited.pid().result(patient(20))


def test_a_call_that_waits_when_its_role_is_given_up_fails_at_once(apps: Apps) -> None:
    app = apps.start(
        '.role("back", "./back.py", intensity=1).role("other", "./other.py")',
        back="import time\ntime.sleep(0.3)\nraise ValueError('no such table')",
        other="",
    )
    client = app.connect()
    with pytest.raises(mob.Unavailable, match=r"'back' was given up.*ValueError: no such table"):
        client.require("back").foo().result(patient(20))
    wait_state(client, "back", "failed")
    with pytest.raises(mob.Unavailable, match="was given up"):
        client.require("back").foo().result(patient(5))


def test_an_essential_role_ends_the_app(apps: Apps) -> None:
    roles = '.role("back", "./back.py", essential=True, intensity=0).role("other", "./back.py")'
    app = apps.start(roles, back=BACK)
    app.wait_ready().require("back").crash()
    assert app.wait() == 1
    app.wait_gone()
    assert "mob | 'back' is essential, so the app ends." in app.lines


def test_an_app_whose_roles_have_all_failed_ends_with_1(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py", intensity=0)', back="1 / 0")
    assert app.wait() == 1


def test_an_app_of_which_only_those_are_left_that_wait_for_others_ends(apps: Apps) -> None:
    roles = '.role("base", "./base.py", restart="temporary").role("top", "./top.py", needs=["base"])'
    app = apps.start(roles, base="import sys; sys.exit(1)", top="print('never')")
    assert app.wait() == 1
    assert "never" not in app.output


def test_an_app_whose_roles_are_done_ends_with_0(apps: Apps) -> None:
    roles = """.role("once", "./once.py", restart="temporary", workers=2)\\
        .role("after", "./once.py", restart="transient", needs=["once"])"""
    app = apps.start(roles, once="import sys, mob\nmob.on('ready', lambda: sys.exit(0))")
    assert app.wait() == 0
    app.wait_gone()
    assert app.lines[-1] == "mob | all workers exited and none is to be restarted; the app ends."


def test_roles_start_after_those_that_they_need_and_stop_before_them(apps: Apps) -> None:
    module = """
        import mob
        print("begins:", mob.me().role)
        mob.on("start", lambda: print("starts:", mob.me().role))
        mob.on("stop", lambda: print("stops:", mob.me().role))
        """
    roles = """.role("third", "./a.py", needs=["second"])\\
        .role("second", "./b.py", needs=["first"])\\
        .role("first", "./c.py", workers=2)"""
    app = apps.start(roles, a=module, b=module, c=module)
    app.wait_ready(4)
    app.wait_for("starts: third")
    assert app.stop() == 0
    order = [line.partition("| ")[2] for line in app.lines]
    assert order.index("starts: first") < order.index("begins: second")
    assert order.index("starts: second") < order.index("begins: third")
    stops = [line.removeprefix("stops: ") for line in order if line.startswith("stops")]
    assert stops == ["third", "second", "first", "first"]


def test_a_role_that_waits_for_another_says_so(apps: Apps) -> None:
    roles = '.role("base", "./base.py").role("top", "./top.py", needs=["base"])'
    app = apps.start(roles, base="import time; time.sleep(1000)", top="print('never')")
    client = app.connect()
    assert wait_state(client, "top", "held").note == "waits for base"
    assert app.stop() == 0
    assert "never" not in app.output


def test_rest_for_one_starts_the_later_roles_anew(apps: Apps) -> None:
    roles = '.role("one", "./back.py").role("two", "./back.py").role("three", "./back.py")'
    app = apps.start(roles, options='strategy="rest_for_one"', back=BACK)
    client = app.wait_ready()
    before = {member.role: member.pid for member in app.ready(client)}
    os.kill(before["two"], signal.SIGKILL)

    def now() -> dict[str, int]:
        return {member.role: member.pid for member in app.ready(client)}

    wait_until(
        lambda: len(now()) == 3 and now()["two"] != before["two"] and now()["three"] != before["three"],
        "the second and the third are others",
    )
    assert now()["one"] == before["one"]
    app.wait_for(rf"mob \| three\.0 \(pid {before['three']}\) stopped as requested; restarting it\.")
    assert client.require("three").pid().result(patient(20)) == now()["three"]
