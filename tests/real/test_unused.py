"""What an app does not use costs it nothing: it is not imported, and no thread runs for it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from tests.patience import PATIENCE
from tests.running import apps_in

BACK = """
    import sys, threading

    def modules():
        return sorted(sys.modules)

    def threads():
        return [each.name for each in threading.enumerate()]
"""
MAIN = """
    import atexit, pathlib, sys
    import mob

    def note():
        pathlib.Path("kingpin.txt").write_text("\\n".join(sorted(sys.modules)))

    atexit.register(note)
    mob.start("unused").base(__file__).role("back", "./back.py").run()
"""
FEATURES = (
    "cronsim",
    "mob.cluster",
    "mob.core.jobs",
    "mob.core.timers",
    "mob.jobs",
    "mob.kingpin.timekeeping",
    "mob.mobster.inheriting",
    "mob.mobster.metering",
    "mob.mobster.timers",
    "mob.peer.calls.jobs",
    "mob.peer.serving.batching",
    "mob.peer.serving.durable_calls",
    "mob.peer.serving.measure.meters",
    "mob.pools",
    "mob.schedules",
    "mob.stores",
    "nats",
    "sqlite3",
    "zoneinfo",
)
"""Modules and packages of timers, durable jobs, hand-overs, stores, metrics of one's own, batches, pools, clusters."""


def of_features(modules: list[str]) -> list[str]:
    return [name for name in modules if name.startswith(tuple(f"{each}." for each in FEATURES)) or name in FEATURES]


def test_an_app_that_uses_none_of_them_loads_none_of_them(tmp_path: Path) -> None:
    with apps_in(tmp_path) as apps:
        name = f"unused-{os.getpid()}"
        apps.write(back=BACK, main=MAIN.replace('"unused"', repr(name)))
        app = apps.run(name, [sys.executable, "main.py"])
        back: Any = app.wait_ready().require("back")
        assert of_features(back.modules().result(PATIENCE)) == []
        assert back.threads().result(PATIENCE) == ["MainThread", "mob-liveness"]
        app.stop()
    loaded = (tmp_path / "kingpin.txt").read_text().splitlines()
    assert "mob.kingpin.kingpin" in loaded
    assert of_features(loaded) == []
