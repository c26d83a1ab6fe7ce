"""What a process gets by its place."""

from __future__ import annotations

import pytest

from mob.core.placing import placed_at
from mob.plan import RolePlan


def test_a_role_that_says_nothing_of_places_is_the_same_in_all_of_them() -> None:
    role = RolePlan("back", "back")
    assert placed_at(role, 3, 4, "shop", "alpha") is role


def test_names_are_filled_in() -> None:
    role = RolePlan("back", "back", env={"ME": "{app}/{role}.{index} of {workers} on {node}", "RAW": "{{index}}"})
    assert placed_at(role, 1, 4, "shop", "alpha").env == {"ME": "shop/back.1 of 4 on alpha", "RAW": "{index}"}


@pytest.mark.parametrize(("gpus", "places"), [(1, ["a", "b", "c", "d"]), (2, ["a,b", "c,d"]), (0.5, ["a", "a", "b"])])
def test_each_place_has_its_gpus(gpus: float, places: list[str]) -> None:
    role = RolePlan("back", "back", gpus=gpus, devices=("a", "b", "c", "d"), env={"CUDA_VISIBLE_DEVICES": "all"})
    for index, wanted in enumerate(places):
        assert placed_at(role, index, 4, "shop", "alpha").env["CUDA_VISIBLE_DEVICES"] == wanted
