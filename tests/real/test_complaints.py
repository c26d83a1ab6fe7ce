"""Failures that no caller waits for are logged once, then summed up: one line a second, wherever they come from."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

import pytest

import mob
from tests.patience import patient
from tests.running import Apps, RunningApp, apps_in, wait_until

PATIENCE = patient(60.0)
MANY = 3000
BACK = """
    import mob

    heard = 0

    def boom(number):
        raise ValueError(f"bad thing {number}")

    def other(number):
        raise KeyError(number)

    @mob.on("message")
    def stumble(number):
        global heard
        heard += 1
        raise RuntimeError(f"over stone {number}")

    def count():
        return heard
"""
FRONT = """
    import mob

    back = mob.require("back")
    closed = mob.require("closed")

    def flood(many):
        for number in range(many):
            back.boom(number)
        for number in range(many):
            back.other(number)
        return back.count().result()

    def knock(many):
        for number in range(many):
            closed.enter(number)
"""
CLOSED = """
    def enter(number):
        return number
"""


@pytest.fixture(scope="module")
def apps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apps]:
    with apps_in(tmp_path_factory.mktemp("complaints")) as apps:
        yield apps


@pytest.fixture(scope="module")
def app(apps: Apps) -> RunningApp:
    return apps.start(
        ".role('back', './back.py').role('front', './front.py').role('closed', './closed.py', callers=['back'])",
        back=BACK,
        front=FRONT,
        closed=CLOSED,
    )


@pytest.fixture
def client(app: RunningApp) -> Iterator[mob.Client]:
    with app.wait_ready() as client:
        yield client


def told(app: RunningApp, text: str) -> int:
    """Return how many failures the lines with that text report: by themselves, or by their count."""
    count = 0
    for line in app.output.splitlines():
        if text in line:
            found = re.search(r"([\d,]+) more like this in [\d.]+ s: ", line)
            count += int(found[1].replace(",", "")) if found else 1
    return count


def lines(app: RunningApp, text: str) -> list[str]:
    return [line for line in app.output.splitlines() if text in line]


def wait_told(app: RunningApp, text: str, many: int = MANY) -> None:
    wait_until(lambda: told(app, text) == many, f"all {many} of {text!r} are reported", PATIENCE)
    assert len(lines(app, text)) < many / 10


def test_calls_that_nobody_waits_for_are_summed_up_by_export_and_error(app: RunningApp, client: mob.Client) -> None:
    client.require("front").flood(MANY).result(PATIENCE)
    wait_told(app, "back.boom failed and its result was never read: ValueError: bad thing")
    wait_told(app, "back.other failed and its result was never read: KeyError: ")
    assert "bad thing 0" in lines(app, "back.boom failed")[0]  # the first is logged at once


def test_refusals_are_summed_up(app: RunningApp, client: mob.Client) -> None:
    client.require("front").knock(MANY).result(PATIENCE)
    wait_told(app, "closed.enter failed and its result was never read: ")


def test_handlers_that_raise_are_summed_up(app: RunningApp, client: mob.Client) -> None:
    for number in range(MANY):
        client.all("back").send(number)
    wait_told(app, "a handler of 'message' raised RuntimeError: over stone ")


def test_a_client_that_is_closed_keeps_nothing_back(app: RunningApp, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "mob"), mob.connect(app.name) as client:
        back = client.require("back")
        for number in range(50):
            back.boom(number)
        back.count().result(PATIENCE)
    records = [record for record in caplog.records if "back.boom failed" in record.getMessage()]
    assert len(records) < 50
    assert "back.boom failed and its result was never read: ValueError: bad thing 0" in records[0].getMessage()
    assert "more like this in" in records[-1].getMessage()
