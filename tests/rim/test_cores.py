"""The number of cores: control groups of both versions, as containers and machines show them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mob.rim import cores

MANY = 64


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a machine with many cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(MANY)))


class Groups:
    """The files that describe the control groups of a process."""

    def __init__(self, place: Path) -> None:
        self.proc = place / "proc"
        self.mount = place / "cgroup"
        self.proc.mkdir()
        self.mount.mkdir()

    def are(self, cgroup: str, mount: str) -> None:
        (self.proc / "cgroup").write_text(f"{cgroup}\n")
        (self.proc / "mountinfo").write_text(f"{mount.replace('HERE', str(self.mount))}\n")

    def give(self, group: str, **files: str) -> None:
        place = self.mount / group
        place.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (place / name.replace("__", ".")).write_text(f"{text}\n")


@pytest.fixture
def groups(tmp_path: Path) -> Groups:
    return Groups(tmp_path)


V2 = "31 23 0:28 / HERE rw,relatime shared:9 - cgroup2 cgroup2 rw"
V1 = "32 31 0:29 / HERE rw,relatime - cgroup cgroup rw,cpu,cpuacct"


def test_this_process_may_use_at_least_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert 1 <= cores.usable() <= (os.cpu_count() or 1)


def test_without_groups_all_that_it_may_run_on_count(groups: Groups, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cores.usable(groups.proc) == MANY
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5})
    assert cores.usable(groups.proc) == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores.usable(groups.proc) == 1


@pytest.mark.parametrize(
    ("limit", "count"),
    [
        ("max 100000", MANY),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("50000 100000", 1),
        ("100100 100000", 1),
        ("9900000 100000", MANY),
        ("100000 0", MANY),
        ("", MANY),
    ],
)
def test_the_limit_of_a_container(groups: Groups, limit: str, count: int) -> None:
    groups.are("0::/", V2)
    groups.give("", cpu__max=limit)
    assert cores.usable(groups.proc) == count


def test_the_least_limit_of_a_group_and_of_those_above_it_counts(groups: Groups) -> None:
    groups.are("0::/system.slice/shop.service", V2)
    groups.give("system.slice", cpu__max="300000 100000")
    groups.give("system.slice/shop.service", cpu__max="800000 100000")
    assert cores.usable(groups.proc) == 3
    groups.give("system.slice/shop.service", cpu__max="100000 100000")
    groups.give("system.slice/other.service", cpu__max="50000 100000")
    assert cores.usable(groups.proc) == 1


@pytest.mark.parametrize(
    ("quota", "period", "count"), [("-1", "100000", MANY), ("250000", "100000", 3), ("250000", "", MANY)]
)
def test_the_limit_of_version_1(groups: Groups, quota: str, period: str, count: int) -> None:
    groups.are("2:cpu,cpuacct:/shop\n0::/elsewhere", V1)
    groups.give("shop", cpu__cfs_quota_us=quota, cpu__cfs_period_us=period)
    groups.give("elsewhere", cpu__cfs_quota_us="1000", cpu__cfs_period_us="1000")
    assert cores.usable(groups.proc) == count


@pytest.mark.parametrize("path", ["/docker/4e5f", "/", "/../../kubepods/7a"])
def test_a_container_whose_group_is_mounted_as_the_root(groups: Groups, path: str) -> None:
    groups.are(f"2:cpu:{path}", V1.replace(" / HERE", " /docker/4e5f HERE"))
    groups.give("", cpu__cfs_quota_us="200000", cpu__cfs_period_us="100000")
    assert cores.usable(groups.proc) == 2


def test_groups_that_limit_something_else_do_not_count(groups: Groups) -> None:
    groups.are("3:memory:/", V1.replace("cpu,cpuacct", "memory"))
    groups.give("", cpu__cfs_quota_us="100000", cpu__cfs_period_us="100000")
    assert cores.usable(groups.proc) == MANY
