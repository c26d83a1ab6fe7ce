"""Streams from other roles as bodies of responses: they end when the client disconnects, without the collector."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

import mob
from tests.patience import patient
from tests.running import RunningApp, apps_in, wait_until

BACK = """
    import asyncio

    opened = 0
    still_open = 0

    def count():
        global opened, still_open
        opened += 1
        still_open += 1

    def rows():
        global still_open
        count()
        try:
            n = 0
            while True:
                yield f"{(n := n + 1)}\\n"
        finally:
            still_open -= 1

    async def events(pause=0.01):
        global still_open
        count()
        try:
            n = 0
            while True:
                yield f"{(n := n + 1)}\\n"
                await asyncio.sleep(pause)
        finally:
            still_open -= 1

    def echo(item):
        return item

    def counts():
        return opened, still_open
    """

WEB = """
    import asyncio, gc
    import mob
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse, StreamingResponse
    from starlette.routing import Route

    gc.disable()
    back = mob.require("back")

    def through(stream):
        yield from stream

    async def through_async(stream):
        async for each in stream:
            yield each

    sources = [0, 0]

    def source():
        sources[0] += 1
        sources[1] += 1
        try:
            while True:
                yield "item\\n"
        finally:
            sources[1] -= 1

    async def mapped(request):
        return StreamingResponse(back.echo.map(source()))

    def mapped_in_thread(request):
        return StreamingResponse(through(back.echo.map(source())))

    def sources_open():
        return tuple(sources)

    BODIES = {
        "/call": lambda: back.events(),
        "/quiet": lambda: back.events(1000),
        "/plain": lambda: back.rows(),
        "/iterator": lambda: iter(back.rows()),
        "/stream": lambda: back.events().stream(),
        "/generator": lambda: through_async(back.events()),
        "/thread": lambda: through(back.rows()),
        "/quiet-thread": lambda: through(back.events(1000)),
    }

    async def stream(request):
        return StreamingResponse(BODIES[request.url.path]())

    async def begun(request):
        call = back.events().stream()
        await anext(call)
        return StreamingResponse(call)

    async def own_task(request):
        async def read():
            async for each in back.events():
                pass
        task = asyncio.create_task(read())
        await asyncio.sleep(0.1)
        task.cancel()
        kept.append(task)
        return PlainTextResponse("read")

    def whole(request):
        for number, each in enumerate(back.events(0.001)):
            if number == 300:
                print("read to the end", flush=True)
                return PlainTextResponse("read")

    kept = []
    routes = [Route(path, stream) for path in BODIES]
    routes += [Route("/map", mapped), Route("/map-thread", mapped_in_thread)]
    starlette = Starlette(routes=[*routes, Route("/begun", begun), Route("/task", own_task), Route("/whole", whole)])

    async def app(scope, receive, send):
        if scope["type"] != "http" or scope["path"] != "/asgi":
            return await starlette(scope, receive, send)

        async def answer():
            await send({"type": "http.response.start", "status": 200, "headers": []})
            async for each in back.events():
                await send({"type": "http.response.body", "body": each.encode(), "more_body": True})

        task = asyncio.create_task(answer())
        while (await receive())["type"] != "http.disconnect":
            pass
        task.cancel()
        kept.append(task)
    """

Site = tuple[RunningApp, int]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with apps_in(tmp_path_factory.mktemp("site")) as apps:
        roles = '.role("back", "./back.py").role("web", "./web.py:app", serve="127.0.0.1:0")'
        app = apps.start(roles, options="grace=10", back=BACK, web=WEB)
        app.wait_ready()
        yield app, int(app.wait_for(r"serving on http://127\.0\.0\.1:(\d+)$")[0][1])


def visit(port: int, path: str) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), timeout=patient(30))
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return sock


def counts(client: mob.Client) -> tuple[int, int]:
    opened, still_open = client.require("back").counts().result(patient(30))
    return opened, still_open


PATHS = [
    "/call",
    "/quiet",
    "/plain",
    "/iterator",
    "/stream",
    "/generator",
    "/thread",
    "/quiet-thread",
    "/begun",
    "/asgi",
]


@pytest.mark.parametrize("path", PATHS)
def test_the_streams_of_visitors_who_leave_are_closed(site: Site, path: str) -> None:
    app, port = site
    client = app.clients[0]
    before, _ = counts(client)
    visitors = [visit(port, path) for _ in range(3)]
    for each in visitors:
        assert each.recv(15) == b"HTTP/1.1 200 OK"
    wait_until(lambda: counts(client)[0] == before + 3, "each has a stream")
    for each in visitors:
        each.close()
    wait_until(lambda: counts(client)[1] == 0, "all are closed")


@pytest.mark.parametrize("path", ["/map", "/map-thread"])
def test_the_maps_of_visitors_who_leave_are_closed(site: Site, path: str) -> None:
    app, port = site
    web = app.clients[0].require("web")
    before, _ = web.sources_open().result(patient(30))
    visitors = [visit(port, path) for _ in range(3)]
    for each in visitors:
        assert each.recv(15) == b"HTTP/1.1 200 OK"
    wait_until(lambda: web.sources_open().result(patient(30))[0] == before + 3, "each has a map")
    for each in visitors:
        each.close()
    wait_until(lambda: web.sources_open().result(patient(30))[1] == 0, "all are closed")


def test_the_stream_of_a_task_that_was_cancelled_is_closed(site: Site) -> None:
    """Even if something keeps the task, and its error with it."""
    app, port = site
    before, _ = counts(app.clients[0])
    with visit(port, "/task") as visitor:
        assert visitor.recv(15) == b"HTTP/1.1 200 OK"
    assert counts(app.clients[0])[0] == before + 1
    wait_until(lambda: counts(app.clients[0])[1] == 0, "it is closed")


def test_what_a_handler_reads_for_itself_is_read_to_its_end(site: Site) -> None:
    """In a thread, before it answers, although the client disconnected."""
    app, port = site
    before, _ = counts(app.clients[0])
    visitor = visit(port, "/whole")
    wait_until(lambda: counts(app.clients[0])[0] == before + 1, "it reads")
    visitor.close()
    app.wait_for("read to the end")
    wait_until(lambda: counts(app.clients[0])[1] == 0, "it is closed")


def test_a_wait_for_an_item_that_is_given_up_does_not_end_the_stream(site: Site) -> None:
    client = site[0].clients[0]

    async def read() -> list[object]:
        stream = client.require("back").events(0.2).stream()
        items: list[object] = []
        while len(items) < 3:
            try:
                items.append(await asyncio.wait_for(anext(stream), 0.05))
            except TimeoutError:
                continue
        stream.close()
        return items

    assert asyncio.run(read()) == ["1\n", "2\n", "3\n"]


def test_a_cancelled_task_hands_its_stream_over_before(site: Site) -> None:
    """Another task read from it afterwards, so it is not closed."""
    client = site[0].clients[0]

    async def read() -> list[object]:
        stream = client.require("back").events().stream()

        async def one() -> None:
            await anext(stream)
            await asyncio.sleep(1000)

        task = asyncio.create_task(one())
        await asyncio.sleep(0)  # it begins
        items = [await anext(stream)]
        task.cancel()
        await asyncio.wait({task})
        items.append(await anext(stream))
        stream.close()
        return items

    assert len(asyncio.run(read())) == 2


@pytest.fixture(autouse=True)
def closed(site: Site) -> Iterator[None]:
    yield
    wait_until(lambda: counts(site[0].clients[0])[1] == 0, "all streams are closed")
