"""Work in progress is finished when an app stops: roles that serve end first; no call waits for a role that ended."""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator

import pytest

import mob
from mob.peer.calls.calling import WAIT
from tests.patience import patient
from tests.running import Apps, apps_in, free_port, wait_until

WEB = """
    import asyncio, os
    import mob

    back = mob.require("back")

    async def app(scope, receive, send):
        if scope["type"] != "http":
            return
        print("asked", flush=True)
        while not os.path.exists("stopping"):
            await asyncio.sleep(0.01)
        body = str(await back.double(4)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})
    """
BACK = "def double(number): return 2 * number"
SERVE = '.role("web", "./web.py:app", serve="127.0.0.1:{}")'
BEHIND = '.role("back", "./back.py")'


@pytest.fixture
def apps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apps]:
    with apps_in(tmp_path_factory.mktemp("order")) as apps:
        yield apps


@pytest.mark.parametrize("roles", [SERVE + BEHIND, BEHIND + SERVE])
def test_a_request_in_progress_calls_the_other_roles_to_the_end(apps: Apps, roles: str) -> None:
    port = free_port()
    app = apps.start(roles.format(port), web=WEB, back=BACK)
    app.wait_ready(2)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=patient(60))
    connection.request("GET", "/")
    app.wait_for(r"\| asked")
    app.process.terminate()
    app.wait_for(r"mob \| stopping\.")
    (app.directory / "stopping").touch()
    response = connection.getresponse()
    assert (response.status, response.read()) == (200, b"8")
    connection.close()
    app.wait_gone()
    assert app.process.wait() == 0


LATE = """
    import time
    import mob

    back = mob.require("back")

    @mob.on("stop")
    def ask():
        begun = time.monotonic()
        try:
            back.double(4).result()
        except mob.Unavailable as error:
            print(f"{type(error).__name__} {error.executed}: {error}", flush=True)
        mob.all("back").send("good bye")
        mob.any("back").send("good bye")
        print(f"waited {time.monotonic() - begun:.1f} s", flush=True)
    """


def test_a_call_of_a_role_that_the_stop_has_ended_fails_at_once(apps: Apps) -> None:
    app = apps.start('.role("late", "./late.py").role("back", "./back.py")', late=LATE, back=BACK)
    app.wait_ready(2)
    assert app.stop() == 0
    app.wait_for(r"Unavailable no: back\.double: no worker of 'back' is left: the app is stopping\.")
    (waited,) = [float(found[1]) for line in app.lines if (found := re.search(r"waited ([\d.]+) s", line))]
    assert waited < WAIT / 2


def test_a_call_of_a_role_that_is_done_fails_at_once_until_it_is_reloaded(apps: Apps) -> None:
    roles = '.role("once", "./once.py", restart="temporary").role("back", "./back.py")'
    app = apps.start(roles, once="import mob\ndef end(): mob.exit(0)\ndef one(): return 1", back=BACK)
    app.wait_ready(2)
    client = app.connect()
    once = client.require("once")
    once.end().result(patient(30))
    wait_until(lambda: bool(client.roles()["once"].ended), "it has ended")
    with pytest.raises(
        mob.Unavailable, match=r"once\.one: no worker of 'once' is left: its last worker ended by itself"
    ):
        once.one().result(patient(30))
    client.reload("once")
    assert once.one().result(patient(30)) == 1
