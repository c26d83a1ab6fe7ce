"""Memory barriers that one process imposes on others."""

from __future__ import annotations

import platform
import sys

import pytest

from mob.rim import barriers


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has them")
def test_the_system_does_it() -> None:
    if not barriers.expect():
        pytest.skip("the kernel or a sandbox forbids it")
    assert barriers.impose()


def test_an_unknown_machine_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "abacus")
    assert not barriers.expect()
    assert not barriers.impose()
