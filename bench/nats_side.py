"""nats-py by itself, for `python -m bench.clustering`: `python -m bench.nats_side SERVER answer|ask`.

`answer` answers requests with what they bring. `ask` reads lines of JSON, [what, n, width], and answers each with the
seconds that it took: n times so many requests at once, or n one after another.
"""

from __future__ import annotations

import asyncio
import json
import sys
from time import perf_counter

import nats
import uvloop
from nats.aio.msg import Msg

SUBJECT = "bench.echo"
BODY = b"\x93\x01\x01\xa4echo"
"""About as many bytes as a call of mob's has."""


async def answer(server: str) -> None:
    client = await nats.connect(server)

    async def handle(message: Msg) -> None:
        await message.respond(message.data)

    await client.subscribe(SUBJECT, cb=handle)
    await client.flush()
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await client.close()


async def ask(server: str) -> None:
    client = await nats.connect(server)
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        what, n, width = json.loads(line)
        start = perf_counter()
        if what == "at_once":
            for _ in range(n):
                await asyncio.gather(*(client.request(SUBJECT, BODY, timeout=30) for _ in range(width)))
        else:
            for _ in range(n):
                await client.request(SUBJECT, BODY, timeout=30)
        print(perf_counter() - start, flush=True)
    await client.close()


if __name__ == "__main__":
    uvloop.run({"answer": answer, "ask": ask}[sys.argv[2]](sys.argv[1]))
