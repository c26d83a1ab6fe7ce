"""An app in one process refuses what needs processes."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path
from typing import Any

import pytest

import mob
from mob import testing
from mob.errors import PlanError
from tests.patience import patient
from tests.running import wait_until


def test_a_cluster_needs_processes(mob_app: Any, tmp_path: Path) -> None:
    (tmp_path / "back.py").write_text("")
    app = mob.start("shop").role("back", str(tmp_path / "back.py")).cluster("nats://127.0.0.1:4222")
    with pytest.raises(PlanError, match=r"a cluster needs processes\. Leave out one_process"):
        mob_app(app, one_process=True)


def test_its_kingpin_cannot_be_upgraded(mob_app: Any, tmp_path: Path) -> None:
    (tmp_path / "back.py").write_text("")
    app = mob_app(back=str(tmp_path / "back.py"), one_process=True)
    with pytest.raises(mob.MobError, match="an app in one process cannot be upgraded: its Kingpin is no program"):
        app.upgrade()
    assert [each.role for each in app.members() if each.role] == ["back"]


def test_what_a_role_puts_into_the_environment_goes_with_the_app(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_KEPT", "before")
    (tmp_path / "back.py").write_text("import os\nos.environ['TEST_NEW'] = os.environ['TEST_KEPT'] = 'after'\n")
    with testing.start(back=str(tmp_path / "back.py"), one_process=True):
        assert os.environ["TEST_NEW"] == "after"
    assert "TEST_NEW" not in os.environ
    assert os.environ["TEST_KEPT"] == "before"


def test_mobsters_in_one_process_count_in_their_own_metrics(tmp_path: Path) -> None:
    code = """
        import mob
        ORDERS = mob.counter("orders", labels=["who"])
        WORKERS = mob.gauge("workers")
        WORKERS.set(1)
        def order():
            ORDERS.inc(who=mob.me().role)
        """
    for name in ("back", "front"):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(code))
    app = mob.start("shop").base(tmp_path)
    app.role("back", "./back.py", workers=2).role("front", "./front.py")
    with testing.start(app, one_process=True) as running:
        running.wait_ready()
        running.all("back").call.order().result()
        running.require("front").order().result()
        wait_until(lambda: running.metrics().value("orders", role="back", who="back") == 2, "the orders are counted")
        wait_until(lambda: running.metrics().value("orders", role="front", who="front") == 1, "those in front, too")
        wait_until(lambda: running.metrics().value("workers") == 3, "each worker has a gauge")


@pytest.mark.parametrize(("options", "what"), [({"env": {"AT": "{index}"}}, "{index} in env"), ({"gpus": 1}, "gpus")])
def test_several_workers_cannot_have_environments_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], what: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,6")
    (tmp_path / "back.py").write_text("import os\nprint(os.environ['CUDA_VISIBLE_DEVICES'], os.environ.get('AT'))\n")

    def described() -> mob.App:
        return mob.start("shop").role("back", str(tmp_path / "back.py"), workers=2, **options)

    with pytest.raises(PlanError) as caught, testing.start(described(), one_process=True):
        pass
    assert str(caught.value) == (
        f"role 'back': {what} gives each worker an environment of its own, but in one process all share one. "
        f"Leave out one_process, or run one worker: roles='back=1'."
    )
    with testing.start(described(), one_process=True, roles="back=1") as app:
        app.wait_for("5 None" if "gpus" in options else "5,6 0")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "5,6"


def test_mobsters_in_one_process_hear_of_crashes(tmp_path: Path) -> None:
    (tmp_path / "back.py").write_text("def foo(): ...")
    (tmp_path / "watch.py").write_text(
        "import mob\nseen = []\nmob.on('crash', lambda crash: seen.append([crash.role, crash.pid]))\n"
        "def told(): return seen\n"
    )
    app = mob.start("shop").base(tmp_path).role("back", "./back.py").role("watch", "./watch.py")
    with testing.start(app, one_process=True) as running:
        running.wait_ready()
        (pid,) = running.faults.kill("back")
        wait_until(lambda: running.require("watch").told().result() == [["back", pid]], "it has heard")


def test_a_call_that_runs_for_too_long_is_given_up(mob_app: Any, tmp_path: Path) -> None:
    door = tmp_path / "door"
    code = f"""
        import time
        from pathlib import Path

        import mob

        @mob.export(kill_after=0.2)
        def wait():
            while not Path({str(door)!r}).exists():
                time.sleep(0.005)

        @mob.export
        def echo(value):
            return value
        """
    (tmp_path / "back.py").write_text(textwrap.dedent(code))
    app = mob_app(back=str(tmp_path / "back.py"), one_process=True)
    back = app.require("back")
    try:
        with pytest.raises(mob.CallTimeout, match=r"ran for more than 0\.2 s \(kill_after=0\.2\)"):
            back.wait().result(patient(30))
        assert back.echo(1).result(patient(30)) == 1
    finally:
        door.touch()


def test_a_worker_hands_over_in_one_process(mob_app: Any, tmp_path: Path) -> None:
    code = """
        import mob

        count = 0

        @mob.on("start")
        def start():
            global count
            count = mob.inherited() or 0

        @mob.on("hand_over")
        def hand_over():
            return count

        def add():
            global count
            count += 1
            return count
        """
    (tmp_path / "back.py").write_text(textwrap.dedent(code))
    app = mob_app(back=str(tmp_path / "back.py"), one_process=True)
    back = app.require("back")
    assert [back.add().result(patient(30)) for _ in range(3)] == [1, 2, 3]
    app.reload("back")
    assert back.add().result(patient(30)) == 4
    app.restart("back")
    wait_until(lambda: len(app.members()) and back.add().result(patient(30)) > 4, "it serves")
    assert back.add().result(patient(30)) > 5
