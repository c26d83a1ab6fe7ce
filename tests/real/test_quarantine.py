"""An export that kills its workers is refused, the others of its role go on."""

from __future__ import annotations

import pytest

import mob
from tests.patience import patient
from tests.running import Apps, RunningApp, wait_until

BACK = """
    import os, signal

    def boom():
        signal.raise_signal(signal.SIGSEGV)

    async def boom_later():
        signal.raise_signal(signal.SIGSEGV)

    def pid():
        return os.getpid()
    """


def ended_with(back: mob.Proxy, export: str) -> BaseException:
    """Return how a call of an export that brings no value ended."""
    with pytest.raises((mob.Lost, mob.Quarantined)) as error:
        getattr(back, export)().result(patient(20))
    return error.value


def successors(app: RunningApp, client: mob.Client, known: set[int]) -> set[int]:
    """Return the pids of both workers, once they differ from before."""
    pids = {member.pid for member in app.ready(client)}
    return pids if len(pids) == 2 and pids != known else set()


def is_at_rest(app: RunningApp, client: mob.Client) -> bool:
    """Return True if no mobster runs anything."""
    board = client._peer.context.board
    assert board is not None
    return not any(board.running(member.uid) for member in app.ready(client))


@pytest.mark.parametrize("export", ["boom", "boom_later"])
@pytest.mark.parametrize("threads", [1, 2])
def test_an_export_that_kills_is_refused(apps: Apps, export: str, threads: int) -> None:
    app = apps.start(f'.role("back", "./back.py", workers=2, threads={threads})', back=BACK)
    client = app.wait_ready()
    back = client.require("back")
    deaths: list[mob.Lost] = []
    workers = successors(app, client, set())
    error = ended_with(back, export)
    while isinstance(error, mob.Lost):
        deaths.append(error)
        workers = wait_until(lambda known=workers: successors(app, client, known), "a successor is there")
        client.all("back").call.pid().result(patient(20))  # they know what the Kingpin said about the death
        wait_until(lambda: is_at_rest(app, client), "what they were asked before is put away, and not to be blamed")
        error = ended_with(back, export)
    assert isinstance(error, mob.Quarantined)
    assert {death.executed for death in deaths} == {"maybe"}
    assert len(deaths) == 3
    app.wait_for(rf"mob \| back\.{export} killed 3 workers within 60 s; calls to it are refused for 60 s\.")
    wait_until(lambda: len(app.ready(client)) == 2, "both are ready")
    client.all("back").call.pid().result(patient(20))
    for _ in range(10):
        with pytest.raises(
            mob.Quarantined, match=rf"back\.{export} is in quarantine and was not run: its calls crashed"
        ) as refused:
            getattr(back, export)().result(patient(20))
        assert refused.value.executed == "no"
    assert {back.pid().result(patient(20)) for _ in range(20)} <= {member.pid for member in app.ready(client)}
