"""Templates in the environment of a role: what is one, what is filled in, and the text of each refusal."""

from __future__ import annotations

import pytest

from mob.errors import PlanError
from mob.templates import NAMES, check, escaped, filled, mentions

VALUES = {name: name.upper() for name in NAMES}


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("{index}/{workers}", "INDEX/WORKERS"),
        ("{role} of {app} on {node}", "ROLE of APP on NODE"),
        ("{{index}}", "{index}"),
        ("{{nothing}}", "{nothing}"),
        ("${index}", "${index}"),
        ("{{{index}}}", "{{index}}"),
        ('{"a": {"b": 1}}', '{"a": {"b": 1}}'),
        ("${HOME} {} { index } {0} %d", "${HOME} {} { index } {0} %d"),
        ("", ""),
    ],
)
def test_names_in_braces_are_filled_in(text: str, becomes: str) -> None:
    check("back", {"A": text})
    assert filled({"A": text}, VALUES) == {"A": becomes}


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("indx", "Did you mean 'index'?"),
        ("uid", "There are: 'app', 'index', 'node', 'role', 'workers'."),
    ],
)
def test_a_name_that_there_is_not(name: str, nearest: str) -> None:
    with pytest.raises(PlanError) as caught:
        check("back", {"A": "1", "SHARD": f"{{{name}}}/4"})
    assert str(caught.value) == (
        f"role 'back': env={{'SHARD': '{{{name}}}/4'}}: unknown name {{{name}}}. {nearest} "
        f"For the text itself write {{{{{name}}}}}."
    )


def test_who_has_a_name_in_it() -> None:
    env = {"A": "{index}", "B": "{{workers}}"}
    assert mentions(env, "index")
    assert not mentions(env, "workers")


@pytest.mark.parametrize("text", ["{index}", "{{index}}", "{}", "secret{nothing}{{x}}", "plain"])
def test_what_is_escaped_comes_out_as_it_was(text: str) -> None:
    assert filled({"A": escaped(text)}, {}) == {"A": text}
