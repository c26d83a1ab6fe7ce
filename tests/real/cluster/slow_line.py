"""A line that takes time and loses packets: `slow_line.py HOST SWITCH PLUG DELAY JITTER LOSS`, a separate process.

It makes `eth0` on the host and PLUG on the switch as taps (the two namespaces are descriptors) and carries each packet
from one to the other, with a delay, or drops it. `tc netem` would do the same, but not every kernel has it.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import os
import random
import select
import struct
import sys
import time

NEW_NETWORK = 0x40000000
TUNSETIFF = 0x400454CA
TAP, BARE = 0x0002, 0x1000
LARGEST = 65536


def open_tap(namespace: int, name: str) -> int:
    """Open a tap of that name in that namespace."""
    if ctypes.CDLL(None).setns(namespace, NEW_NETWORK):
        raise OSError("setns")
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", name.encode(), TAP | BARE))
    return tap


def carry(taps: list[int], delay: float, jitter: float, loss: float) -> None:
    """Carry packets until the process is killed."""
    chance = random.Random(7)
    under_way: list[tuple[float, int, int, bytes]] = []
    count = 0
    while True:
        patience = max(0.0, under_way[0][0] - time.monotonic()) if under_way else None
        readable, _, _ = select.select(taps, [], [], patience)
        for tap in readable:
            packet = os.read(tap, LARGEST)
            if chance.random() >= loss:
                count += 1
                when = time.monotonic() + chance.uniform(delay - jitter, delay + jitter)
                heapq.heappush(under_way, (when, count, taps[1 - taps.index(tap)], packet))
        while under_way and under_way[0][0] <= time.monotonic():
            _, _, tap, packet = heapq.heappop(under_way)
            try:
                os.write(tap, packet)
            except OSError:
                pass  # it is not up yet


if __name__ == "__main__":
    host, switch, plug, *figures = sys.argv[1:]
    ends = [open_tap(int(host), "eth0"), open_tap(int(switch), plug)]
    print("ready", flush=True)
    carry(ends, *map(float, figures))
