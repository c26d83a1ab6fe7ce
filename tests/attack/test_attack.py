"""A few inputs of each fuzzer, so that they go on working; `make attack` is what finds something."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from tests.attack.pure import PURE
from tests.attack.rounds import Found, attack, play
from tests.attack.running import RUNNING, target

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize("name", PURE)
def test_no_input_does_harm(name: str) -> None:
    strategy, examine = PURE[name]
    play(strategy, examine, seed=1, examples=40)


@pytest.mark.parametrize("name", RUNNING)
def test_no_input_does_harm_to_an_app(name: str) -> None:
    strategy, examiner = RUNNING[name]
    with target() as found:
        play(strategy, examiner(found), seed=1, examples=20)


def test_what_does_harm_is_told_with_its_seed() -> None:
    def examine(number: int) -> None:
        assert number < 1000

    with pytest.raises(Found, match=r"^numbers, seed 7: AssertionError"):
        attack("numbers", st.integers(), examine, seed=7, seconds=60)


def test_a_seed_makes_the_same_inputs_again() -> None:
    def inputs(seed: int) -> list[bytes]:
        seen: list[Any] = []
        note: Callable[[Any], None] = seen.append
        play(st.binary(), note, seed, examples=20)
        return seen

    assert inputs(3) == inputs(3) != inputs(4)


def test_a_fuzzer_that_there_is_not_is_refused() -> None:
    command = [sys.executable, "-m", "tests.attack", "earthquake"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "there is no fuzzer 'earthquake'; there are frames, decoders, gateway, desk, links." in ended.stderr
