"""The GPUs of a machine, and the GPUs of each role."""

from __future__ import annotations

from pathlib import Path

import pytest

from mob.errors import PlanError
from mob.plan import Plan, RolePlan
from mob.rim.devices import assigned


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the root directory of a machine without GPUs."""
    (tmp_path / "dev").mkdir()
    return tmp_path


def insert(root: Path, *numbers: int) -> None:
    """Add GPUs with these numbers to the machine."""
    for name in ("nvidiactl", "nvidia-uvm", *(f"nvidia{number}" for number in numbers)):
        (root / "dev" / name).touch()


def plan(*roles: RolePlan) -> Plan:
    return Plan("app", "/", roles)


def devices(root: Path, *roles: RolePlan, **environ: str) -> dict[str, tuple[str, ...]]:
    return {role.name: role.devices for role in assigned(plan(*roles), environ, root).roles}


def test_without_gpus_nothing_is_looked_at(tmp_path: Path) -> None:
    described = plan(RolePlan("back", "back", env={"CUDA_VISIBLE_DEVICES": "7"}))
    assert assigned(described, {}, tmp_path / "nowhere") is described


def test_the_gpus_of_a_machine_go_to_the_only_role(root: Path) -> None:
    insert(root, 0, 1, 2)
    assert devices(root, RolePlan("infer", "infer", workers=2, gpus=1)) == {"infer": ("0", "1", "2")}


def test_cuda_numbers_those_that_a_container_was_given_from_0(root: Path) -> None:
    insert(root, 4, 11)
    assert devices(root, RolePlan("infer", "infer", gpus=1)) == {"infer": ("0", "1")}


def test_without_device_files_the_driver_is_asked(root: Path) -> None:
    for name in ("0000:01:00.0", "0000:41:00.0"):
        (root / "proc/driver/nvidia/gpus" / name).mkdir(parents=True)
    assert devices(root, RolePlan("infer", "infer", workers=2, gpus=1)) == {"infer": ("0", "1")}
    with pytest.raises(PlanError, match=r"there are 2 for it \(in /proc/driver/nvidia/gpus\)"):
        devices(root, RolePlan("infer", "infer", workers=3, gpus=1))


@pytest.mark.parametrize(
    ("listed", "found"),
    [
        ("2,5", ("2", "5")),
        (" 2 , GPU-8932f937-d72c ", ("2", "GPU-8932f937-d72c")),
        ("1,-1,2", ("1",)),
        ("1,,2", ("1",)),
    ],
)
def test_the_list_of_the_app_counts_as_cuda_reads_it(root: Path, listed: str, found: tuple[str, ...]) -> None:
    insert(root, *range(8))
    assert devices(root, RolePlan("infer", "infer", gpus=1), CUDA_VISIBLE_DEVICES=listed) == {"infer": found}


@pytest.mark.parametrize(
    ("passed", "found"),
    [
        ("GPU-1a,GPU-2b", ("GPU-1a", "GPU-2b")),
        ("MIG-1a", ("MIG-1a",)),
        ("all", ("0", "1")),
        ("3,4", ("0", "1")),
        ("void", ("0", "1")),
    ],
)
def test_what_a_container_was_given_by_name(root: Path, passed: str, found: tuple[str, ...]) -> None:
    insert(root, 0, 1)
    assert devices(root, RolePlan("infer", "infer", gpus=1), NVIDIA_VISIBLE_DEVICES=passed) == {"infer": found}


def test_each_role_has_gpus_of_its_own(root: Path) -> None:
    insert(root, *range(6))
    roles = (
        RolePlan("train", "train", workers=1, max_workers=2, gpus=1),
        RolePlan("back", "back", workers=9),
        RolePlan("embed", "embed", workers=5, gpus=0.25),
        RolePlan("infer", "infer", gpus=1),
    )
    assert devices(root, *roles) == {"train": ("0", "1"), "back": (), "embed": ("2", "3"), "infer": ("4", "5")}


def test_a_role_that_names_its_gpus_has_these(root: Path) -> None:
    insert(root, 0, 1)
    roles = (
        RolePlan("named", "named", gpus=1, env={"CUDA_VISIBLE_DEVICES": "1"}),
        RolePlan("infer", "infer", workers=2, gpus=1),
    )
    assert devices(root, *roles) == {"named": ("1",), "infer": ("0", "1")}


@pytest.mark.parametrize(
    ("role", "environ", "told"),
    [
        (
            RolePlan("infer", "infer", workers=4, gpus=1),
            {},
            "role 'infer': workers=4 and gpus=1 need 4 GPUs, and there are 2 for it (2 files /dev/nvidia*).",
        ),
        (
            RolePlan("infer", "infer", workers=1, max_workers=2, gpus=2),
            {},
            "role 'infer': max_workers=2 and gpus=2 need 4 GPUs, and there are 2 for it (2 files /dev/nvidia*).",
        ),
        (
            RolePlan("infer", "infer", workers=3, gpus=0.5),
            {"CUDA_VISIBLE_DEVICES": "3"},
            "role 'infer': workers=3 and gpus=0.5 need 2 GPUs, and there is 1 for it (CUDA_VISIBLE_DEVICES=3).",
        ),
        (
            RolePlan("infer", "infer", gpus=1, env={"CUDA_VISIBLE_DEVICES": ""}),
            {},
            "role 'infer': workers=1 and gpus=1 need 1 GPU, and there are 0 for it (its env CUDA_VISIBLE_DEVICES).",
        ),
    ],
)
def test_too_few_gpus_are_said(root: Path, role: RolePlan, environ: dict[str, str], told: str) -> None:
    insert(root, 0, 1)
    with pytest.raises(PlanError) as caught:
        devices(root, role, **environ)
    assert str(caught.value) == (
        f"{told} Use fewer workers, share devices (gpus=0.5), or name the devices: CUDA_VISIBLE_DEVICES=0,1."
    )


def test_a_machine_without_gpus_and_one_whose_gpus_others_have_say_so(root: Path) -> None:
    with pytest.raises(PlanError, match=r"there are 0 for it \(neither /dev/nvidia0 nor /proc/driver/nvidia/gpus is"):
        devices(root, RolePlan("infer", "infer", gpus=1))
    insert(root, 0)
    with pytest.raises(
        PlanError, match=r"role 'b': .* there are 0 for it \(1 file /dev/nvidia\*, of which other roles"
    ):
        devices(root, RolePlan("a", "a", gpus=1), RolePlan("b", "b", gpus=1))
