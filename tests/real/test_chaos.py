"""`mob chaos` on a small app: it passes under faults, and it fails when the app lies."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from mob.cli.chaos.faults import KINDS
from tests.patience import patient
from tests.running import Apps, RunningApp

MAIN = """
    import mob
    mob.start({name!r}).base(__file__).role("back", "./back.py", workers=2).run()
    """
NO_FAULTS = [part for kind in KINDS for part in ("--without", kind)]
PATIENCE = patient(150.0)


def chaos(apps: Apps, *options: str, behind: tuple[str, ...] = (), lie: str = "", main: str = MAIN) -> RunningApp:
    name = f"chaos-{os.getpid()}-{len(apps.running)}"
    apps.write(back="def foo():\n    return 1\n", main=main.format(name=name))
    env = {"MOB_CHAOS_LIE": lie, "TMPDIR": str(apps.directory), "COLUMNS": "160"}
    return apps.run(name, [sys.executable, "-m", "mob", "chaos", *options, "main.py", *behind], env)


def kept(directory: Path) -> list[str]:
    return [path.name for path in directory.glob("mob-chaos-*")]


@pytest.mark.timeout(180)
def test_an_app_under_faults_loses_nothing(apps: Apps) -> None:
    run = chaos(apps, "--seed", "7", "--minutes", "0.25", "--call", "back.foo")
    assert run.wait(PATIENCE) == 0, run.output
    assert "passed: nothing lost, nothing done twice, all roles at target (seed 7)" in run.output
    assert run.wait_for(r"roles were below target \d+ times: median [\d.]+ s, worst [\d.]+ s")
    for kind in ("plain", "again", "waits", "stream", "callback", "big", "fails", "own"):
        assert run.wait_for(rf"^ *{kind} +\d")
    assert kept(apps.directory) == []


SIEGES = ("upgrade", "signals", "Kingpin's descriptors", "strangers", "deaf client", "scale storm", "ask")


@pytest.mark.timeout(240)
def test_a_kingpin_under_siege_loses_nothing_and_stops_within_its_grace(apps: Apps) -> None:
    only = [part for kind in SIEGES for part in ("--only", kind)]
    run = chaos(apps, "--seed", "7", "--minutes", "0.25", "--every", "0.5", "--call", "back.foo", *only)
    assert run.wait(patient(200)) == 0, run.output
    assert run.wait_for(r"the Kingpin is replaced by one with new code +\d")
    assert run.wait_for(r"the Kingpin may open no more files for up to 3 s +\d")
    assert "SIGKILL of the fork server" not in run.output
    assert run.wait_for("passed: nothing lost, nothing done twice, all roles at target")
    assert kept(apps.directory) == []


def test_a_kind_of_fault_that_there_is_not_is_refused(apps: Apps) -> None:
    run = chaos(apps, "--only", "earthquake")
    assert run.wait(PATIENCE) == 2
    assert run.wait_for("'earthquake' is not one of")


@pytest.mark.timeout(240)
def test_several_nodes_under_faults_lose_nothing(apps: Apps) -> None:
    kinds = ("kill", "kill several", "gateway", "node", "NATS", "freeze NATS", "freeze Kingpin", "scale")
    without = [part for kind in KINDS if kind not in kinds for part in ("--without", kind)]
    run = chaos(apps, "--seed", "7", "--minutes", "0.2", "--nodes", "2", *without)
    assert run.wait(patient(200)) == 0, run.output
    assert run.wait_for(r"SIGKILL of a gateway +\d")
    assert run.wait_for(r"SIGKILL of all processes of a node, which starts again later +\d")
    assert run.wait_for("passed: nothing lost, nothing done twice, all roles at target")
    assert kept(apps.directory) == []


LIES = {"wrong": "calls: answered incorrectly", "twice": "calls: started twice"}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.timeout(180)
def test_the_check_can_fail(apps: Apps, lie: str) -> None:
    run = chaos(apps, "--seed", "7", "--minutes", "0.05", *NO_FAULTS, lie=lie)
    assert run.wait(PATIENCE) == 1, run.output
    assert run.wait_for(LIES[lie])
    assert run.wait_for("failed, seed 7")
    assert run.wait_for("The app's output")
    assert len(kept(apps.directory)) == 1


@pytest.mark.timeout(180)
def test_an_app_that_cannot_start_is_told_at_once(apps: Apps) -> None:
    run = chaos(apps, "--minutes", "0.05", main="raise SystemExit('the script has an opinion')\n")
    assert run.wait(PATIENCE) == 1
    assert run.wait_for("Error: the app exited with status 1")
    assert run.wait_for("the script has an opinion")
    assert kept(apps.directory) == []


@pytest.mark.parametrize(
    ("call", "complaint"),
    [("foo", "does not have the form ROLE.EXPORT"), ("back.", "does not have the form ROLE.EXPORT")],
)
def test_a_misspelled_export_is_refused(apps: Apps, call: str, complaint: str) -> None:
    run = chaos(apps, "--call", call)
    assert run.wait(PATIENCE) == 2
    assert run.wait_for(complaint)


def test_options_may_stand_behind_the_script(apps: Apps) -> None:
    run = chaos(apps, behind=("--seed", "7", "--minutes", "0.05", *NO_FAULTS))
    assert run.wait(PATIENCE) == 0, run.output
    assert "(seed 7)" in run.output
