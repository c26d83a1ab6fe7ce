"""The error of a call that was lost says how its worker died, which only the Kingpin knows, and is not late for it."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator

import pytest

import mob
from tests.patience import PATIENCE
from tests.running import RunningApp, apps_in, freeze, mob_command, wait_until

BACK = """
    import os
    import signal
    import sys
    import time
    import mob

    def pid():
        return os.getpid()

    def crash(signum):
        os.kill(os.getpid(), signum)
        time.sleep(60)

    def leave(status):
        os._exit(status)

    def leave_by_hand(status):
        os._exit(status)

    def leave_on_the_loop(status):
        os._exit(status)

    def leave_unseen(status):
        os._exit(status)

    async def wait():
        import asyncio
        await asyncio.sleep(60)

    def hang():
        time.sleep(60)

    def rows():
        os._exit(5)
        yield 1
    """
FRONT = """
    import mob

    back = mob.require("back")

    def by_hand():
        return str(back.leave_by_hand(7).exception())

    async def on_the_loop():
        try:
            await back.leave_on_the_loop(8)
        except mob.Lost as error:
            return str(error)
    """


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("lost")) as apps:
        yield apps.start(
            ".role('back', './back.py', intensity=None).role('hangs', './back.py', hang_timeout=1)"
            ".role('front', './front.py')",
            back=BACK,
            front=FRONT,
        )


@pytest.fixture(scope="module")
def client(app: RunningApp) -> mob.Client:
    return app.wait_ready()


def lost(call: mob.Call) -> mob.Lost:
    error = call.exception(PATIENCE)
    assert isinstance(error, mob.Lost)
    assert error.executed == "maybe"
    return error


@pytest.mark.parametrize(
    ("export", "argument", "how"),
    [
        ("crash", signal.SIGSEGV, r"was killed by SIGSEGV \(signal 11\); see `mob crashes NAME`"),
        ("crash", signal.SIGKILL, r"was killed by SIGKILL(, .*)? \(signal 9\); see `mob crashes NAME`"),
        ("leave", 3, r"exited with status 3; see `mob crashes NAME`"),
        ("leave", 0, r"ended by itself \(exit status 0\)"),
    ],
)
def test_an_exit_is_said(app: RunningApp, client: mob.Client, export: str, argument: int, how: str) -> None:
    back = client.require("back")
    pid = back.pid().result(PATIENCE)
    text = str(lost(getattr(back, export)(int(argument))))
    how = how.replace("NAME", app.name)
    assert re.fullmatch(rf"back\.{export} was lost: back\.0 \(pid {pid}\) {how}\.", text)
    if (named := re.search("`mob (crashes) (.*)`", text)) is not None:
        wait_until(lambda: f"pid {pid}" in mob_command(app.directory, *named.groups()).stdout, "the command shows it")


def test_a_stream_says_it_too(app: RunningApp, client: mob.Client) -> None:
    error = lost(client.require("back").rows())
    assert re.search(
        rf"back\.rows was lost: back\.0 \(pid \d+\) exited with status 5; see `mob crashes {app.name}`", str(error)
    )


def test_a_hang_is_said(client: mob.Client) -> None:
    text = str(lost(client.require("hangs").hang()))
    assert re.search(
        r"hangs\.0 \(pid \d+\) was killed by mob because it hangs: .*hang_timeout=\d+\); see `mob cr", text
    )


@pytest.mark.parametrize(("way", "status"), [("by_hand", 7), ("on_the_loop", 8)])
def test_a_mobster_that_waits_learns_it(app: RunningApp, client: mob.Client, way: str, status: int) -> None:
    text = getattr(client.require("front"), way)().result(PATIENCE)
    assert re.search(rf"back\.0 \(pid \d+\) exited with status {status}; see `mob crashes {app.name}`", text)


def test_a_kingpin_that_is_stopped_delays_no_error_for_long(app: RunningApp, client: mob.Client) -> None:
    back = client.require("back")
    back.pid().result(PATIENCE)
    freeze(app.process.pid)
    try:
        error = lost(back.leave_unseen(9))
    finally:
        os.kill(app.process.pid, signal.SIGCONT)
    assert re.search(r"back\.0 \(pid \d+\) closed its link before it answered\.$", str(error))


def test_a_call_that_was_given_up_meanwhile_stays_cancelled(app: RunningApp, client: mob.Client) -> None:
    back = client.require("back")
    pid = back.pid().result(PATIENCE)
    call = back.wait()
    freeze(app.process.pid)
    try:
        os.kill(pid, signal.SIGKILL)
        call.cancel()
    finally:
        os.kill(app.process.pid, signal.SIGCONT)
    wait_until(
        lambda: [member.pid for member in app.ready(client, "back")] not in ([], [pid]), "its successor is ready"
    )
    assert call.cancelled()
