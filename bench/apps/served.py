"""The application that `bench/serving.py` has served: texts, JSON, work of 5 ms, the pid of a worker. Plain ASGI."""

import json
import os
import time

TEXT = b"Hello, world!"
ROWS = json.dumps([{"id": number, "name": f"item {number}", "price": number / 4} for number in range(22)]).encode()
BODIES = {
    "/": (b"text/plain", TEXT),
    "/json": (b"application/json", ROWS),
    "/pid": (b"text/plain", b""),
    "/work": (b"text/plain", TEXT),
}


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return
    kind, body = BODIES[scope["path"]]
    body = body or str(os.getpid()).encode()
    if scope["path"] == "/work":
        time.sleep(0.005)  # nobody else is served by this worker meanwhile
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
