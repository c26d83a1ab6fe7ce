"""`mob jobs`: what it lists, and what it does."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

import mob
from tests.patience import PATIENCE
from tests.running import Apps, RunningApp, mob_command, wait_until

BACK = """
import asyncio, os
import mob

def fail(text):
    raise ValueError(text)

async def wait(n):
    while not os.path.exists("go"):
        await asyncio.sleep(0.01)
    return n

@mob.on("message")
def hear(obj): pass
"""


def start(apps: Apps, more: str = ".queue('jobs.db')") -> tuple[RunningApp, mob.Client]:
    app = apps.start(f'.role("back", "./back.py"){more}', back=BACK)
    return app, app.wait_ready()


def ran(app: RunningApp, *arguments: str) -> subprocess.CompletedProcess[str]:
    return mob_command(app.directory, "jobs", *arguments, "-a", app.name)


def listed(app: RunningApp, *arguments: str) -> list[dict[str, Any]]:
    return list(json.loads(ran(app, "--json", *arguments).stdout))


def jobs_of_all_kinds(client: mob.Client) -> dict[str, mob.Job[Any]]:
    back = client.require("back").options(durable=True)
    made = {
        "dead": back.options(retries=0).fail("not\x1b[2Jtoday"),
        "running": back.wait(1),
        "later": back.options(delay=3600, key="k", priority=3).wait(2),
    }
    for job in made.values():
        job.stored.result(PATIENCE)
    for state, job in made.items():
        wait_until(lambda job=job, state=state: job.status().result(PATIENCE) == state, f"one is {state}")
    return made


def test_it_lists_what_waits_runs_and_is_dead(apps: Apps) -> None:
    app, client = start(apps)
    made = jobs_of_all_kinds(client)
    shown = ran(app)
    assert shown.returncode == 0
    text = shown.stdout
    assert made["dead"].id in text
    assert "ValueError: not" in text
    assert "\x1b[2J" not in text
    assert "at back.0" in text
    narrow = mob_command(app.directory, "jobs", "-a", app.name, COLUMNS="80").stdout
    assert "\n   ValueError: not" in narrow
    assert "\n   at back.0\n" in narrow
    assert "…" not in narrow
    assert "key k; priority 3" in text
    assert "back: 1 later, 1 running, 1 dead. 0 done since the queue started." in text
    assert [(row["id"], row["state"], row["job"]) for row in listed(app)] == [
        (job.id, state, "back.fail" if state == "dead" else "back.wait") for state, job in made.items()
    ]
    assert [row["id"] for row in listed(app, "--state", "dead")] == [made["dead"].id]
    assert [row["id"] for row in listed(app, "--state", "dead", "--state", "later", "--last", "1")] == [made["dead"].id]
    assert "1 job of 3 shown (--last)." in ran(app, "--last", "1").stdout
    assert "shown" not in ran(app, "--state", "dead").stdout
    assert "1 job of 2 shown (--last)." in ran(app, "--state", "dead", "--state", "later", "--last", "1").stdout
    assert len(listed(app, "--role", "back")) == 3
    assert "this app has no role 'bakc'" in ran(app, "--role", "bakc").stderr


def test_it_tries_again_and_drops(apps: Apps) -> None:
    app, client = start(apps)
    made = jobs_of_all_kinds(client)
    assert ran(app, "retry", made["dead"].id).stdout == "1 job tried again.\n"
    wait_until(lambda: made["dead"].status().result(PATIENCE) == "dead", "it has failed again")
    refused = ran(app, "retry", made["running"].id, "nope")
    assert refused.returncode == 1
    why = "no such job, or it is done, is running, or another job has its key"
    assert f"not tried again: {made['running'].id}, nope ({why})." in refused.stderr
    assert ran(app, "retry", "all").stdout == "1 job tried again.\n"
    assert ran(app, "drop", made["later"].id, made["running"].id).stdout == "2 jobs dropped.\n"
    wait_until(lambda: made["dead"].status().result(PATIENCE) == "dead", "it has failed again")
    assert "requires --state or --role" in ran(app, "drop", "all").stderr
    assert ran(app, "drop", "all", "--state", "dead").stdout == "1 job dropped.\n"
    assert listed(app) == []
    assert ran(app).stdout == "no jobs. 0 done since the queue started.\n"


def test_an_app_without_jobs_says_so(apps: Apps) -> None:
    app, _ = start(apps, "")
    assert ran(app).stdout == f"{app.name} has no durable jobs. Calls made with options(durable=True) create them.\n"
    assert listed(app) == []
    assert f"{app.name} has no durable jobs." in ran(app, "retry", "x").stderr


def test_words_that_make_no_sense(apps: Apps) -> None:
    app, _ = start(apps, "")
    assert "no job given. Use `mob jobs retry ID`" in ran(app, "retry").stderr
    assert "expected at most one app, got 2 words" in ran(app, "a", "b").stderr


def test_jobs_are_measured(apps: Apps) -> None:
    app, client = start(apps)
    made = jobs_of_all_kinds(client)

    def measured() -> dict[str, float]:
        lines = mob_command(app.directory, "metrics", "-a", app.name).stdout.splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line.startswith("queue_")}

    wanted = {f'queue_jobs{{role="queue",of="back",state="{state}"}}' for state in made}
    wait_until(lambda: all(measured().get(each) == 1 for each in wanted), f"they are counted: {measured()}")
    (keeper,) = (row for row in client.overview() if row.role == "queue")
    assert keeper.note == "1 later, 1 running, 1 dead"
    assert "1 later, 1 running, 1 dead" in mob_command(app.directory, "ps", app.name).stdout
    (app.directory / "go").touch()
    made["running"].result(PATIENCE)
    name = 'queue_attempts_total{role="queue",of="back",outcome="%s"}'
    wait_until(lambda: measured().get(name % "done") == 1, "it is counted")
    assert measured()[name % "dead"] == 1
    wait_until(lambda: measured()['queue_jobs{role="queue",of="back",state="running"}'] == 0, "none runs")


def test_a_client_lists_them(apps: Apps) -> None:
    _, client = start(apps)
    assert client.jobs() == ()
    made = jobs_of_all_kinds(client)
    assert {row.id: row.state for row in client.jobs()} == {job.id: state for state, job in made.items()}
    (dead,) = client.jobs(state="dead", role="back")
    assert (dead.id, dead.job, dead.attempts, dead.error) == (
        made["dead"].id,
        "back.fail",
        1,
        "ValueError: not\x1b[2Jtoday",
    )
    assert [row.state for row in client.jobs(state=["running", "later"])] == ["running", "later"]
    assert len(client.jobs(most=2)) == 2
    with pytest.raises(ValueError, match=r"jobs have no state 'daed'\. Did you mean 'dead'\?"):
        client.jobs(state="daed")
    with pytest.raises(mob.UnknownRole, match="no role 'bakc'"):
        client.jobs(role="bakc")


def test_an_app_without_a_keeper_has_none_to_list(apps: Apps) -> None:
    _, client = start(apps, "")
    assert client.jobs() == ()
    assert "queue" not in client.roles()


@pytest.mark.parametrize(("word", "state"), [("failed", "dead"), ("dead", "dead"), ("pending", "waiting")])
def test_a_state_in_the_place_of_an_app_says_the_option(apps: Apps, word: str, state: str) -> None:
    app, _ = start(apps)
    refused = mob_command(app.directory, "jobs", word)
    assert refused.returncode != 0
    assert f"no app named '{word}' is running on this machine." in refused.stderr
    assert f"To list jobs in the state {state}: `mob jobs --state {state}`." in refused.stderr
    assert "--state" not in mob_command(app.directory, "jobs", "nonsense").stderr
