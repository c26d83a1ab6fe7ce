"""grpc.aio over a Unix socket: one unary method by a generic handler, bytes as they are, no generated code.

The server is a process of its own, `python -m bench.grpc_side SOCKET`; it ends when its input does. Nothing is
encoded, which flatters it; dispatch by name and deadlines are gRPC's own.
"""

from __future__ import annotations

# Only `make bench` installs it. pyright is told so by the next line.
# pyright: reportMissingImports=false, reportMissingModuleSource=false
import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Coroutine
from typing import Any

import grpc
import grpc.aio

from bench.cpu import MeasuresCpu
from bench.loops import AwaitedSide
from bench.side import new_loop

METHOD = "/bench.Echo/echo"


async def echo(request: bytes, context: Any) -> bytes:
    return request


class Handler(grpc.GenericRpcHandler):
    def service(self, handler_call_details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(echo) if handler_call_details.method == METHOD else None


async def serve(path: str) -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Handler(),))
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    await asyncio.to_thread(sys.stdin.read)  # until the side closes it, or is gone
    await server.stop(None)


class Side(MeasuresCpu, AwaitedSide):
    label = "grpc.aio"
    limits = "uvloop, Unix socket, generic handler; bytes as they are, no encoding"
    small = b"1"

    async def connect(self) -> None:
        path = f"{tempfile.mkdtemp()}/calls"
        self.server = subprocess.Popen([sys.executable, "-m", "bench.grpc_side", path], stdin=subprocess.PIPE)
        self.channel = grpc.aio.insecure_channel(f"unix:{path}")
        self.method = self.channel.unary_unary(METHOD)
        await self.method(self.small, wait_for_ready=True, timeout=20)

    async def disconnect(self) -> None:
        await self.channel.close()
        self.server.terminate()
        self.server.wait(5)

    def call(self, value: bytes) -> Coroutine[Any, Any, bytes]:
        return self._call(value)

    async def _call(self, value: bytes) -> bytes:
        return await self.method(value)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(serve(sys.argv[1]))
