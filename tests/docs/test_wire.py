"""The tables of messages in docs/internals/wire.md are those of the code."""

from __future__ import annotations

import runpy
from typing import Any, get_args

import pytest

from mob.wire import messages as m
from tests.docs.blocks import ROOT

WIRE = (ROOT / "docs" / "internals" / "wire.md").read_text("utf-8")


@pytest.fixture(scope="module")
def maker() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "make_message_tables.py"))


def test_the_message_tables_are_those_of_the_code(maker: dict[str, Any]) -> None:
    assert maker["inserted"](WIRE) == WIRE, "run: python docs/make_message_tables.py --write"


@pytest.mark.parametrize("union", [m.PeerMessage, m.Up, m.Down, m.Vital, m.Heed, m.ForkOrder, m.ForkReport, m.Words])
def test_every_message_has_a_row(union: Any, maker: dict[str, Any]) -> None:
    made = maker["markdown"]()
    for kind in get_args(union) or (union,):
        assert made.count(f"| {kind.__struct_config__.tag} | `{kind.__name__}` |") == 1


def test_a_row_says_what_may_be_left_out_and_what_it_means(maker: dict[str, Any]) -> None:
    meaning = 'A message sent with `send`, for the handlers of "message"; there is no answer.'
    row = f"| 4 | `Message` | `body`, [`trace`] | {meaning} |\n"
    text = maker["markdown"]()
    assert row in text
    fields = "`owner`, `number`, `offset`, `length`, [`kind`], [`head`]"
    assert f"| `BufferLocation` | {fields} | The place of a buffer" in text


def test_tables_are_put_between_the_markers_and_nowhere_else(maker: dict[str, Any]) -> None:
    begin, end = maker["BEGIN"], maker["END"]
    assert maker["inserted"](f"a\n{begin}old\n{end}b\n") == f"a\n{begin}\n{maker['markdown']()}{end}b\n"
    with pytest.raises(SystemExit, match="lacks the lines"):
        maker["inserted"](f"a\n{begin}b\n")


def test_the_page_tells_the_version_of_the_protocol() -> None:
    assert f"version {m.PROTOCOL} of the protocol" in " ".join(WIRE.split())
    assert f"say(kingpin, [20, {m.PROTOCOL}, os.getpid()])" in WIRE
