"""The options of a store, and how its worker gets them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

import mob
from mob.stores.settings import StoreSettings, settings_for, settings_of, variable_of


@pytest.mark.parametrize(
    ("said", "bytes"),
    [(None, None), (65536, 65536), ("64K", 65536), ("1.5M", 1572864), ("2 GiB", 2**31), ("100000", 100_000)],
)
def test_sizes(said: Any, bytes: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of("cache", said, None)
    assert settings == StoreSettings(bytes)
    for name, value in variable_of("cache", settings).items():
        monkeypatch.setenv(name, value)
    assert settings_for("cache") == settings


@pytest.mark.parametrize("said", ["much", "", 0, 1000, True, 1e9, "5X", "-1M"])
def test_what_is_no_size_is_refused(said: Any) -> None:
    with pytest.raises(mob.PlanError) as caught:
        mob.start("app").store("cache", max_memory=said)
    assert str(caught.value) == (
        f"store 'cache': max_memory={said!r} is not a size of at least 64 KiB, such as \"500M\" or 500_000_000."
    )


def test_a_store_is_a_role_of_one_worker() -> None:
    app = mob.start("app").store("cache", max_memory="1M", callers=["client"])
    app._has_run = True
    (role,) = app.plan.roles
    assert (role.name, role.workers, role.singleton, role.callers) == ("cache", 1, True, ("client", "cache"))


def test_the_file_of_a_store_lies_below_the_base(tmp_path: Path) -> None:
    app = mob.start("app").base(tmp_path).store("cache", file="cache.db")
    app._has_run = True
    assert settings_in(app.plan.role("cache")).file == str(tmp_path / "cache.db")
    with pytest.raises(mob.PlanError, match=r"store 'other': the directory of file='.*/missing/x' does not exist"):
        app.store("other", file="missing/x")


def settings_in(role: mob.RolePlan) -> StoreSettings:
    return msgspec.json.decode(role.env["MOB_STORE_cache"], type=StoreSettings)


def test_two_stores_in_one_file_are_refused(tmp_path: Path) -> None:
    app = mob.start("app").base(tmp_path).store("a", file="x").store("free").store("b", file="./x")
    with pytest.raises(mob.PlanError, match=r"^the stores 'a' and 'b' share a file: .*/x\. Give each its own\.$"):
        app.hand_over()


def test_a_file_in_a_cluster_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("nats")
    app = mob.start("app").base(tmp_path).store("a", file="x").role("other", "json").cluster("nats://127.0.0.1:1")
    with pytest.raises(
        mob.PlanError, match=r"^store 'a': file='.*/x' cannot be used in a cluster: a store moves to another"
    ):
        app.hand_over()
    app = mob.start("app").base(tmp_path).store("a").cluster("nats://127.0.0.1:1")
    assert app.hand_over().role("a").singleton


def test_braces_in_the_name_of_a_file_stay_as_they_are(tmp_path: Path) -> None:
    app = mob.start("app").base(tmp_path).store("cache", file="{index}.db")
    (value,) = app.hand_over().role("cache").env.values()
    assert "{" not in value
    assert msgspec.json.decode(value, type=StoreSettings).file == str(tmp_path / "{index}.db")
