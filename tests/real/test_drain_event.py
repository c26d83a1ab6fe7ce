"""The event `drain`: a mobster is notified at the beginning of its end, while its work still goes on."""

from __future__ import annotations

import pytest

from tests.patience import patient
from tests.running import Apps

BACK = """
    import asyncio
    import mob

    over = asyncio.Event()

    async def wait():
        print("waits")
        await over.wait()
        return "let go"

    @mob.on("drain")
    def drain():
        print("drains")
        over.set()

    @mob.on("drain")
    def fails():
        raise ValueError("not that")

    @mob.on("drain")
    async def say_goodbye():
        await asyncio.sleep(0.3)
        print("has said goodbye")

    @mob.on("stop")
    def stop():
        print("stops")

    def leave():
        mob.exit(0)
    """


@pytest.mark.parametrize("how", ["stop", "reload", "exit"])
def test_handlers_of_drain_are_called_when_the_end_begins(apps: Apps, how: str) -> None:
    """Handlers run before the calls under way end; errors are logged, and coroutines are waited for."""
    app = apps.start('.role("back", "./back.py")', back=BACK)
    client = app.wait_ready()
    call = client.require("back").wait()
    app.wait_for("waits")
    if how == "stop":
        app.signal(15)
    elif how == "reload":
        client.reload("back")
    else:
        client.require("back").leave()
    assert call.result(patient(20)) == "let go"
    app.wait_for(r"\| stops")
    app.wait_for("a handler of 'drain' raised ValueError: not that")
    said = [line.rpartition("| ")[2] for line in app.lines]
    assert said.index("drains") < said.index("has said goodbye") < said.index("stops")


def test_a_handler_of_drain_that_never_ends_is_cancelled(apps: Apps) -> None:
    back = """
        import asyncio
        import mob

        @mob.on("drain")
        async def drain():
            try:
                await asyncio.sleep(1_000_000)
            finally:
                print("cancelled")

        @mob.on("stop")
        def stop():
            print("stops")
        """
    app = apps.start('.role("back", "./back.py")', options="grace=2", back=back)
    app.wait_ready()
    assert app.stop() == 0
    said = [line.rpartition("| ")[2] for line in app.lines]
    assert said.index("cancelled") < said.index("stops")
    app.wait_for("handlers of 'drain' did not end within the grace period: 1")


BLOCKING = """
    import threading
    import mob

    @mob.on("drain")
    def drain():
        print("drains")

    mob.ready()
    threading.Event().wait()
    """


def test_a_module_that_blocks_hears_of_it(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back=BLOCKING)
    app.wait_ready()
    assert app.stop() == 0
    app.wait_for(r"\| drains")
