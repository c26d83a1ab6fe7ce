"""`mob systemd` prints a unit that systemd accepts, for paths and names of any kind."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from mob.cli.main import main
from mob.cli.systemd import unit
from mob.plan import Plan, RolePlan
from tests.patience import patient

SCRIPT = 'import mob\nmob.start("shop", grace=5).base(__file__).role("back", "./back.py").run()\n'
PLAN = Plan("shop", "/srv", (RolePlan("back", "back.py"), RolePlan("web", "web.py", boot_timeout=20)))


def parsed(text: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(text)
    return parser


def printed(*words: str) -> str:
    done = CliRunner().invoke(main, ["systemd", *words])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_what_it_says() -> None:
    service = parsed(unit(PLAN, Path("/srv/main.py"), "/srv/.venv/bin/python", "shop", "ada"))["Service"]
    assert dict(service) == {
        "Type": "notify",
        "NotifyAccess": "main",
        "ExecStart": "/srv/.venv/bin/python /srv/main.py",
        "ExecReload": "/bin/kill -HUP $MAINPID",
        "WorkingDirectory": "/srv",
        "User": "ada",
        "TimeoutStartSec": "90",
        "TimeoutStopSec": "40",
        "WatchdogSec": "30",
        "KillMode": "mixed",
        "Restart": "on-failure",
        "RestartSec": "1",
        "OOMPolicy": "continue",
        "LimitNOFILE": "65536",
    }


def test_a_unit_of_ones_own_names_no_user_and_no_target_of_the_system() -> None:
    own = parsed(unit(PLAN, Path("/srv/main.py"), "/usr/bin/python3", "shop", ""))
    assert own["Install"]["WantedBy"] == "default.target"
    assert "User" not in own["Service"]
    assert "After" not in own["Unit"]
    system = parsed(unit(PLAN, Path("/srv/main.py"), "/usr/bin/python3", "shop", "ada"))
    assert system["Install"]["WantedBy"] == "multi-user.target"
    assert system["Unit"]["After"] == "network-online.target"


@pytest.mark.parametrize(
    ("role", "option", "value"),
    [
        (RolePlan("back", "back.py", boot_timeout=None), "TimeoutStartSec", "infinity"),
        (RolePlan("back", "back.py", workers=20_000), "LimitNOFILE", "200080"),
        (RolePlan("back", "back.py", limits={"nofile": 100_000}), "LimitNOFILE", "100000"),
    ],
    ids=range(3),
)
def test_it_follows_the_options_of_the_roles(role: RolePlan, option: str, value: str) -> None:
    text = unit(Plan("shop", "/srv", (role,)), Path("/srv/main.py"), "/usr/bin/python3", "shop", "")
    assert parsed(text)["Service"][option] == value


@pytest.mark.parametrize(
    "directory", ["plain", "with space", 'with "quotes"', "100%n", "a$HOME", "back\\slash", "semi;colon"]
)
@pytest.mark.parametrize("words", [[], ["--user"], ["--name", "other"]], ids=["system", "user", "name"])
def test_systemd_takes_it(tmp_path: Path, directory: str, words: list[str]) -> None:
    place = tmp_path / directory
    place.mkdir()
    (place / "back.py").write_text("")
    (place / "main.py").write_text(SCRIPT)
    text = printed(str(place / "main.py"), *words)
    service = parsed(text)["Service"]
    assert service["TimeoutStopSec"] == "15"
    assert service["ExecStart"].startswith(sys.executable)
    assert parsed(text)["Unit"]["Description"].startswith("other" if "--name" in words else "shop")
    if shutil.which("systemd-analyze"):
        path = tmp_path / "shop.service"
        path.write_text(text)
        scope = ["--user"] if "--user" in words else []
        env = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
        line = ["systemd-analyze", *scope, "verify", str(path)]
        done = subprocess.run(line, capture_output=True, text=True, env=env, timeout=patient(60))
        assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_a_toml_file_is_run_by_mob(tmp_path: Path) -> None:
    (tmp_path / "back.py").write_text("")
    (tmp_path / "mob.toml").write_text('name = "shop"\n[roles.back]\nmodule = "./back.py"\n')
    service = parsed(printed(str(tmp_path / "mob.toml")))["Service"]
    assert service["ExecStart"] == f"{sys.executable} -m mob run {tmp_path / 'mob.toml'}"


def test_what_is_not_known_is_told_beside_the_unit(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text('import mob\nmob.start("shop", grace=N).role("back", "./back.py").run()\n')
    done = CliRunner().invoke(main, ["systemd", str(tmp_path / "main.py")])
    assert done.exit_code == 0
    assert "grace=N is computed; using the default." in done.stderr
    assert "Warning" not in done.stdout


def test_what_is_no_app_is_told(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("print()\n")
    done = CliRunner().invoke(main, ["systemd", str(tmp_path / "main.py")])
    assert done.exit_code == 1
    assert "describes no app" in done.stderr
