"""The two styles of process titles."""

from __future__ import annotations

import pytest

from mob import plan
from mob.rim import titles

KINDS = (titles.KINGPIN, titles.FORK_SERVER, titles.MOBSTER)


def test_every_style_titles_every_kind_of_process() -> None:
    assert tuple(titles.TEMPLATES) == plan.TITLES == tuple(titles.SUPERVISORS)
    for style in titles.TEMPLATES:
        made = [titles.title(style, kind, "shop", "back", "back.0") for kind in KINDS]
        assert len(set(made)) == len(KINDS)
        assert all(title.startswith("shop") for title in made)


def test_the_plain_style_stands_without_the_metaphor() -> None:
    made = [titles.title("plain", kind, "shop", "back", "back.0") for kind in KINDS]
    assert made == ["shop: supervisor", "shop: fork server", "shop: back.0"]


@pytest.mark.parametrize(
    ("variable", "wanted", "style"),
    [
        (None, "", "mob"),
        (None, "plain", "plain"),
        ("", "plain", "plain"),
        ("plain", "", "plain"),
        ("mob", "plain", "mob"),
        ("nonsense", "plain", "mob"),
    ],
)
def test_the_environment_overrides_the_main_script(
    monkeypatch: pytest.MonkeyPatch, variable: str | None, wanted: str, style: str
) -> None:
    monkeypatch.delenv(titles.VARIABLE, raising=False)
    if variable is not None:
        monkeypatch.setenv(titles.VARIABLE, variable)
    assert titles.style_of(wanted) == style


@pytest.mark.parametrize("style", titles.TEMPLATES)
@pytest.mark.parametrize("kind", KINDS)
def test_titles_are_recognized_in_every_style(style: str, kind: str) -> None:
    made = titles.title(style, kind, "my.shop-2", "back", "back.spare2")
    assert titles.app_of(made, *KINDS) == "my.shop-2"
    assert (titles.app_of(made, titles.FORK_SERVER) == "my.shop-2") == (kind == titles.FORK_SERVER)


@pytest.mark.parametrize(
    "other", ["", "nginx: worker process", "python main.py", "postgres: checkpointer", "sshd: a@b"]
)
def test_the_titles_of_other_programs_are_not_mobs(other: str) -> None:
    assert titles.app_of(other, *KINDS) == ""
