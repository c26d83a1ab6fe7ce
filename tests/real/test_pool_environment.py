"""The environment variables of the workers of a pool."""

from __future__ import annotations

import os

import pytest

import mob


def test_workers_have_the_variables_of_their_pool_and_those_of_the_process() -> None:
    with mob.Pool(1, env={"OMP_NUM_THREADS": "3"}) as pool:
        assert pool.submit(os.getenv, "OMP_NUM_THREADS").result() == "3"
        assert pool.submit(os.getenv, "PATH").result() == os.environ["PATH"]


def test_a_pool_does_not_take_over_workers_with_other_variables() -> None:
    with mob.Pool(1, env={"OMP_NUM_THREADS": "3"}) as pool:
        assert pool.submit(os.getenv, "OMP_NUM_THREADS").result() == "3"
    with mob.Pool(1) as pool:
        assert pool.submit(os.getenv, "OMP_NUM_THREADS").result() == os.environ.get("OMP_NUM_THREADS")


@pytest.mark.parametrize(
    ("env", "told"),
    [
        ({"A": 1}, "env={'A': 1} is not a dict of names and texts"),
        ({1: "a"}, "env={1: 'a'} is not a dict of names and texts"),
        ({"PYTHONHASHSEED": "1"}, "env={'PYTHONHASHSEED': ...} would have no effect"),
    ],
)
def test_variables_that_cannot_be_set_are_refused_at_once(env: dict[str, str], told: str) -> None:
    with pytest.raises(ValueError, match="env=") as caught:
        mob.Pool(1, env=env)
    assert told in str(caught.value)
