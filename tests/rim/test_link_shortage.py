"""A kernel with too many descriptors in transit: messages with some wait, and nothing is lost."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.patience import patient
from tests.running import unmeasured

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the limit of Linux")
SCRIPT = """
import array, errno, os, resource, socket, threading
import uvloop
from mob.rim.link import Link
from mob.rim.reactor import Reactor
from mob.wire import messages as m

FEW = 40
if os.getuid() == 0:
    os.setuid(65534)  # root may have any number under way
resource.setrlimit(resource.RLIMIT_NOFILE, (FEW, FEW))
a, b = socket.socketpair()
heard = []
reactor = Reactor(uvloop.new_event_loop())
there = Reactor(uvloop.new_event_loop())
own = Link(a, reactor, m.decode_down, lambda link, messages: None, lambda link, why: None, 4096)

def hear(link, messages):
    heard.extend(messages)
    os.close(*link.take(1))
    if len(heard) == 2:
        reactor.stop()

other = Link(b, reactor, m.decode_down, hear, lambda link, why: None, 4096)
crowd = socket.socketpair()
null = array.array("i", [os.open(os.devnull, os.O_RDONLY)] * 16)
crowd[0].setblocking(False)
try:
    while True:
        crowd[0].sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, null)])
except OSError as error:
    assert error.errno == errno.ETOOMANYREFS, error

def begin():
    own.start()
    other.start()
    own.post_with(m.Meet(1), [os.open(os.devnull, os.O_RDONLY)])
    own.post_with(m.Meet(2), [os.open(os.devnull, os.O_RDONLY)])
    assert own.unsent_bytes, "it should have been refused"
    reactor.loop.call_later(0.3, lambda: [each.close() for each in crowd])

reactor.loop.call_soon(begin)
reactor.run()
print(heard)
"""


def test_what_cannot_be_sent_now_is_sent_when_there_is_room() -> None:
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, env=unmeasured(), capture_output=True, text=True, timeout=patient(60), check=False)
    assert (done.stdout, done.stderr) == ("[Meet(uid=1), Meet(uid=2)]\n", "")
