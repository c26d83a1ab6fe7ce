"""Output is shown before its line ends: progress bars, dots, "loading ..."; and colours."""

from __future__ import annotations

import json
import re

import pytest

from tests.patience import patient
from tests.running import Apps, wait_until

STEPS = """
    import sys

    def step(text, stream="stderr"):
        out = getattr(sys, stream)
        out.write(text)
        out.flush()

    def end(code):
        import os
        os._exit(code)
    """
COLORS = """
    import os

    def colors():
        return os.environ.get("FORCE_COLOR")
    """


def test_a_line_without_an_end_is_shown_and_rewritten_on_a_terminal(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back=STEPS, terminal=True)
    back = app.wait_ready(1).require("back")

    def wait_for(pattern: str) -> None:
        def is_seen() -> bool:
            return re.search(pattern, re.sub(r"\x1b\[\d*m", "", app.screen)) is not None

        wait_until(is_seen, f"{pattern!r} is on the screen")

    for percent in (0, 50, 99):
        back.step(f"\r{percent}% done").result(patient(30))
        wait_for(rf"\| {percent}% done$")
    assert "\n" not in app.screen
    back.step("printed\n", "stdout").result(patient(30))
    wait_for(r"\r\x1b\[2K[^\r\n]*\| printed\r\n[^\r\n]*\| 99% done$")
    back.step("\r100% done\n").result(patient(30))
    wait_for(r"\r\x1b\[2K[^\r\n]*\| 100% done\r\n$")
    back.step("\rgone soon").result(patient(30))
    wait_for(r"\| gone soon$")
    back.step("\r         \r").result(patient(30))
    wait_for(r"\| gone soon\r\x1b\[2K$")
    back.step("Really? ").result(patient(30))
    wait_for(r"\| Really\? $")
    app.type("\x03")
    assert app.wait() == 0
    wait_for(r"\| Really\? \r\n$")


@pytest.mark.parametrize("form", ["text", "json"])
def test_into_a_pipe_its_state_is_shown_now_and_then_and_the_last_in_any_case(apps: Apps, form: str) -> None:
    app = apps.start(f'.logs(format="{form}").role("back", "./back.py")', back=STEPS)
    client = app.wait_ready(1)
    back = client.require("back")
    for percent in range(0, 1000, 2):
        back.step(f"\r{percent} of 1000").result(patient(30))
    app.wait_for(r"\d+ of 1000")  # while it runs
    back.step("\r1000 of 1000\n").result(patient(30))
    app.wait_for(r"\b1000 of 1000")
    back.step("loading ...").result(patient(30))
    app.wait_for(r"loading \.\.\.")
    back.step(" done\n").result(patient(30))
    app.wait_for("loading ... done")
    back.step("same").result(patient(30))
    app.wait_for(r"same")
    back.step("\nother\n").result(patient(30))
    app.wait_for(r"other")
    assert len(app.wait_for(r"of 1000")) < 50
    assert len(app.wait_for(r"same")) == 1
    texts = [line.text for line in client.logs("back", last=9)]
    assert texts == ["1000 of 1000", "loading ... done", "same", "other"]
    if form == "json":
        found = [json.loads(line) for line in app.lines]
        assert {each["message"]: each.get("partial", False) for each in found if "loading" in each["message"]} == {
            "loading ...": True,
            "loading ... done": False,
        }


def test_a_line_without_an_end_is_seen_when_its_worker_dies(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back=STEPS, terminal=True)
    client = app.wait_ready(1)
    client.require("back").step("\rhalf of it").result(patient(30))
    wait_until(lambda: "half of it" in app.screen, "it is shown")
    client.require("back").end(3)
    app.wait_for(r"\| half of it$")
    app.wait_for(r"exited with status 3")


def test_a_long_line_is_cut(apps: Apps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    app = apps.start('.role("back", "./back.py").role("colors", "./colors.py")', back=STEPS, colors=COLORS)
    client = app.wait_ready()
    assert client.require("colors").colors().result() is None  # into a pipe
    client.require("back").step("€" * 1_000_000 + "\n").result(patient(30))
    pieces = app.wait_for("€", 3_000_000 // 65_536 + 1)
    assert max(len(piece.string.encode()) for piece in pieces) < 65_536 + 100
    assert sum(piece.string.count("€") for piece in pieces) == 1_000_000


@pytest.mark.parametrize(
    ("env", "found"),
    [
        ({}, ["1", None, "2"]),
        ({"FORCE_COLOR": "3"}, ["3", None, "2"]),
        ({"FORCE_COLOR": ""}, ["", None, "2"]),
        ({"NO_COLOR": "1"}, [None, None, "2"]),
    ],
)
def test_workers_have_colors_where_the_terminal_has(
    apps: Apps, monkeypatch: pytest.MonkeyPatch, env: dict[str, str], found: list[str | None]
) -> None:
    for name in ("FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    options = {"plain": "", "none": ', env={"NO_COLOR": "1"}', "two": ', env={"FORCE_COLOR": "2"}'}
    roles = "".join(f'.role("{role}", "./back.py"{option})' for role, option in options.items())
    client = apps.start(roles, back=COLORS, terminal=True).wait_ready()
    assert [client.require(role).colors().result() for role in options] == found


@pytest.mark.parametrize("logs", ['.logs(format="json")', '.logs(file="out")'])
def test_workers_have_no_colors_elsewhere(apps: Apps, monkeypatch: pytest.MonkeyPatch, logs: str) -> None:
    for name in ("FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    app = apps.start(f'{logs}.role("back", "./back.py")', back=COLORS, terminal=True)
    assert app.wait_ready(1).require("back").colors().result() is None
