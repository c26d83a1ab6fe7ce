"""The fuzzers that need no process: frames, decoders, and what comes from other machines.

Whatever comes in, what comes out is a value or one of mob's own errors for it, and it takes little time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from time import process_time
from typing import Any, NamedTuple

import msgspec
from hypothesis import strategies as st

from mob.core.circuits import Circuits, Wanted
from mob.core.crew import Crew
from mob.core.membership import Membership
from mob.core.trunk import HEAD, Trunk
from mob.errors import ArgumentError, BadMessage, CallError, FrameTooLong, GarbageFrame
from mob.plan import Plan, RolePlan
from mob.wire import failures, messages as m
from mob.wire.arguments import Parameters
from mob.wire.frames import FrameDecoder, frame
from tests.attack.inputs import bodies, changed, payloads
from tests.wire.samples import Mob, Point, User
from tests.wire.test_messages import CONVERSATIONS, classes_of, instances_of

LONGEST = 5.0
"""Seconds of a processor for one input; it takes milliseconds."""


class quick(contextlib.ContextDecorator):  # noqa: N801  used like a function
    """Complains if what is in it takes long."""

    def __enter__(self) -> None:
        self._begun = process_time()

    def __exit__(self, *error: object) -> None:
        seconds = process_time() - self._begun
        assert seconds < LONGEST, f"one input took {seconds:.1f} s"


# ------------------------------------------------------------------------------------------------------------- frames


class Stream(NamedTuple):
    """Frames, and how they are cut."""

    sizes: list[int]
    cuts: list[int]
    limit: int
    rest: bytes
    in_place: bool


sizes = st.lists(st.integers(1, 300) | st.integers(1, 200_000) | st.integers(65_530, 65_542), max_size=6)
pieces = st.lists(st.integers(1, 9) | st.integers(1, 100_000), min_size=1, max_size=12)
limits = st.integers(1, 400) | st.just(2**20)
frames = st.builds(Stream, sizes, pieces, limits, st.binary(max_size=12), st.booleans())


@quick()
def examine_frames(example: Stream) -> None:
    """However a stream is cut: the payloads before the first that is too long come out whole and in order."""
    whole = [bytes([number + 1]) * size for number, size in enumerate(example.sizes)]
    data, decoder = b"".join(map(frame, whole)) + example.rest, FrameDecoder(example.limit)
    came: list[bytes] = []
    at = turn = 0
    with contextlib.suppress(FrameTooLong, GarbageFrame):
        while at < len(data):
            size = example.cuts[turn % len(example.cuts)]
            turn += 1
            room = decoder.room() if example.in_place else None
            if room is None:
                came += map(bytes, decoder.feed(data[at : at + size]))
                at += size
            else:
                with room:
                    count = min(len(room), size, len(data) - at)
                    room[:count] = data[at : at + count]
                came += map(bytes, decoder.fill(count))
                at += count
            assert decoder.pending <= at
    fitting = next((number for number, size in enumerate(example.sizes) if size > example.limit), len(whole))
    assert came[:fitting] == whole[: len(came)][:fitting]
    if at >= len(data):
        assert len(came) >= fitting


# ----------------------------------------------------------------------------------------------------------- decoders


def _typed(user: User, points: list[Point], *more: int, flag: bool = False, **named: Any) -> None: ...


def _untyped(first: Any, second: Any = None) -> None: ...


CODEC = Mob().codec
PARAMETERS = [Parameters(function, CODEC, function.__name__) for function in (_typed, _untyped)]
ANNOTATIONS: list[Any] = [int, str, bytes, list[int], dict[str, User], Point, User | None, tuple[int, ...]]
Decode = Callable[[bytes], object]
BODY_DECODERS: list[Decode] = [CODEC.decode, *map(CODEC.decoder, ANNOTATIONS)]

conversations = st.sampled_from(sorted(CONVERSATIONS)).flatmap(lambda name: st.tuples(st.just(name), payloads(name)))
decoders = st.tuples(conversations, bodies(), bodies())


@quick()
def examine_decoders(example: tuple[tuple[str, bytes], bytes, bytes]) -> None:
    """A payload is a list of messages or `GarbageFrame`; a body is a value, garbage, or no value here."""
    (conversation, payload), args, kwargs = example
    with contextlib.suppress(GarbageFrame):
        for message in CONVERSATIONS[conversation][1](payload):
            assert isinstance(message, (msgspec.Struct, float))
    examine_body(args)
    for parameters in PARAMETERS:
        with contextlib.suppress(GarbageFrame, BadMessage, ArgumentError):
            parameters.decode(msgspec.Raw(args), msgspec.Raw(kwargs))


def examine_body(body: bytes) -> None:
    """One body, by each decoder."""
    for decode in BODY_DECODERS:
        with contextlib.suppress(
            GarbageFrame, BadMessage, msgspec.ValidationError, KeyError
        ):  # the function was never lent
            decode(body)
    failure = None
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        failure = msgspec.msgpack.decode(body, type=failures.Failure)
    if failure is not None:
        assert isinstance(failures.rebuild(failure, CODEC), CallError)


# ------------------------------------------------------------------------------------------------------------ gateway

NOW = 1000.0
words = st.sampled_from(classes_of(m.Words)).flatmap(instances_of).map(m.pack)
letters = st.builds(
    lambda protocol, sender, name, body, app: m.pack(m.Letter(protocol, sender, name, msgspec.Raw(body), app)),
    st.sampled_from([m.PROTOCOL, m.PROTOCOL, 0, 2**63]),
    st.integers(-1, 3) | st.integers(0, 2**63),
    st.sampled_from(["me", "you", ""]),
    changed(words),
    st.sampled_from(["app", "", "other"]),
)
numbers = st.integers(0, 4) | st.integers(0, 2**64 - 1)
packets = st.builds(
    lambda own, other, number, told, kind, data: HEAD.pack(own, other, number, told, kind) + data,
    st.sampled_from([7, 8, 9, 0]) | numbers,
    st.sampled_from([5, 5, 0]) | numbers,
    numbers,
    numbers,
    st.integers(0, 6),
    st.binary(max_size=60),
)


def _cell(kind: int, number: int, data: bytes) -> bytes:
    return bytes([kind]) + number.to_bytes(4, "little") + len(data).to_bytes(4, "little") + data


cells = st.builds(
    _cell, st.integers(0, 5), st.integers(0, 3), st.binary(max_size=20) | st.binary(min_size=16, max_size=16)
)
gateway = st.tuples(
    st.lists(changed(letters), max_size=6),
    st.lists(changed(packets), max_size=8),
    st.lists(changed(st.lists(cells, max_size=4).map(b"".join)), max_size=6),
)


@quick()
def examine_gateway(example: tuple[list[bytes], list[bytes], list[bytes]]) -> None:
    """Letters and packets are taken or not heard; cells without sense are a `ValueError`, as the gateway expects."""
    written, sent, carried = example
    crew = Crew(Plan("app", "/", (RolePlan("back", "back"),)))
    crew.last_uid = 1 << m.NODE_SHIFT
    membership = Membership(crew, "me", NOW)
    membership.start(NOW)
    membership.handle_connected("", NOW)
    for number, letter in enumerate(written):
        membership.handle_letter(letter, NOW + number)
        membership.handle_wake(NOW + number)
    trunk = Trunk(5)
    trunk.send(b"hello", NOW)
    for number, packet in enumerate(sent):
        assert len(trunk.receive(packet, NOW + number).answers) < 10
        trunk.wake(NOW + number)
    circuits = Circuits()
    with contextlib.suppress(ValueError):
        for payload in carried:
            for happening in circuits.handle(memoryview(payload)):
                if isinstance(happening, Wanted):
                    circuits.accept(happening.circuit)
            assert len(circuits.take(2**16)) <= 2**16


PURE: dict[str, tuple[st.SearchStrategy[Any], Callable[[Any], None]]] = {
    "frames": (frames, examine_frames),
    "decoders": (decoders, examine_decoders),
    "gateway": (gateway, examine_gateway),
}
