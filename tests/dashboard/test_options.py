"""`app.dashboard(...)`: a role like any other, with its own options."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator

import pytest

import mob
from mob.app import TOKEN, App


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep the token of one test from the next."""
    monkeypatch.setenv(TOKEN, "")
    monkeypatch.delenv(TOKEN)
    yield
    os.environ.pop(TOKEN, None)


@pytest.fixture
def app() -> App:
    """Return an app that is not expected to run."""
    made = mob.start("shop")
    made._has_run = True
    return made


def test_it_is_a_role_of_its_own(app: App) -> None:
    role = app.dashboard(port=5000, host="::1", token="a-secret").plan.role("dashboard")
    assert (role.module, role.workers) == ("mob.dashboard.app", 1)
    assert role.env == {"MOB_DASHBOARD_HOST": "::1", "MOB_DASHBOARD_PORT": "5000", "MOB_DASHBOARD_TOKEN": "a-secret"}
    assert app._urls == ["http://[::1]:5000/"]


def test_a_token_is_made_up_and_is_the_same_for_a_kingpin_with_new_code(app: App) -> None:
    token = app.dashboard().plan.role("dashboard").env[TOKEN]
    assert len(token) == 32
    assert app._urls == [f"http://127.0.0.1:4777/#token={token}"]
    again = mob.start("shop")  # as the main script does after an upgrade, in the same process
    again._has_run = True
    assert again.dashboard().plan.role("dashboard").env[TOKEN] == token


OPTIONS = [
    ({"port": 0}, "port=0 is not a whole number from 1 to 65535"),
    ({"port": 65536}, "port=65536 is not a whole number from 1 to 65535"),
    ({"port": "80"}, "port='80' is not a whole number from 1 to 65535"),
    ({"host": ""}, "host='' is neither a name nor an address"),
    ({"token": "short"}, "the token must have at least 8 characters"),
    ({"token": "ümlaute-sind-nichts"}, "all of them printable ASCII"),
]


@pytest.mark.parametrize(("options", "text"), OPTIONS, ids=range(len(OPTIONS)))
def test_what_does_not_fit_is_told(app: App, options: dict[str, object], text: str) -> None:
    with pytest.raises(mob.PlanError) as caught:
        app.dashboard(**options)  # type: ignore[arg-type]
    assert text in str(caught.value)


def test_a_token_of_the_environment_has_to_be_one_as_well(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, "short")
    with pytest.raises(mob.PlanError, match="at least 8 characters"):
        app.dashboard()


def test_what_is_missing_is_told_with_how_to_get_it(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "uvicorn" else find(name, *more)
    )
    with pytest.raises(mob.PlanError) as caught:
        app.dashboard()
    assert str(caught.value) == "dashboard(): uvicorn is not installed. Try: pip install 'mobsters[web]'"


def test_there_is_one_of_it(app: App) -> None:
    with pytest.raises(mob.PlanError, match="the role 'dashboard' is declared twice"):
        app.dashboard().dashboard(port=4778)
