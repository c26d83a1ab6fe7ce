"""Apps described by a TOML file: what is read, and the errors for what does not fit."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import fields

from mob import app as apps
from mob.app import App
from mob.cli import config
from mob.errors import PlanError
from mob.plan import Logs, Plan, RolePlan, queue_role
from mob.rim import cores


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with some modules; apps described there do not complain that they were never run."""
    for name in ("back", "front"):
        (tmp_path / f"{name}.py").write_text("")
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "deep.py").write_text("")
    monkeypatch.setattr(apps.App, "_complain_unless_run", lambda _: None)
    return tmp_path


def plan(home: Path, text: str, name: str = "mob.toml") -> Plan:
    (home / name).write_text(textwrap.dedent(text))
    return config.described(home / name).plan


BACK = '[roles.back]\nmodule = "./back.py"\n'


def test_the_least_that_is_wanted(home: Path) -> None:
    assert plan(home, 'name = "myapp"\n' + BACK) == Plan("myapp", str(home), (RolePlan("back", str(home / "back.py")),))


def test_all_of_it(home: Path) -> None:
    read = plan(
        home,
        """
        name = "myapp"
        base = "src"
        grace = 5
        frame_limit = 1_000_000
        strategy = "rest_for_one"
        metrics = false
        preload = ["json", "deep"]

        [roles.deep]
        module = "deep"
        workers = 4
        max_workers = 8
        stop_exit_codes = [3, 4]
        boot_timeout = false
        cpus = [0]
        env = {A = "b"}
        limits = {nofile = 4096}

        [roles.back]
        module = "../back.py"
        needs = ["deep"]
        essential = true
        max_age = 3600.5

        [logs]
        format = "json"
        file = "logs/app.log"
        max_bytes = 5000
        keep = 2
        """,
    )
    base = home / "src"
    assert read == Plan(
        name="myapp",
        base=str(base),
        roles=(
            RolePlan(
                "deep",
                "deep",
                workers=4,
                max_workers=8,
                stop_exit_codes=(3, 4),
                boot_timeout=None,
                cpus=(0,),
                env={"A": "b"},
                limits={"nofile": 4096},
            ),
            RolePlan("back", str(home / "back.py"), needs=("deep",), essential=True, max_age=3600.5),
        ),
        grace=5,
        frame_limit=1_000_000,
        strategy="rest_for_one",
        preload=("json", "deep"),
        logs=Logs("json", str(base / "logs" / "app.log"), 5000, 2),
        metrics=False,
    )


def test_sizes_and_numbers_of_workers_as_text(home: Path) -> None:
    app = f'name = "a"\nframe_limit = "1M"\nbacklog = "2k"\n{BACK}workers = "cores+1"\nmax_memory = "1G"\n'
    read = plan(home, f'{app}[logs]\nmax_bytes = "64k"\n')
    assert (read.frame_limit, read.backlog, read.logs.max_bytes) == (2**20, 2048, 2**16)
    assert (read.roles[0].workers, read.roles[0].max_memory) == (cores.usable() + 1, 2**30)


def test_traces_and_a_dashboard(home: Path) -> None:
    pytest.importorskip("opentelemetry")
    pytest.importorskip("starlette")
    read = plan(home, f'name = "myapp"\ntrace = "tracing:setup"\n{BACK}[dashboard]\nport = 4999\n')
    assert read.trace == "tracing:setup"
    assert read.role("dashboard").env["MOB_DASHBOARD_PORT"] == "4999"
    assert plan(home, f'name = "myapp"\ntrace = true\ndashboard = true\n{BACK}').trace == ""
    assert plan(home, f'name = "myapp"\ntrace = false\ndashboard = false\n{BACK}').trace is None


def test_a_store(home: Path) -> None:
    read = plan(home, f'name = "myapp"\n{BACK}[store.cache]\nmax_memory = "5M"\ncallers = ["back"]\n')
    said = App("myapp").store("cache", max_memory="5M", callers=["back"])
    said._has_run = True
    assert read.role("cache") == said.plan.role("cache")


def test_a_pyproject_has_it_in_a_table_of_its_own(home: Path) -> None:
    text = '[project]\nname = "other"\n[tool.mob]\nname = "myapp"\n[tool.mob.roles.back]\nmodule = "./back.py"\n'
    assert plan(home, text, "pyproject.toml") == plan(home, 'name = "myapp"\n' + BACK)


@pytest.mark.parametrize("option", [field.name for field in fields(Plan)])
def test_every_option_of_the_plan_is_known(home: Path, option: str) -> None:
    with pytest.raises(PlanError) as told:
        plan(home, f'name = "myapp"\n{option}x = 1\n')
    assert f"unknown option '{option}x'." in str(told.value)
    assert "Did you mean" in str(told.value)


WRONG: dict[str, tuple[str, str]] = {
    "no TOML": ("name = ", "is not valid TOML: Invalid value (at end of document)."),
    "no name": (BACK, 'the app has no name. Expected: name = "myapp".'),
    "a name that is none": (f'name = "my app"\n{BACK}', "'my app' cannot name an app."),
    "an unknown option": ('name = "a"\ngrase = 3', "unknown option 'grase'. Did you mean 'grace'?"),
    "an option of the wrong type": ('name = "a"\ngrace = "long"', 'grace = "long": expected float, got str.'),
    "an option of another wrong type": ('name = "a"\nmetrics = 1', "metrics = 1: expected bool, got int."),
    "a list of the wrong": ('name = "a"\npreload = [1]', "preload = [1]: expected str, got int - at $[0]."),
    "a base that is not there": ('name = "a"\nbase = "srx"', "no such file or directory"),
    "roles that are none": ('name = "a"\nroles = ["back"]', 'roles = ["back"] is not a table. Expected: [roles]'),
    "a role that is none": ('name = "a"\nroles.back = "back.py"', 'roles.back = "back.py" is not a table.'),
    "a role without a module": (
        'name = "a"\n[roles.back]\nworkers = 2',
        '[roles.back] has no module. Expected: the file that its workers run, module = "./back.py".',
    ),
    "an unknown option of a role": (
        f'name = "a"\n{BACK}worker = 2',
        "unknown option 'worker' in [roles.back]. Did you mean 'workers'?",
    ),
    "an option of a role that cannot be": (
        f'name = "a"\n{BACK}workers = 0',
        "role 'back': workers=0 is not a whole number of at least 1.",
    ),
    "a module that is not there": (
        'name = "a"\n[roles.back]\nmodule = "./bakc.py"',
        "bakc.py. Did you mean 'back.py'?",
    ),
    "an unknown option of the logs": (
        f'name = "a"\n{BACK}[logs]\nformta = "json"',
        "unknown option 'formta' in [logs]. Did you mean 'format'?",
    ),
    "a format of the logs that is none": (f'name = "a"\n{BACK}[logs]\nformat = "xml"', "logs: unknown format 'xml'."),
    "a size of the logs that is none": (
        f'name = "a"\n{BACK}[logs]\nkeep = "all"',
        'logs.keep = "all": expected int, got str.',
    ),
    "an unknown option of a store": (
        f'name = "a"\n{BACK}[store.cache]\nmax_memry = 1',
        "unknown option 'max_memry' in [store.cache]. Did you mean 'max_memory'?",
    ),
    "a size that is none": (
        'name = "a"\nbacklog = "much"',
        "backlog='much' is not a size. Expected: a number of bytes",
    ),
    "a size of the logs that cannot be read": (
        f'name = "a"\n{BACK}[logs]\nmax_bytes = "much"',
        "logs: max_bytes='much' is not a size. Expected: a number of bytes",
    ),
    "an unknown option of the dashboard": (
        f'name = "a"\n{BACK}[dashboard]\nprot = 1',
        "unknown option 'prot' in [dashboard]. Did you mean 'port'?",
    ),
}


@pytest.mark.parametrize("fault", WRONG)
def test_what_does_not_fit_is_told_with_the_file(home: Path, fault: str) -> None:
    text, wanted = WRONG[fault]
    with pytest.raises(PlanError) as told:
        plan(home, text)
    assert str(told.value).startswith(f"{home / 'mob.toml'}")
    assert wanted in str(told.value)


def test_a_file_that_cannot_be_read(home: Path) -> None:
    (home / "mob.toml").write_bytes(b'name = "\xff"')
    with pytest.raises(PlanError, match=r"is not UTF-8, which TOML requires: invalid start byte at byte 8\."):
        config.described(home / "mob.toml")
    with pytest.raises(PlanError, match="cannot be read: No such file or directory"):
        config.described(home / "other.toml")
    (home / "pyproject.toml").write_text("[tool.other]\n")
    with pytest.raises(PlanError, match=r"has no table \[tool.mob\], so it describes no app"):
        config.described(home / "pyproject.toml")


# ------------------------------------------------------------------------------------------------ where it is found


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({"mob.toml": ""}, "mob.toml"),
        ({"mob.toml": "", "pyproject.toml": "[tool.mob]"}, "mob.toml"),
        ({"pyproject.toml": "[tool.mob]"}, "pyproject.toml"),
        ({"a/pyproject.toml": "[tool.other]", "mob.toml": ""}, "mob.toml"),
        ({"a/pyproject.toml": "[tool.mob]", "mob.toml": ""}, "a/pyproject.toml"),
        ({"a/b/mob.toml": "", "mob.toml": ""}, "a/b/mob.toml"),
    ],
)
def test_the_nearest_file_is_taken(tmp_path: Path, files: dict[str, str], wanted: str) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert config.find(tmp_path / "a" / "b") == tmp_path / wanted


def test_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(PlanError) as told:
        config.find(tmp_path)
    assert f"with a table [tool.mob], in {tmp_path} or above. Name the app's main script" in str(told.value)


def test_the_docstring_shows_a_file_that_works(home: Path) -> None:
    text: Any = config.__doc__
    assert plan(home, text[text.index('    name = "myapp"') :]).role("back").workers == 4


def test_where_durable_jobs_are_kept(home: Path) -> None:
    text = 'name = "myapp"\n' + BACK
    read = plan(home, f'{text}[queue]\npath = "jobs.db"\nkeep = 3600\nin_hand = 8\n')
    assert read.roles[0] == queue_role(str(home / "jobs.db"), 3600, 8)
    assert plan(home, f"queue = true\n{text}").roles[0].keeps_jobs
    assert [role.name for role in plan(home, f"queue = false\n{text}").roles] == ["back"]
    for wrong, complaint in (
        ('[queue]\npth = "x"\n', r"unknown option 'pth' in \[queue\]\. Did you mean 'path'\?"),
        ('[queue]\npath = "nowhere/jobs.db"\n', "cannot be created: there is no directory"),
        ("[queue]\nkeep = 0\n", r"queue: keep=0\.0 is not a number of seconds above 0\."),
        ("[queue]\nin_hand = 0\n", r"queue: in_hand=0 is not a whole number of at least 1\."),
    ):
        with pytest.raises(PlanError, match=complaint):
            plan(home, text + wrong)
