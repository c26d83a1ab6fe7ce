"""A call that was sent instead of its value names itself and the remedy, in each direction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import mob
from tests.patience import patient
from tests.running import Apps

ITER = "Send what it yields, or iter(...) of it."
BACK = """
def hi(*args): return "hi"
def rows():
    yield from range(100)
"""
FRONT = """
import mob

back = mob.require("back")

async def fetch(): return 1
def returned(): return {"x": back.hi()}
async def returned_later(): return [await back.hi(), back.hi()]
async def coroutine(): return {"x": fetch()}
async def passed(): return await back.hi([back.hi()])
async def named(): return await back.hi(x=fetch())
async def stream():
    rows = back.rows()
    async for row in rows:
        return {"rows": rows}
async def iterated(): return [row async for row in back.rows()][:2]
def yielded(): yield back.hi()
def right(): return back.hi()
"""


USES: list[Callable[[Any], Any]] = [
    lambda call: call["a"],
    lambda call: call + 1,
    lambda call: 1 + call,
    lambda call: sum([call]),
    lambda call: call / 2.0,
    lambda call: call < 3,
    lambda call: max(3, call),
    lambda call: -call,
]


def result(call: Any) -> Any:
    return call.result(patient(20))


def test_the_forgotten_await_is_named(apps: Apps) -> None:
    app = apps.start('.role("front", "./front.py").role("back", "./back.py")', front=FRONT, back=BACK)
    app.wait_ready()
    told = {
        "returned": "cannot send result['x']: the call back.hi() is not data. Await it, or send its .result().",
        "returned_later": "cannot send result[1]: the call back.hi() is not data. Await it, or send its .result().",
        "coroutine": "cannot send result['x']: the coroutine fetch() is not data. Await it, and send its result.",
        "passed": "cannot send args[0][0]: the call back.hi() is not data. Await it, or send its .result().",
        "named": "cannot send kwargs['x']: the coroutine fetch() is not data. Await it, and send its result.",
        "stream": f"cannot send result['rows']: the stream back.rows() is not data. {ITER}",
    }
    with mob.connect(app.name) as client:
        front = client.require("front")
        for name, text in told.items():
            with pytest.raises(mob.RemoteError) as caught:
                result(getattr(front, name)())
            assert str(caught.value).endswith(text)
        with pytest.raises(mob.CallError, match="cannot send item: the call back"):
            list(front.yielded())
        assert result(front.right()) == "hi"
        assert result(front.iterated()) == [0, 1]


def test_a_call_that_is_used_as_its_value_says_what_to_do(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back=BACK)
    app.wait_ready()
    with mob.connect(app.name) as client:
        call: Any = client.require("back").hi()
        wanted = r"the call back\.hi\(\) {}: await it, or ask for its \.result\(\)\.$"
        for use in USES:
            with pytest.raises(TypeError, match=wanted.format("is not its value")):
                use(call)
        assert call
        assert call == call
        assert result(call) == "hi"
