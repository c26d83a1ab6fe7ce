"""Answers: what goes back to the caller of a call, from any thread.

Each answer says how many calls wait here, and how many callers wait for their turn, so that a caller on another
machine, which cannot read the board, does not overtake them. Nothing here knows how a call was run.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from msgspec import Raw, structs

from mob.errors import BadMessage
from mob.peer.serving.chunks import Chunk
from mob.rim.link import Link
from mob.wire import failures, messages as m

if TYPE_CHECKING:
    from mob.core.invitations import Invitations
    from mob.peer.serving.inbox import Inbox
    from mob.peer.serving.limiters import WaitingCalls
    from mob.peer.serving.serving import Serving
    from mob.wire.references import Passage


EXITS = 100
"""Number of recent exits of calls that are remembered: the loop lets them out as well, and they are recognized then."""


class Answers:
    """The answers that this process sends."""

    __slots__ = (
        "_contacts",
        "_encode",
        "_encoder",
        "_exits",
        "_hooks",
        "_inbox",
        "_invitations",
        "_lines",
        "_references",
        "_serving",
        "served",
    )

    def __init__(self, serving: Serving, inbox: Inbox, waiting_calls: WaitingCalls, invitations: Invitations) -> None:
        self._serving = serving
        self._contacts = serving.contacts
        self._hooks = serving.hooks
        self._references = serving.references
        self._encoder = serving.encoder
        self._encode = serving.encoder.encode
        self._inbox = inbox
        self._lines = waiting_calls.lines
        self._invitations = invitations
        self._exits: deque[BaseException] = deque(maxlen=EXITS)
        self.served: int = 0
        """Number of calls that were answered."""

    def __repr__(self) -> str:
        return f"<Answers, {self.served} given>"

    def reply(self, link: Link, call: m.Invoke, value: Any) -> None:
        """Answer with what the export returned; `BadMessage` if the value cannot be sent."""
        body = Raw(self._encode(value, "result"))
        queue = len(self._inbox.calls) + len(self._lines) + self._invitations.waiting
        message = m.Reply(call.id, queue, body)
        if self._references.encoding:
            self._post_with_functions(link, message)
        else:
            link.post(message)
        self.served += 1

    def reply_chunk(self, link: Link, call: m.Invoke, body: bytes, passage: Passage) -> None:
        """Answer a chunk whose items all ended. `passage`: the references in what they returned."""
        try:
            self._encoder.check_size(body, "result")
        except BadMessage as error:
            self._references.let_go(passage)
            self.fail(link, call, error)
        else:
            self._post(link, m.Reply(call.id, self._queue(), Raw(body)), passage)

    def send_item(self, link: Link, number: int, value: Any) -> None:
        """Send what a generator yielded; `BadMessage` if the value cannot be sent."""
        message = m.Item(number, Raw(self._encode(value, "item")))
        if self._references.encoding:
            self._post_with_functions(link, message)
        else:
            link.post(message)

    def end(self, link: Link, call: m.Invoke) -> None:
        """Report that a generator ended."""
        link.post(m.Ended(call.id, self._queue()))
        self.served += 1

    def fail(self, link: Link, call: m.Invoke, error: BaseException) -> None:
        """Answer with the error of a call that failed or never started."""
        tallies = self._serving.tallies
        if tallies is not None and call.target in self._serving.exports:
            tallies.fail(str(m.export_of(call.target)), error)  # as its calls are counted
        if self._hooks.is_on:
            self._hooks.report_call(error, link, call)
        link.post(m.Failed(call.id, self._queue(), failures.describe(error, self._encoder.codec)))
        self.served += 1
        if issubclass(
            type(error), (SystemExit, KeyboardInterrupt)
        ):  # it ends the call and not the process: see `exits`
            self._exits.append(error)

    def fail_plainly(self, link: Link, call: m.Invoke, error: BaseException) -> None:
        """Answer with only the name of an error, because `fail` raised one itself."""
        link.post(m.Failed(call.id, 0, failures.nameplate(error)))

    def has_reported(self, error: BaseException) -> bool:
        """Return whether a call ended with this very SystemExit or KeyboardInterrupt a moment ago."""
        return any(each is error for each in self._exits)

    def refuse(self, link: Link, call: m.Invoke, error: BaseException) -> None:
        """Fail a call whose body was not decoded."""
        self._encoder.discard(call)
        self.fail(link, call, error)

    def give_back(self, link: Link, call: m.Invoke) -> None:
        """Give a call back to its caller, which took it back."""
        link.post(m.Failed(call.id, self._queue(), failures.TAKEN_BACK))

    def _queue(self) -> int:
        return len(self._inbox.calls) + len(self._lines) + self._invitations.waiting

    def _post_with_functions(self, link: Link, message: m.Item | m.Reply) -> None:
        """Post what this thread has just encoded, with the functions in it."""
        passage = self._references.take()
        if isinstance(link, Chunk) and isinstance(message, m.Reply):
            link.keep(message, passage)
        else:
            self._post(link, message, passage)

    def _post(self, link: Link, message: m.Item | m.Reply, passage: Passage) -> None:
        try:
            if not link.is_closed:
                contact = self._contacts.of_link(link)
                if contact.is_distant:
                    body = self._encoder.body_for_far(message.value, passage)
                    message = structs.replace(message, value=body)
                if found := self._references.hand_over(passage, contact, link):
                    message = structs.replace(message, value=self._encoder.replaced(message.value, found))
            link.post(message)
        finally:
            self._references.let_go(passage)
