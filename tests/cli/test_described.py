"""The plan of an app is read from its main script or TOML file, and nothing of it runs."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from mob.cli.described import described
from mob.cli.here import app_of
from mob.errors import PlanError
from mob.plan import RolePlan
from mob.rim import cores

UNREAD = "its name and its module must be string literals, because the script is read and not run"


def written(place: Path, text: str, name: str = "main.py") -> Path:
    path = place / name
    path.write_text(textwrap.dedent(text))
    return path


def test_a_chain_with_literals_is_known(tmp_path: Path) -> None:
    script = written(
        tmp_path,
        """
        import os, mob
        raise SystemExit("it was run")
        (
            mob.start(os.environ.get("NAME", "shop"), grace=5)
            .base(__file__)
            .preload("numpy", "models")
            .role("back", "./back.py", workers=4, shared_memory=64 * 1024 * 1024, needs=["store"])
            .role("front", "pkg.web", limits={"nofile": 4096}, boot_timeout=None)
            .dashboard(port=4800)
            .run()
        )
        """,
    )
    known = described(script)
    plan = known.plan
    assert (plan.name, plan.grace, plan.base, plan.preload) == ("shop", 5, str(tmp_path), ("numpy", "models"))
    assert plan.roles == (
        RolePlan("back", str(tmp_path / "back.py"), workers=4, shared_memory=64 * 2**20, needs=("store",)),
        RolePlan("front", "pkg.web", limits={"nofile": 4096}, boot_timeout=None),
        RolePlan("dashboard", "mob.dashboard.app"),
    )
    assert (known.dashboard, known.warnings) == (4800, ())


def test_what_is_computed_keeps_its_default_and_is_told(tmp_path: Path) -> None:
    script = written(
        tmp_path,
        """
        import mob
        from config import N, more
        app = mob.start("shop")
        app.role("back", "./back.py", workers=N)
        app.role(N, "./other.py")
        app.role("front", "./front.py", **more)
        app.run()
        """,
    )
    known = described(script)
    assert [(role.name, role.workers) for role in known.plan.roles] == [("back", 1), ("front", 1)]
    assert known.warnings == (
        f"{script}:5: workers=N is computed; using the default.",
        f"{script}:6: .role(N, './other.py') is ignored: {UNREAD}.",
        f"{script}:7: the options in **more are unknown.",
    )
    assert known.left_out == known.warnings[1:2]


NAMES = {
    "import mob\nmob.start('a').role('b', 'b')": "a",
    "import mob as m\nm.start('a').role('b', 'b')": "a",
    "from mob import start\nstart('a').role('b', 'b')": "a",
    "from mob.app import start as begin\nbegin('a').role('b', 'b')": "a",
    "from mob import *\nstart('a').role('b', 'b')": "a",
    "from threading import start\nstart('a').role('b', 'b')": "",
    "import other\nother.start('a').role('b', 'b')": "",
    "import mob\nmob.start(NAME).role('b', 'b')": "",
    "import mob\nmob.start().role('b', 'b')": "",
}


@pytest.mark.parametrize("text", NAMES)
def test_what_starts_an_app_is_known_by_what_the_script_imports(tmp_path: Path, text: str) -> None:
    script = written(tmp_path, text)
    assert app_of(tmp_path) == NAMES[text]
    assert described(script).plan.name == (NAMES[text] or tmp_path.name)


@pytest.mark.parametrize("said", ["pkg", "pkg/main.py"])
def test_a_base_that_is_written_out_is_known(tmp_path: Path, said: str) -> None:
    (tmp_path / "pkg").mkdir()
    written(tmp_path / "pkg", "", "main.py")
    known = described(
        written(tmp_path, f"import mob\nmob.start('a').base({str(tmp_path / said)!r}).role('b', './b.py')\n")
    )
    assert known.warnings == ()
    assert known.plan.roles[0].module == str((tmp_path / "pkg").resolve() / "b.py")


def test_a_base_that_is_computed_is_told(tmp_path: Path) -> None:
    script = written(tmp_path, "import mob\nmob.start('a').base(HERE).role('b', './b.py')\n")
    known = described(script)
    assert known.warnings == (
        f"{script}:2: mob.start('a').base(HERE): the directory is computed, so unknown; using {tmp_path}.",
    )
    assert known.left_out == known.warnings


def test_sums_that_cannot_be_done_are_computed_ones(tmp_path: Path) -> None:
    script = written(
        tmp_path, "import mob\nmob.start('a').role('b', 'b', workers=1 // 0).role('c', 'c', workers=2 * 2)\n"
    )
    known = described(script)
    assert [role.workers for role in known.plan.roles] == [1, 4]
    assert known.warnings == (f"{script}:2: workers=1 // 0 is computed; using the default.",)


def test_a_script_that_is_no_utf_8_is_told(tmp_path: Path) -> None:
    path = tmp_path / "main.py"
    path.write_bytes(b"import mob\nmob.start('caf\xe9')\n")
    with pytest.raises(PlanError, match=r"main\.py is not UTF-8: .* at byte 25\."):
        described(path)


def test_a_toml_file_is_known_as_well(tmp_path: Path) -> None:
    written(tmp_path, "", "back.py")
    path = written(tmp_path, 'name = "shop"\ngrace = 5\n[roles.back]\nmodule = "./back.py"\nworkers = 3\n', "mob.toml")
    plan = described(path).plan
    assert (plan.name, plan.grace, plan.roles[0].workers) == ("shop", 5, 3)


def test_what_is_said_as_text_is_known_as_numbers(tmp_path: Path) -> None:
    app = 'import mob\nmob.start("a", frame_limit="1M").role("b", "b", workers="cores*2", max_memory="2m")\n'
    plan = described(written(tmp_path, app)).plan
    assert (plan.frame_limit, plan.roles[0].workers, plan.roles[0].max_memory) == (2**20, cores.usable() * 2, 2**21)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import os\n", "describes no app"),
        ("def f(:\n", "is not valid Python: invalid syntax (line 1)."),
        (
            'import mob\nmob.start("a").role("b", "./b.py", workers="many")\n',
            "main.py:2: role 'b': workers='many' is not a num",
        ),
        ('import mob\nmob.start("a").role("b", "./b.py", threads="many")\n', "main.py:2: role 'b': Expected `int"),
        ('import mob\nmob.start("a", backlog="many")\n', "main.py:2: backlog='many' is not a size."),
    ],
    ids=range(5),
)
def test_what_is_no_app_is_told(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(PlanError) as caught:
        described(written(tmp_path, text))
    assert told in str(caught.value)
