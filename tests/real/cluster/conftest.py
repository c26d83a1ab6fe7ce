"""Fixtures for apps that run on several machines, all of which are this one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.cluster.hosts import Network, missing
from tests.real.cluster.machines import Nats, Nodes, nodes_in


@pytest.fixture(scope="session")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nats]:
    """A NATS server with JetStream that all tests share; tests that stop or kill one use `own_nats`."""
    with Nats(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
def own_nats(tmp_path: Path) -> Iterator[Nats]:
    """A NATS server with JetStream for this test alone: it may be stopped, killed and started again."""
    with Nats(tmp_path / "nats") as server:
        yield server


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    """Starts one app as several nodes, and cleans up after them."""
    with nodes_in(tmp_path) as running:
        yield running


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    """Hosts that are network namespaces, with apps on them; cleaned up at the end."""
    if why := missing():
        pytest.skip(why)
    made = Network(tmp_path)
    try:
        yield made
    finally:
        made.end()
