"""Which handlers are refused when they are registered, and the errors."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from mob.peer.serving.handlers import EVENTS, GETS, check_event, check_handler


def test_every_event_says_what_its_handlers_get() -> None:
    assert GETS.keys() < set(EVENTS)


@pytest.mark.parametrize(
    ("event", "handler"),
    [
        ("start", lambda: None),
        ("crash", lambda crash: None),
        ("crash", lambda *crashes: None),
        ("error", lambda error, context, more=None: None),
        ("join", [].append),
        ("stop", dict),  # it has no signature
    ],
)
def test_a_handler_that_can_be_called(event: str, handler: Callable[..., Any]) -> None:
    check_handler(event, handler)


def handle() -> None: ...
def handle_one(one: object) -> None: ...


@pytest.mark.parametrize(
    ("event", "handler", "text"),
    [
        ("crash", handle, "the handler handle of 'crash' is called as f(crash): too many positional arguments."),
        ("message", handle, "of 'message' is called as f(obj): too many positional arguments."),
        ("error", handle_one, "of 'error' is called as f(error, context): too many positional arguments."),
        ("stop", handle_one, "of 'stop' is called as f(): missing a required argument: 'one'."),
    ],
)
def test_a_handler_that_cannot_be_called_so(event: str, handler: Callable[..., Any], text: str) -> None:
    with pytest.raises(TypeError, match=re.escape(text)):
        check_handler(event, handler)


@pytest.mark.parametrize(("event", "meant"), [("death", "crash"), ("shutdown", "stop"), ("startup", "start")])
def test_an_event_as_others_call_it(event: str, meant: str) -> None:
    with pytest.raises(ValueError, match=f"there is no event '{event}'. Did you mean '{meant}'?"):
        check_event(event)
