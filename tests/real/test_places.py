"""What a process gets by its place: kept by successors, and changed with the size of the role."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import mob
from mob.rim import cores
from tests.running import Apps, RunningApp, apps_in, wait_until

BACK = """
    import json, os

    with open(f"seen-{os.getpid()}.json", "w") as file:
        json.dump({name: os.environ.get(name) for name in ("SHARD", "ME", "JSON", "CUDA_VISIBLE_DEVICES")}, file)
    """


@pytest.fixture
def apps(tmp_path: Path) -> Iterator[Apps]:
    with apps_in(tmp_path) as apps:
        yield apps


def seen_by(app: RunningApp, client: mob.Client, role: str = "back") -> dict[int, dict[str, str]]:
    """What each ready worker has seen in its environment, by its pid."""
    pids = [member.pid for member in app.ready(client, role)]
    return {pid: json.loads((app.directory / f"seen-{pid}.json").read_text()) for pid in pids}


def wait_for_values(
    app: RunningApp, client: mob.Client, role: str, variable: str, *values: str, without: int = 0
) -> set[int]:
    """Wait until the ready workers of a role have these values, one each; return their pids."""

    def pids() -> set[int]:
        seen = seen_by(app, client, role)
        return (
            set(seen)
            if without not in seen and sorted(each[variable] for each in seen.values()) == sorted(values)
            else set()
        )

    return wait_until(pids, f"{role} has {values}")


def test_each_place_has_values_of_its_own_which_successors_keep_and_scaling_changes(apps: Apps) -> None:
    env = {"SHARD": "{index}/{workers}", "ME": "{role}.{index} of {app} on {node}", "JSON": json.dumps({"a": {"b": 1}})}
    app = apps.start(f'.role("back", "./back.py", workers=2, env={env!r})', back=BACK)
    client = app.connect()
    app.wait_ready()
    wait_for_values(app, client, "back", "SHARD", "0/2", "1/2")
    seen = seen_by(app, client)
    assert {each["JSON"] for each in seen.values()} == {'{"a": {"b": 1}}'}
    node = os.uname().nodename
    assert sorted(each["ME"] for each in seen.values()) == [f"back.{i} of {app.name} on {node}" for i in (0, 1)]

    victim = next(pid for pid, each in seen.items() if each["SHARD"] == "1/2")
    os.kill(victim, signal.SIGKILL)
    wait_for_values(app, client, "back", "SHARD", "0/2", "1/2", without=victim)

    client.scale("back", 3)
    wait_for_values(app, client, "back", "SHARD", "0/3", "1/3", "2/3")
    client.scale("back", 1)
    wait_for_values(app, client, "back", "SHARD", "0/1")


def test_gpus_go_by_places(apps: Apps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5f,7")
    roles = '.role("other", "./back.py", gpus=0.5, workers=2).role("back", "./back.py", gpus=1, workers=2)'
    app = apps.start(roles, back=BACK)
    client = app.connect()
    app.wait_ready()

    wait_for_values(app, client, "other", "CUDA_VISIBLE_DEVICES", "3", "3")
    first = wait_for_values(app, client, "back", "CUDA_VISIBLE_DEVICES", "7", "GPU-5f")
    with pytest.raises(mob.MobError, match=r"'back' cannot have 3 workers \(gpus=1, and 2 GPUs for the role\)"):
        client.scale("back", 3)
    victim = min(first)
    os.kill(victim, signal.SIGKILL)
    second = wait_for_values(app, client, "back", "CUDA_VISIBLE_DEVICES", "7", "GPU-5f", without=victim)
    client.reload("back")
    third = wait_for_values(app, client, "back", "CUDA_VISIBLE_DEVICES", "7", "GPU-5f")
    assert not third & second
    assert len(second - first) == 1


def test_too_few_gpus_end_the_start_with_an_error(apps: Apps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    app = apps.start('.role("back", "./back.py", gpus=1, workers=2)', back=BACK)
    assert app.process.wait() == 1
    app.wait_for(r"role 'back': workers=2 and gpus=1 need 2 GPUs, and there is 1 for it \(CUDA_VISIBLE_DEVICES=0\)")


def test_as_many_workers_as_cores_and_sizes_as_text(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py", workers="cores+1", max_memory="1.5G", shared_memory="0")', back=BACK)
    client = app.connect()
    app.wait_ready()
    assert len(app.ready(client, "back")) == cores.usable() + 1
