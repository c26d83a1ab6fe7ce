"""One value that is too deep for its receiver fails its own call, and no other one."""

from __future__ import annotations

import pytest

from tests.running import Apps

BACK = """
    import asyncio
    import msgspec

    let_go = asyncio.Event()

    async def slow():
        await let_go.wait()
        return "slow is done"

    def take(value):
        let_go.set()
        return "taken"

    def deep():
        return msgspec.Raw(b"\\x91" * 100_000 + b"\\xc0")  # arrays in arrays, and no stack of the sender's

    async def rows():
        yield 1
        yield deep()
    """
FRONT = """
    import asyncio
    import mob
    import msgspec

    back = mob.require("back")

    async def ask():
        slow = asyncio.ensure_future(back.slow())
        value = msgspec.Raw(b"\\x91" * 100_000 + b"\\xc0")
        answers = await asyncio.gather(back.take(value), return_exceptions=True)
        await back.take(1)
        return [str(answer) for answer in [*answers, await slow]]

    async def get(how):
        slow = asyncio.ensure_future(back.slow())
        answers = []
        try:
            if how == "rows":
                async for row in back.rows():
                    answers.append(str(row))
            else:
                answers.append(str(await back.deep()))
        except mob.CallError as error:
            answers.append(str(error))
        await back.take(1)
        return [*answers, await slow]
    """


@pytest.mark.parametrize("how", ["argument", "result", "rows"])
def test_one_value_is_too_deep(apps: Apps, how: str) -> None:
    app = apps.start('.role("back", "./back.py").role("front", "./front.py")', back=BACK, front=FRONT)
    front = app.wait_ready().require("front")
    *first, error, slow = (front.ask() if how == "argument" else front.get(how)).result()
    assert slow == "slow is done"
    assert "nested too deeply" in error
    assert first == (["1"] if how == "rows" else [])
