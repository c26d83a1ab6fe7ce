"""Sizes and numbers of workers as text: what is read, and the text of each refusal."""

from __future__ import annotations

import pytest

from mob.errors import PlanError
from mob.sizes import settled, size_of, workers_of

KIB, MIB, GIB = 1024, 1024**2, 1024**3


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("12B", 12),
        ("64k", 64 * KIB),
        ("64K", 64 * KIB),
        ("64kB", 64 * KIB),
        ("500M", 500 * MIB),
        ("500MB", 500 * MIB),
        ("500 MiB", 500 * MIB),
        ("500Mi", 500 * MIB),
        (" 2g ", 2 * GIB),
        ("1.5G", 3 * GIB // 2),
        ("0.1k", 102),
        ("1T", 1024 * GIB),
        ("1.0000000001T", 1024 * GIB + 110),
    ],
)
def test_a_size(text: str, size: int) -> None:
    assert size_of(text) == size


@pytest.mark.parametrize("text", ["", "M", "-1M", "1e3", "5X", "5 M B", "1,5G", "1.G", ".5G", "٣M", "iB", "5i", "0x10"])
@pytest.mark.parametrize("option", ["max_memory", "shared_memory", "frame_limit", "backlog", "max_bytes"])
def test_what_is_no_size_is_named(option: str, text: str) -> None:
    with pytest.raises(PlanError) as caught:
        settled({option: text}, lambda: 4)
    assert str(caught.value) == (
        f"{option}={text!r} is not a size. Expected: a number of bytes, or one with k, M, G or T, such as "
        f'"500M" or "1.5G".'
    )


@pytest.mark.parametrize(
    ("text", "cores", "count"),
    [
        ("cores", 4, 4),
        (" cores ", 1, 1),
        ("cores*2", 4, 8),
        ("cores * 2", 4, 8),
        ("cores+1", 4, 5),
        ("cores-1", 4, 3),
        ("cores-1", 1, 1),
        ("cores/2", 5, 2),
        ("cores/2", 1, 1),
        ("cores*0", 4, 1),
    ],
)
def test_a_number_of_workers(text: str, cores: int, count: int) -> None:
    assert workers_of(text, cores) == count


@pytest.mark.parametrize("text", ["", "core", "cores/0", "cores**2", "2*cores", "cores*2*2", "4", "cores*1.5", "Cores"])
@pytest.mark.parametrize("option", ["workers", "max_workers"])
def test_what_is_no_number_of_workers_is_named(option: str, text: str) -> None:
    with pytest.raises(PlanError) as caught:
        settled({option: text}, lambda: 4)
    assert str(caught.value) == (
        f'{option}={text!r} is not a number of workers. Expected: a whole number of at least 1, "cores", or one such '
        f'as "cores*2".'
    )


def test_options_with_text_of_their_own_and_with_numbers_stay_as_they_are() -> None:
    options = {
        "max_memory": None,
        "workers": 3,
        "shared_memory": 0,
        "loop": "asyncio",
        "serve": "1M",
        "env": {"A": "1M"},
    }
    asked: list[int] = []
    assert settled(options, lambda: asked.append(1) or 4) == options
    assert not asked, "the number of cores was not looked up"
