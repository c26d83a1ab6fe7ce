"""Who watches which keys of a store, and what they were not sent yet.

Strategy. A watcher keeps the changes that it was not sent. One that reads too slowly loses them all at once, and is
told so (`has_missed`): it has to look for itself at what is there now.

Limits. No I/O, no clock. Wakes nobody: `tell` returns who has something new.
"""

from __future__ import annotations

from mob.stores.book import OWN, Value

WatchedChange = tuple[str, str, Value | None]
"""What has happened ("set", "delete", "expire", "evict"), to which key, and its new value."""

MOST = 1000
"""Changes that are kept for a watcher."""
MOST_BYTES = 16 * 1024 * 1024
"""Bytes of values that are kept for it."""


class KeyWatcher:
    """Somebody who watches a key, or all that begin so."""

    def __init__(self, key: str, is_prefix: bool) -> None:
        self.key: str = key
        self.is_prefix: bool = is_prefix
        self.changes: list[WatchedChange] = []
        self.has_missed: bool = False
        self._bytes = 0

    def __repr__(self) -> str:
        return f"<KeyWatcher of {self.key!r}{' and more' if self.is_prefix else ''}, {len(self.changes)} changes>"

    def put(self, change: WatchedChange) -> None:
        """Keep a change until it is sent; if there are too many, none."""
        value = change[2]
        self._bytes += len(value) if isinstance(value, bytes) else 0
        self.changes.append(change)
        if len(self.changes) > MOST or self._bytes > MOST_BYTES:
            self.changes, self._bytes, self.has_missed = [], 0, True

    def take(self) -> tuple[bool, list[WatchedChange]]:
        """Return what was not sent yet: whether changes were lost, and those since."""
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
        """Have a watcher told of changes from now on."""
        if watcher.is_prefix:
            self._of_prefix.append(watcher)
        else:
            self._of_key.setdefault(watcher.key, []).append(watcher)

    def leave(self, watcher: KeyWatcher) -> None:
        """Have a watcher told of no more."""
        if watcher.is_prefix:
            self._of_prefix.remove(watcher)
            return
        others = self._of_key[watcher.key]
        others.remove(watcher)
        if not others:
            del self._of_key[watcher.key]

    def tell(self, what: str, key: str, value: Value | None) -> list[KeyWatcher]:
        """Keep a change for those who watch the key; return them."""
        if key.startswith(OWN):
            return []
        told = [*self._of_key.get(key, ()), *(each for each in self._of_prefix if key.startswith(each.key))]
        for watcher in told:
            watcher.put((what, key, value))
        return told
