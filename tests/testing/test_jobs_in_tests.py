"""Durable jobs of an app under test: they work as in any app, and leave no file."""

from __future__ import annotations

from pathlib import Path

import pytest

import mob
from mob import testing
from tests.patience import PATIENCE

BACK = """
import mob

def double(n):
    return [2 * n, mob.delivery().attempt]
"""


@pytest.mark.parametrize("one_process", [True, False])
@pytest.mark.parametrize("is_asked_for", [True, False])
def test_jobs_work_and_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_process: bool, is_asked_for: bool
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr("mob.app.App._complain_unless_run", lambda _: None)
    (tmp_path / "back.py").write_text(BACK)
    app = mob.start("shop").base(tmp_path).role("back", "./back.py")
    if is_asked_for:
        app.queue("jobs.db")
    queues = tmp_path / "state" / "mob" / "queues"
    with testing.start(app, one_process=one_process) as under_test:
        job = under_test.require("back").options(durable=True).double(4)
        assert job.result(PATIENCE) == [8, 1]
        assert under_test.job(job.id).status().result(PATIENCE) == "done"
        assert {each.name.partition(".")[0] for each in queues.iterdir()} == {under_test.app}
    assert list(queues.iterdir()) == []
    assert not (tmp_path / "jobs.db").exists()  # the file of the app that is not tested
