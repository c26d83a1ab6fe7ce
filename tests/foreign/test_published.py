"""The table of other projects' tests in the documentation: what it looks like, and when it is written."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.foreign import published
from tests.foreign.__main__ import SUITES
from tests.foreign.counting import Counts


@pytest.fixture(autouse=True)
def _published_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "PYTHON", sys.version_info[:2])


def test_the_page_has_a_row_of_numbers_for_each_suite_and_their_sum() -> None:
    text = published.PAGE.read_text(encoding="utf-8")
    begin, end = text.index(published.BEGIN), text.index(published.END)
    head, line, *rows = text[begin:end].strip().splitlines()[2:]
    assert [f"{head}\n{line}\n"] == [published.HEAD]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    numbers = [[int(cell) for cell in row[1:]] for row in cells]
    assert [row[0] for row in cells] == [*(suite.title for suite in SUITES.values()), "all"]
    assert numbers[-1] == [sum(column) for column in zip(*numbers[:-1], strict=True)]
    assert all(passed > 0 for passed, _, _ in numbers)


def test_the_table_is_written_between_the_comments_if_its_numbers_have_changed(tmp_path: Path) -> None:
    page = tmp_path / "foreign.md"
    page.write_text(f"before\n\n{published.BEGIN}old{published.END}\nafter\n", encoding="utf-8")
    assert published.publish({"one": Counts(3, 2, 1), "other": Counts(10, 20, 30)}, page)
    assert not published.publish({"one": Counts(3, 2, 1), "other": Counts(10, 20, 30)}, page)
    assert page.read_text(encoding="utf-8") == (
        f"before\n\n{published.BEGIN}\n{published.HEAD}"
        "| one | 3 | 2 | 1 |\n| other | 10 | 20 | 30 |\n| all | 13 | 22 | 31 |\n"
        f"\n{published.END}\nafter\n"
    )


def test_numbers_of_another_python_are_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "PYTHON", (2, 7))
    page = tmp_path / "foreign.md"
    page.write_text(published.BEGIN + published.END, encoding="utf-8")
    assert not published.publish({"one": Counts(3, 2, 1)}, page)
    assert page.read_text(encoding="utf-8") == published.BEGIN + published.END
