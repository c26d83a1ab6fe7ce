"""The files of durable jobs and of a store are deleted or replaced under a running app: nothing is lost unseen."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

import mob
from tests.patience import PATIENCE
from tests.running import Apps, RunningApp

BACK = "def double(n): return 2 * n"
ROLES = '.role("back", "./back.py").queue("kept/jobs.db").store("cache", file="kept/store.db")'


def start(apps: Apps) -> tuple[RunningApp, mob.Client]:
    (apps.directory / "kept").mkdir()
    app = apps.start(ROLES, back=BACK)
    return app, app.wait_ready()


def store_job(client: mob.Client, n: int) -> mob.Job[int]:
    job = client.require("back").options(durable=True, delay=3600).double(n)
    job.stored.result(PATIENCE)
    return job


def killed_and_started_again(apps: Apps, app: RunningApp) -> mob.Client:
    app.kill()
    app.wait_gone()
    return apps.run(app.name, [sys.executable, "main.py"]).wait_ready()


def delete(kept: Path, what: str) -> None:
    if what == "directory":
        shutil.rmtree(kept)
    else:
        for name in ("jobs.db", "store.db"):
            os.unlink(kept / f"{name}{what}")


@pytest.mark.parametrize("what", ["", "-wal", "directory"])
def test_what_was_acknowledged_outlives_a_file_that_is_deleted(apps: Apps, what: str) -> None:
    app, client = start(apps)
    kept = app.directory / "kept"
    jobs, cache = [store_job(client, 1)], client.store("cache")
    cache.set("before", 1).result(PATIENCE)
    for round in range(2):
        delete(kept, what)
        jobs.append(store_job(client, 2))
        cache.set(f"after {round}", 2).result(PATIENCE)
    app.wait_for(
        r"the queue, .*jobs\.db, was deleted while the app was running\. All jobs were written to a new one", count=2
    )
    app.wait_for(r"store 'cache': .*store\.db was deleted while the app was running\. Everything was written", count=2)
    client = killed_and_started_again(apps, app)
    assert [client.job(job.id).status().result(PATIENCE) for job in jobs] == ["later"] * 3
    keys = ["before", "after 0", "after 1"]
    assert client.store("cache").get_many(keys).result(PATIENCE) == dict(zip(keys, (1, 2, 2), strict=True))
    assert not [name for name in os.listdir(kept) if name.endswith((".new", ".rescued"))]


def test_an_app_that_stops_in_order_leaves_the_files_that_were_deleted(apps: Apps) -> None:
    app, client = start(apps)
    job = store_job(client, 1)
    client.store("cache").set("key", 1).result(PATIENCE)
    delete(app.directory / "kept", "directory")
    assert app.stop() == 0
    client = apps.run(app.name, [sys.executable, "main.py"]).wait_ready()
    assert client.job(job.id).status().result(PATIENCE) == "later"
    assert client.store("cache").get("key").result(PATIENCE) == 1


def test_a_file_that_was_replaced_is_left_alone_and_what_was_stored_lies_beside_it(apps: Apps) -> None:
    app, client = start(apps)
    kept = app.directory / "kept"
    job, cache = store_job(client, 1), client.store("cache")
    cache.set("key", 1).result(PATIENCE)
    for name in ("jobs.db", "store.db"):
        (kept / "other").write_text("other")
        (kept / "other").rename(kept / name)
    text = r"another file replaced .*\.db while the app was running, and was not touched\. The data stored before "
    text += r"is in .*\.db\.rescued\. Move the other file away"
    with pytest.raises(mob.QueueFailed, match=text):
        store_job(client, 2)
    with pytest.raises(OSError, match=text):
        cache.set("key", 2).result(PATIENCE)
    for name in ("jobs.db", "store.db"):
        assert (kept / name).read_text() == "other"
        (kept / name).unlink()
    later = store_job(client, 3)
    app.wait_for(r"jobs\.db can be written again")
    app.wait_for(r"store\.db can be written again")
    client = killed_and_started_again(apps, app)
    assert [client.job(each.id).status().result(PATIENCE) for each in (job, later)] == ["later", "later"]
    assert client.store("cache").get("key").result(PATIENCE) == 2
    for name in ("jobs.db", "store.db"):
        (kept / f"{name}.rescued").rename(kept / name)
