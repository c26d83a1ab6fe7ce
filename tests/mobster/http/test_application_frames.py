"""Which frames of a traceback are shown for an error in a WSGI application."""

from __future__ import annotations

import traceback

import pytest

from mob.mobster.http import headers
from mob.mobster.http.responding import application_frames


def application() -> None:
    headers.status_of("200")
    headers.status_of("no status")  # raises within mob


def test_frames_of_mob_at_the_end_are_left_out() -> None:
    with pytest.raises(ValueError, match="no status") as caught:
        application()
    shown = traceback.extract_tb(application_frames(caught.value.__traceback__))
    assert [frame.name for frame in shown][-1] == "application"
    assert all("mobster" not in frame.filename or "tests" in frame.filename for frame in shown)


def test_an_error_of_mobs_alone_shows_no_frame() -> None:
    with pytest.raises(ValueError, match="no status") as caught:
        headers.status_of("no status")
    inner = caught.value.__traceback__
    assert inner is not None
    assert application_frames(inner.tb_next) is None
