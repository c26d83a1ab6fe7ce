"""The collector is off during large imports, and on again afterwards if it was on before."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mob.imports import import_at_rest


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield a module that knows whether the collector was on while it was imported."""
    (tmp_path / "restful.py").write_text("import gc\nwas_on = gc.isenabled()\n")
    (tmp_path / "restless.py").write_text("raise ValueError('not today')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "restful"
    sys.modules.pop("restful", None)


def test_it_rests_during_the_import_only(module: str) -> None:
    assert not import_at_rest(module).was_on
    assert gc.isenabled()


def test_it_goes_on_after_an_import_that_failed(module: str) -> None:
    with pytest.raises(ValueError, match="not today"):
        import_at_rest("restless")
    assert gc.isenabled()


def test_one_that_was_off_stays_off(module: str) -> None:
    gc.disable()
    try:
        import_at_rest(module)
        assert not gc.isenabled()
    finally:
        gc.enable()
