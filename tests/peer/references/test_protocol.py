"""The protocol of all kinds of references, which only types use: here it is compared with the kinds."""

from __future__ import annotations

import inspect

import pytest

from mob.peer.references import protocol
from mob.peer.references.buffers import Buffers
from mob.peer.references.descriptors import Descriptors
from mob.peer.references.functions import Functions


@pytest.mark.parametrize("kind", [Buffers, Descriptors, Functions])
def test_each_kind_has_what_is_asked_of_it(kind: type) -> None:
    asked = {name for name, _ in inspect.getmembers(protocol.Crossing, inspect.isfunction) if not name.startswith("_")}
    assert asked == {"hold", "unpin", "give_back", "owner_gone", "sweep"}
    for name in asked:
        ours, theirs = (inspect.signature(getattr(each, name)) for each in (kind, protocol.Crossing))
        assert len(ours.parameters) == len(theirs.parameters), name
