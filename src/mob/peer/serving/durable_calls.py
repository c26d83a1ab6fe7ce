"""Durable calls in the worker that runs them: the keeper of the app's jobs makes the call on behalf of its caller.

The export runs as for any call, with its limits and its counts. The answer is not the value but a report of how the
call ended, as bytes that can be stored on a disk: they hold nothing that lives in a process. An error of the export is
a report, too; if the call itself fails, the export did not begin or did not end.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw

from mob.errors import BadMessage, Forbidden, UnknownExport
from mob.peer.links.served import KEEPER, SERVED
from mob.peer.serving.deliveries import DELIVERY, Delivery
from mob.peer.serving.exports import Export, Variant
from mob.plan import QUEUE
from mob.wire import messages as m
from mob.wire.arguments import Decode
from mob.wire.failures import Failure, describe
from mob.wire.kinds import is_stream

if TYPE_CHECKING:
    from mob.peer.links.contact import Contact
    from mob.peer.serving.serving import Serving, Started

DurableAnswer = tuple[bool, bytes] | tuple[bool, bytes, bool]
"""True if the export returned; the body of its value, or of a `Failure`; and then True if another attempt would fail in
the same way."""

_read_call: Callable[[Raw], m.DurableCall] = msgspec.msgpack.Decoder(m.DurableCall).decode
_read_body: Callable[[bytes], m.DurableBody] = msgspec.msgpack.Decoder(m.DurableBody).decode
_write: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode


class KeptExport(Variant):
    """An export as the keeper of jobs calls it."""

    __slots__ = ("_inner", "_serving")

    def __init__(self, serving: Serving, export: Export, target: str) -> None:
        super().__init__(export, target)
        self.name: str = export.name
        self.cost_mark: int = export.cost_mark
        self._serving = serving
        self._inner = export
        self.decode: Decode = self._decode
        self.function: Callable[..., Any] = self._run

    def _decode(self, args: Any, kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        call = _read_call(args)
        body = _read_body(call.body)
        uid, pid, role, index, generation, node = body.sender
        serving = self._serving
        writer = serving.contacts.absent(m.Member(uid, pid, role, index, generation, "gone"), node)
        admission = serving.admission
        if admission is not None and not admission.may_call(role):
            raise Forbidden(f"{writer.name} may not call {self.label}: {admission.rule}")
        if self.methods is not None:
            raise UnknownExport(f"{self.label} makes objects, which end with their process, so it cannot be durable.")
        named = None if body.kwargs is None else Raw(body.kwargs)
        arguments = self._inner.decode(Raw(body.args), named)
        return (writer, Delivery(call.id, call.attempt), *arguments), {}

    def _run(self, writer: Contact, delivery: Delivery, args: Any, kwargs: Any) -> Any:
        """Run the export; return how it ended, or an awaitable of that."""
        served = SERVED.get()
        assert served is not None
        keeper, call, link = served
        if keeper.member.role != QUEUE or call is None:
            raise UnknownExport(f"{self.label} cannot be called durably by {keeper.name}.")
        own = (writer, call, link)

        def enter() -> None:
            SERVED.set(own)
            KEEPER.set((call, keeper.uid))
            DELIVERY.set(delivery)

        if self.is_async:
            return self._run_async(enter, self._inner.function, args, kwargs)

        def run() -> Any:
            enter()
            return self._inner.function(*args, **kwargs)

        try:
            value = copy_context().run(run)
            if inspect.isawaitable(value):
                return self._await(enter, value)
            return self._returned(value)
        except BaseException as error:  # noqa: BLE001  becomes the outcome
            return self._raised(error, own)

    @staticmethod
    def unpacked(args: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of the export, given what `decode` made of the keeper's call. For batches."""
        _, _, own, kwargs = args
        return own, kwargs

    def ended(self, work: Started, value: Any, tag: Callable[[Any], Any] | None) -> DurableAnswer:
        """Return the answer to a call in a batch, given what the export returned or raised for it."""
        _, _, call, _, args, _ = work
        served = args[0], call, work[0]
        try:
            if isinstance(value, BaseException):
                raise value
            return self._returned(value if tag is None else tag(value))
        except BaseException as error:  # noqa: BLE001  becomes the outcome
            return self._raised(error, served)

    async def _run_async(
        self, enter: Callable[[], None], function: Callable[..., Any], args: Any, kwargs: Any
    ) -> DurableAnswer:
        enter()  # this is a separate task
        try:
            return self._returned(await function(*args, **kwargs))
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001  becomes the outcome
            return self._raised(error, SERVED.get())

    async def _await(self, enter: Callable[[], None], value: Awaitable[Any]) -> DurableAnswer:
        async def wait() -> Any:
            return await value

        return await self._run_async(enter, wait, (), {})

    def _returned(self, value: Any) -> DurableAnswer:
        encoder, references = self._serving.encoder, self._serving.references
        if is_stream(value):
            close = getattr(value, "close", None)
            if close is not None:
                close()
            raise _NotKept(f"{self.label} is a generator: what it yields cannot be stored, so it cannot be durable.")
        try:
            body = encoder.encode(value, "result", shares=False)
        except BadMessage as error:
            raise _NotKept(str(error)) from error
        if references.encoding and (passage := references.take()):
            references.let_go(passage)
            raise _NotKept(
                f"{self.label} returned something that ends with its process (a function, an object of a service, "
                f"a socket, an open file), and the result of a durable call is stored."
            )
        return True, bytes(body)

    def _raised(self, error: BaseException, served: Any) -> DurableAnswer:
        serving = self._serving
        if serving.tallies is not None:
            serving.tallies.fail(self._inner.name, error)
        if serving.hooks.is_on:
            _, call, link = served
            serving.hooks.report_call(error, link, call)
        is_final = isinstance(error, _NotKept)
        reported = BadMessage(str(error)) if is_final else error
        return False, _write(describe(reported, serving.encoder.codec)), is_final


def failed(failure: Failure) -> DurableAnswer:
    """Return the answer to a call whose batch failed as a whole; that was counted and logged before."""
    return False, _write(failure), False


class _NotKept(BadMessage):
    """The result of an export cannot be stored."""
