"""The lock of the other shapes of a call, in a forked child."""

from __future__ import annotations

import os

from mob.peer.results import futures


def test_a_child_does_not_wait_for_a_thread_that_it_has_not_got() -> None:
    with futures._making:
        child = os.fork()
        if not child:
            os._exit(0 if futures._making.acquire(blocking=False) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert not futures._making.locked()
