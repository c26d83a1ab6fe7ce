"""The watchers of a store's keys, and the changes that they were not sent yet.

Strategy. A watcher keeps the changes that it was not sent. If it reads too slowly it loses them all at once, which
`has_missed` reports: it has to read the current values itself.

Limits. No I/O, no clock. Wakes no one: `tell` returns the watchers that have something new.
"""

from __future__ import annotations

from mob.stores.book import OWN, Value

WatchedChange = tuple[str, str, Value | None]
"""What happened ("set", "delete", "expire", "evict"), the key, and its new value."""

MOST = 1000
"""Maximum number of changes that are kept for a watcher."""
MOST_BYTES = 16 * 1024 * 1024
"""Maximum bytes of values that are kept for it."""


class KeyWatcher:
    """A watcher of a key, or of all keys with a prefix."""

    def __init__(self, key: str, is_prefix: bool) -> None:
        self.key: str = key
        self.is_prefix: bool = is_prefix
        self.changes: list[WatchedChange] = []
        self.has_missed: bool = False
        self._bytes = 0

    def __repr__(self) -> str:
        return f"<KeyWatcher of {self.key!r}{' and more' if self.is_prefix else ''}, {len(self.changes)} changes>"

    def put(self, change: WatchedChange) -> None:
        """Keep a change until it is sent; drop all if there are too many."""
        value = change[2]
        self._bytes += len(value) if isinstance(value, bytes) else 0
        self.changes.append(change)
        if len(self.changes) > MOST or self._bytes > MOST_BYTES:
            self.changes, self._bytes, self.has_missed = [], 0, True

    def take(self) -> tuple[bool, list[WatchedChange]]:
        """Return what was not sent yet: True if changes were lost, and the changes since."""
        taken = self.has_missed, self.changes
        self.changes, self._bytes, self.has_missed = [], 0, False
        return taken


class Watchers:
    """All watchers of a store."""

    def __init__(self) -> None:
        self._of_key: dict[str, list[KeyWatcher]] = {}
        self._of_prefix: list[KeyWatcher] = []

    def __repr__(self) -> str:
        return f"<Watchers of {len(self._of_key)} keys and {len(self._of_prefix)} prefixes>"

    def __len__(self) -> int:
        return len(self._of_prefix) + sum(map(len, self._of_key.values()))

    def join(self, watcher: KeyWatcher) -> None:
        """Give a watcher the changes from now on."""
        if watcher.is_prefix:
            self._of_prefix.append(watcher)
        else:
            self._of_key.setdefault(watcher.key, []).append(watcher)

    def leave(self, watcher: KeyWatcher) -> None:
        """Give a watcher no more changes."""
        if watcher.is_prefix:
            self._of_prefix.remove(watcher)
            return
        others = self._of_key[watcher.key]
        others.remove(watcher)
        if not others:
            del self._of_key[watcher.key]

    def tell(self, what: str, key: str, value: Value | None) -> list[KeyWatcher]:
        """Keep a change for the watchers of the key; return them."""
        if key.startswith(OWN):
            return []
        told = [*self._of_key.get(key, ()), *(each for each in self._of_prefix if key.startswith(each.key))]
        for watcher in told:
            watcher.put((what, key, value))
        return told
