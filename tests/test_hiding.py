"""Role files with the names of other modules."""

from __future__ import annotations

from pathlib import Path

import pytest

from mob.hiding import hidden_by
from mob.plan import RolePlan


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Return a directory of installed packages, next to that of an app, with files of all names."""
    for file in ("site/flask/__init__.py", "site/six.py", "app/flask.py", "app/six.py", "app/queue.py", "app/shop.py"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    return tmp_path


def said(tmp_path: Path, module: str) -> str:
    base = tmp_path / "app"
    name = str(base / module) if module.endswith(".py") else module
    return hidden_by(RolePlan("r", name), str(base), [str(base), str(tmp_path / "site")])


@pytest.mark.parametrize("module", ["flask.py", "six.py", "queue.py", "flask", "queue"])
def test_a_file_that_hides_a_module_is_named(installed: Path, module: str) -> None:
    stem = module.removesuffix(".py")
    sentence = said(installed, module)
    assert sentence.startswith(f"the file of role 'r', {installed / 'app' / stem}.py, hides the module '{stem}' ")
    assert sentence.endswith(f"Rename the file, for example to {stem}_role.py.")
    assert ("of the standard library" in sentence) == (stem == "queue")


@pytest.mark.parametrize("module", ["shop.py", "shop", "pkg.queue", "flask.app", "six_role.py"])
def test_others_are_not(installed: Path, module: str) -> None:
    assert said(installed, module) == ""


def test_an_installed_module_that_is_a_role_itself_hides_nothing(installed: Path) -> None:
    assert hidden_by(RolePlan("r", "flask"), str(installed), [str(installed / "site")]) == ""
