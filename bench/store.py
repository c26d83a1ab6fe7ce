"""`python -m bench.store`: a store of mob beside Redis on the loopback. Writes bench/STORE.md.

    python -m bench.store            all rows; about four minutes
    python -m bench.store --quick    to see that it works, not to quote

Both are used by the same worker of a mob app, on the same loop (uvloop), with values of about 100 bytes: Redis through
redis-py with hiredis over TCP, with pickle for what is no number; mob by `mob.store`. In each round every row runs on
both, one right after the other, and who comes first changes. Figures are medians of the rounds; ratios are medians of
the ratios of the single rounds.

* asyncio: 1 or 100 tasks that call again as soon as they are answered.
* threads: 1 or 8 threads of the role, each of which calls again as soon as it is answered.
* many: 100 keys in one message, `get_many` beside `MGET`, `set_many` beside a pipeline of 100 `SET`.

Redis runs with its defaults, but without snapshots; with `appendonly` (`appendfsync everysec`) beside a store with
`file=`, which answers when a change is in the file.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import mob
from bench.measure import cpu_model, versions
from bench.mob_side import free_port, new_name

REPORT = Path(__file__).with_name("STORE.md")
WORKER = """
import asyncio
import os
import pickle
from time import perf_counter

import mob
import redis
import redis.asyncio

VALUE = {"name": "Ada Lovelace", "mail": "ada@example.com", "tags": ["admin", "staff"], "visits": 12345}
STORES = {"mob": mob.store("memory"), "mob file": mob.store("file")}
PORTS = {"Redis": int(os.environ["PORT"]), "Redis file": int(os.environ["PORT_AOF"])}
ASYNC = {side: redis.asyncio.Redis(port=port) for side, port in PORTS.items()}
PLAIN = {side: redis.Redis(port=port) for side, port in PORTS.items()}


def redis_ops(client):
    def sealed_get(key):
        found = client.get(key)
        return None if found is None else pickle.loads(found)

    async def sealed_get_async(key):
        return pickle.loads(await client.get(key))

    is_async = isinstance(client, redis.asyncio.Redis)
    return {
        "get": lambda: (sealed_get_async if is_async else sealed_get)("key"),
        "set": lambda: client.set("key", pickle.dumps(VALUE)),
        "set, ttl": lambda: client.set("other", pickle.dumps(VALUE), ex=60),
        "add": lambda: client.incrby("n", 1),
    }


def mob_ops(store):
    return {
        "get": lambda: store.get("key"),
        "set": lambda: store.set("key", VALUE),
        "set, ttl": lambda: store.set("other", VALUE, ttl=60),
        "add": lambda: store.add("n"),
    }


MOB = {side: mob_ops(store) for side, store in STORES.items()}
REDIS = {side: redis_ops(client) for side, client in ASYNC.items()}
REDIS_PLAIN = {side: redis_ops(client) for side, client in PLAIN.items()}


async def tasks(side, op, width, seconds):
    do = (MOB.get(side) or REDIS[side])[op]
    end, counts = perf_counter() + seconds, []

    async def again():
        count = 0
        while perf_counter() < end:
            await do()
            count += 1
        counts.append(count)

    began = perf_counter()
    await asyncio.gather(*[again() for _ in range(width)])
    return sum(counts) / (perf_counter() - began)


def thread(side, op, seconds):
    end, count = perf_counter() + seconds, 0
    if side in MOB:
        do = MOB[side][op]
        while perf_counter() < end:
            do().result()
            count += 1
    else:
        do = REDIS_PLAIN[side][op]
        while perf_counter() < end:
            do()
            count += 1
    return count / seconds


async def many(side, op, seconds):
    keys = [f"key{number}" for number in range(100)]
    end, count, began = perf_counter() + seconds, 0, perf_counter()
    while perf_counter() < end:
        if side in MOB and op == "get":
            await STORES[side].get_many(keys)
        elif side in MOB:
            await STORES[side].set_many({key: VALUE for key in keys})
        elif op == "get":
            [found and pickle.loads(found) for found in await ASYNC[side].mget(keys)]
        else:
            async with ASYNC[side].pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.set(key, pickle.dumps(VALUE))
                await pipe.execute()
        count += 100
    return count / (perf_counter() - began)
"""
OPS = ("get", "set", "set, ttl", "add")
ROWS = [
    *[("asyncio", op, width) for width in (1, 100) for op in OPS],
    *[("threads", op, width) for width in (1, 8) for op in OPS],
    ("many", "set", 1),
    ("many", "get", 1),
]
FILE_ROWS = [("asyncio", "set", 1), ("asyncio", "set", 100), ("threads", "set", 8), ("asyncio", "add", 100)]
TITLES = {
    ("asyncio", 1): "asyncio, one after another",
    ("asyncio", 100): "asyncio, 100 at once",
    ("threads", 1): "one thread",
    ("threads", 8): "8 threads",
    ("many", 1): "asyncio, 100 keys in one message",
}


@contextmanager
def redis_server(directory: str, port: int, *options: str) -> Iterator[None]:
    command = shutil.which("redis-server")
    if command is None:
        raise SystemExit("There is no redis-server. Try: apt install redis-server")
    server = subprocess.Popen(
        [command, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", directory, *options],
        stdout=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        server.terminate()
        server.wait()


def measure(worker: Any, side: str, row: tuple[str, str, int], seconds: float) -> float:
    kind, op, width = row
    if kind == "asyncio":
        return worker.tasks(side, op, width, seconds).result()
    if kind == "many":
        return worker.many(side, op, seconds).result()
    return sum(call.result() for call in [worker.thread(side, op, seconds) for _ in range(width)])


def measured(rounds: int, seconds: float) -> list[str]:
    port, port_aof = free_port(), free_port()
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "worker.py").write_text(WORKER)
        Path(directory, "aof").mkdir()
        app = mob.start(new_name()).base(directory).store("memory").store("file", file="store.db")
        app.role("worker", "./worker.py", threads=8, env={"PORT": str(port), "PORT_AOF": str(port_aof)})
        with (
            redis_server(directory, port),
            redis_server(f"{directory}/aof", port_aof, "--appendonly", "yes"),
            app.up() as client,
        ):
            time.sleep(0.5)
            worker = client.require("worker")
            lines = _table(worker, ("mob", "Redis"), ROWS, rounds, seconds)
            return [*lines, "", *_table(worker, ("mob file", "Redis file"), FILE_ROWS, rounds, seconds)]


def _table(worker: Any, sides: tuple[str, str], rows: Any, rounds: int, seconds: float) -> list[str]:
    figures: dict[Any, list[tuple[float, float]]] = {row: [] for row in rows}
    for side in sides:
        measure(worker, side, ("many", "set", 1), 0.1)
        for op in ("set", "add"):
            measure(worker, side, ("threads", op, 8), 0.1)
            measure(worker, side, ("asyncio", op, 100), 0.1)
    for turn in range(rounds):
        for row in rows:
            first, second = sides if turn % 2 == 0 else sides[::-1]
            taken = {side: measure(worker, side, row, seconds) for side in (first, second)}
            figures[row].append((taken[sides[0]], taken[sides[1]]))
    lines = [f"| per second | {sides[0]} | {sides[1]} | ratio |", "|---|---|---|---|"]
    for (kind, op, width), found in figures.items():
        ours, theirs = (median(pair[index] for pair in found) for index in (0, 1))
        ratio = median(mine / other for mine, other in found)
        lines.append(f"| {op}, {TITLES[kind, width]} | {ours:,.0f} | {theirs:,.0f} | {ratio:.1f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description="A store of mob beside Redis.")
    parser.add_argument("--quick", action="store_true", help="to see that it works, not to quote")
    is_quick = parser.parse_args().quick
    lines = measured(2, 0.3) if is_quick else measured(7, 1.0)
    print("\n".join(lines))
    if not is_quick:
        server = subprocess.run(
            ["redis-server", "--version"], capture_output=True, text=True, check=True
        ).stdout.split()
        head = ["# A store beside Redis", "", "Written by `python -m bench.store`, which says what is measured.", ""]
        foot = ["", f"{cpu_model()}, {os.cpu_count()} cores; Redis {server[2]}; {versions(('redis', 'hiredis'))}."]
        REPORT.write_text("\n".join([*head, *lines, *foot]) + "\n")


if __name__ == "__main__":
    main()
