"""Bodies of messages: from values to bytes, with the references in them noted, and back.

Strategy. The codec (`wire.codec`) makes the bytes of a value, and `references` handles what is in it by reference. This
module joins the two, checks the limit of a message, and has the types that the program registered. Parts of the peer
that send values use it.

Limits. It sends nothing. The caller must release what was encoded and is not sent (`References.take`, `let_go`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn
from weakref import WeakSet

from msgspec import Raw

from mob.errors import BadMessage
from mob.peer.references import portable
from mob.wire import messages as m
from mob.wire.codec import Codec, HasLargeBuffer
from mob.wire.references import Passage
from mob.wire.sharing import LARGE, LARGE_BUFFER, BufferLocation, inlined, looked_at, may_hold_large

if TYPE_CHECKING:
    from mob.peer.context import Context
    from mob.peer.links.contact import Body
    from mob.peer.references.protocol import Replaced
    from mob.peer.references.references import References

HEADROOM = 4096
"""Bytes of a frame that are not the body."""


_registered: dict[type, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {}
_codecs: WeakSet[Codec] = WeakSet()


def register(kind: type, encode: Callable[[Any], Any], decode: Callable[[Any], Any]) -> None:
    """Add a type to what may be sent, in this process; the receiver must register it, too.

    Subclasses are sent the same way. A receiver that did not register the type fails the call with a `BadMessage` that
    names it.

    Args:
        kind: The type.
        encode: `encode(obj)` returns data that may be sent.
        decode: `decode(data)` makes an object of it.

    Example:
        >>> from fractions import Fraction
        >>> register(Fraction, str, Fraction)
    """
    _registered[kind] = encode, decode
    for codec in list(_codecs):
        codec.register(kind, encode, decode)


class Encoder:
    """The bodies of one process, for all of its threads."""

    def __init__(self, context: Context, references: References) -> None:
        self._context = context
        self._references = references
        self._buffers = references.buffers
        self.codec: Codec = Codec(
            references.functions.lend,
            references.functions.borrow,
            references.buffers.attach,
            references.descriptors,
            references.give_back,
            references.objects,
        )
        for kind, encoders in _registered.items():
            self.codec.register(kind, *encoders)
        _codecs.add(self.codec)

    def __repr__(self) -> str:
        return f"<Encoder of {self._context.name}, {self.codec}>"

    def encode(self, value: Any, root: str, shares: bool = True) -> bytes:
        """Return the body of a message; `BadMessage` names the part of it that cannot be sent.

        `shares`: its receiver can read shared memory.
        """
        try:
            seen = looked_at(value)
            if seen == LARGE_BUFFER and shares:
                body = self._share_or_encode(value, root)
            else:
                try:
                    body = self.codec.pack(value)  # not `encode`, to save a call on the hot path
                except Exception as failure:  # noqa: BLE001  translated there
                    if shares and isinstance(failure, HasLargeBuffer):
                        body = self._share_or_encode(value, root)
                    else:
                        body = self.codec.encode_slowly(value, root, failure)
                else:
                    if seen and (0xC4 in body or 0xC5 in body or 0xC6 in body):  # same test as `may_hold_binary`
                        body = self.codec.encode_binary(value, root, body)
            if len(body) >= LARGE and shares:
                body = self._share_after_all(value, body)
        except BaseException:
            self._references.let_go(self._references.take())
            raise
        if len(body) > self._context.frame_limit - HEADROOM:
            self._references.let_go(self._references.take())
            self.check_size(body, root)
        return body

    def check_size(self, body: bytes | Raw, root: str) -> None:
        """Raise `BadMessage` if a body is too long for one message."""
        size = memoryview(body).nbytes
        if size > self._context.frame_limit - HEADROOM:
            raise BadMessage(
                f"cannot send {root}: {size:,} bytes; the limit is {self._context.frame_limit:,} (frame_limit of "
                f"the app). Send it in parts, or raise the limit.",
                root,
            )

    def discard(self, message: m.Invoke | m.Message) -> None:
        """Give back what a message refers to, because it will not be read."""
        for body in (message.args, *message.kwargs) if isinstance(message, m.Invoke) else (message.body,):
            self.codec.discard(body)

    def abandon(self) -> None:
        """Refuse to encode from now on, in a forked child: the peer belongs to the parent."""
        self.encode = self._refuse

    def _refuse(self, value: Any, root: str, shares: bool = True) -> NoReturn:
        self._context.check_process()
        raise AssertionError("called in the process that made this peer")

    # ------------------------------------------------------------------------------------------ large buffers

    def _share_or_encode(self, value: Any, root: str) -> bytes:
        """Encode a value that contains a large buffer."""
        body = self._share(value) if self._buffers.is_on else None
        return self.codec.encode(value, root) if body is None else body

    def _share_after_all(self, value: Any, body: bytes) -> bytes:
        """Return the body of a value that turned out to be long: a new one if a large buffer is deep inside."""
        if not self._buffers.is_on or not may_hold_large(body):
            return body
        references = self._references
        before = references.noted()
        shared = self._share(value)
        if shared is None:
            return body
        others = sum(type(reference) is not BufferLocation for reference in references.noted()[len(before) :])
        references.forget(len(before) - others, len(before))  # they were noted twice, and are contained once
        return shared

    def _share(self, value: Any) -> bytes | None:
        start = len(self._references.noted())
        try:
            return self.codec.encode_sharing(value, self._buffers.share, self._buffers.find)
        except BaseException as error:
            self._references.forget(start)
            if isinstance(error, Exception):
                return None  # the error is raised once more by `encode`, with a better text
            raise

    def replaced(self, body: Raw, replaced: Replaced) -> Raw:
        """Return a body for a member that cannot get some of the buffers in it; `BadMessage` if it is too long."""
        changed = Raw(inlined(memoryview(body), lambda place: replaced.get(BufferLocation(*place[:4]), place)))
        self.check_size(changed, "a large buffer")
        return changed

    def call_replaced(self, body: Body, replaced: Replaced) -> Body:
        """Return all of a call, for a member that cannot get some of the buffers in it."""
        target, args, kwargs, times, chain, trace = body
        args, *named = (self.replaced(each, replaced) for each in (args, *kwargs))
        return target, args, tuple(named), times, chain, trace

    # ------------------------------------------------------------------------------------- to another machine

    def body_for_far(self, body: Raw, passage: Passage) -> Raw:
        """Return a body for another machine; `BadMessage` if something in it cannot leave, or if it is too long."""
        whole = portable.whole(body, passage, self._buffers.look)
        if whole is not body:
            self.check_size(whole, "a large buffer to another machine")
        return whole

    def call_for_far(self, body: Body, passage: Passage) -> Body:
        """Return all of a call, for another machine."""
        target, args, kwargs, times, chain, trace = body
        args, *named = (self.body_for_far(each, passage) for each in (args, *kwargs))
        return target, args, tuple(named), times, chain, trace
