"""The liveness thread sends heartbeats, followed by the counts of the application, as long as the Kingpin reads."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from mob.testing.lives import Pulse
from mob.wire.frames import FrameDecoder
from mob.wire.messages import Beat, Counted, MetricNews, MetricSpec, SampleNews, Vital, decode_vital
from tests.patience import PATIENCE

SPEC = MetricSpec("orders", "counter", labels=("id",))


class Thread:
    """A liveness thread and the other end of its socket."""

    def __init__(self) -> None:
        self.counted: list[Counted] = []
        self.here, self.there = socket.socketpair()
        self.there.settimeout(PATIENCE)
        self.gone = threading.Event()
        self.pulse = Pulse(self.here, 1.0, Beat, str, self.gone.set, None, self.take)
        self._decoder = FrameDecoder(1024 * 1024)
        self._heard: list[Vital] = []

    def take(self) -> Counted | None:
        return self.counted.pop(0) if self.counted else None

    def hear(self) -> Vital:
        """Return its next message."""
        while not self._heard:
            data = self.there.recv(65536)
            self._heard += [each for payload in self._decoder.feed(data) for each in decode_vital(payload)]
        return self._heard.pop(0)


@pytest.fixture
def thread() -> Iterator[Thread]:
    made = Thread()
    yield made
    made.here.shutdown(socket.SHUT_RDWR)
    made.pulse.join()
    made.here.close()
    made.there.close()


def news(number: int, size: int = 1) -> Counted:
    return Counted((MetricNews(SPEC, tuple(SampleNews((f"{number}.{n}",), 1.0) for n in range(size))),))


def test_nothing_but_beats_is_said_where_nothing_is_counted(thread: Thread) -> None:
    thread.pulse.start()
    assert [type(thread.hear()) for _ in range(3)] == [Beat] * 3


def test_what_was_counted_follows_the_beat_whole_and_once(thread: Thread) -> None:
    thread.counted = [news(1), news(2), news(3)]
    thread.pulse.start()
    assert [thread.hear() for _ in range(4)] == [Beat(), news(1), news(2), news(3)]
    thread.counted.append(news(4))
    while (said := thread.hear()) != news(4):  # that heartbeat may have arrived by now, or not
        assert said == Beat()
    assert thread.hear() == Beat()


def test_what_a_busy_kingpin_does_not_read_yet_is_kept_and_told_later(thread: Thread) -> None:
    every = [news(number, 400) for number in range(200)]
    thread.counted = list(every)
    thread.pulse.start()
    thread.hear()  # the rest that fits is in the socket, or on its way
    heard: list[Vital] = []
    while len(heard) < len(every):
        said = thread.hear()
        heard += [said] if isinstance(said, Counted) else []
    assert heard == every


def test_the_last_words_tell_all_that_is_left(thread: Thread) -> None:
    thread.pulse.start()
    thread.hear()
    every = [news(number, 400) for number in range(100)]
    thread.counted = list(every)
    speaker = threading.Thread(target=thread.pulse.say_last, args=(lambda: Beat(calls=7),))
    speaker.start()
    heard: list[Vital] = []
    while len(heard) < len(every):
        said = thread.hear()
        heard += [said] if isinstance(said, Counted) else []
    speaker.join(PATIENCE)
    assert heard == every


def test_a_source_that_raises_does_not_silence_the_beats(thread: Thread, capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> Counted | None:
        raise RuntimeError("no numbers today")

    thread.pulse._on_counted = fail  # pyright: ignore[reportPrivateUsage]
    thread.pulse.start()
    assert [type(thread.hear()) for _ in range(2)] == [Beat, Beat]
    assert "no numbers today" in capfd.readouterr().err
