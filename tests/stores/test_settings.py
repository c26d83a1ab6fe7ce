"""What can be said of a store, and how its worker gets to know it."""

from __future__ import annotations

from typing import Any

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
    assert (role.name, role.workers, role.singleton, role.callers) == ("cache", 1, True, ("client",))
