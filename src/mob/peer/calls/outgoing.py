"""The outgoing half of a process, as a protocol for the parts of this package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from mob.errors import CallError
from mob.peer.links.contacts import Contacts
from mob.peer.links.control import Control
from mob.peer.references.encoding import Encoder
from mob.peer.references.references import References
from mob.peer.results.call import Call
from mob.peer.results.maker import Maker

if TYPE_CHECKING:
    from mob.peer.calls.calling import Calling
    from mob.peer.calls.parking import Parking


class Outgoing(Maker, Protocol):
    """A process, as far as it calls others."""

    @property
    def contacts(self) -> Contacts:
        """The other members."""
        ...

    @property
    def control(self) -> Control:
        """The link to the Kingpin."""
        ...

    @property
    def encoder(self) -> Encoder:
        """Encodes arguments to bodies."""
        ...

    @property
    def references(self) -> References:
        """The references in bodies."""
        ...

    @property
    def calling(self) -> Calling:
        """Sends calls."""
        ...

    @property
    def parking(self) -> Parking:
        """Calls and messages that wait for workers."""
        ...

    def limit(self, call: Call[Any], times: tuple[float, float]) -> None:
        """End a call at its deadline; `times`: when it was made, and when it must have ended."""
        ...

    def note_lost(self, label: str, error: CallError) -> None:
        """Count a call that ends without an answer."""
        ...
