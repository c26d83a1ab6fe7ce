"""Which watchers get which changes of a store."""

from __future__ import annotations

from mob.stores import watchers as module
from mob.stores.watchers import KeyWatcher, Watchers


def test_changes_go_to_those_who_watch_the_key_or_what_it_begins_with() -> None:
    watchers = Watchers()
    one, same, several, other = (
        KeyWatcher("user:1", False),
        KeyWatcher("user:1", False),
        KeyWatcher("user:", True),
        KeyWatcher("order:", True),
    )
    for watcher in (one, same, several, other):
        watchers.join(watcher)
    assert len(watchers) == 4
    assert watchers.tell("set", "user:1", 5) == [one, same, several]
    assert watchers.tell("delete", "user:2", None) == [several]
    assert watchers.tell("set", "\0user:1", 1.0) == []
    assert several.take() == (False, [("set", "user:1", 5), ("delete", "user:2", None)])
    assert several.take() == (False, [])
    for watcher in (one, several):
        watchers.leave(watcher)
    assert watchers.tell("set", "user:1", 6) == [same]
    watchers.leave(same)
    assert watchers.tell("set", "user:1", 7) == []
    assert "1 prefixes" in repr(watchers)
    assert "'user:' and more" in repr(several)


def test_one_that_reads_too_slowly_loses_changes_and_is_told_so() -> None:
    watcher = KeyWatcher("a", False)
    for number in range(module.MOST + 3):
        watcher.put(("set", "a", number))
    assert watcher.take() == (True, [("set", "a", module.MOST + 1), ("set", "a", module.MOST + 2)])
    assert watcher.take() == (False, [])
    for _ in range(3):
        watcher.put(("set", "a", bytes(module.MOST_BYTES // 2)))
    assert watcher.take() == (True, [])
