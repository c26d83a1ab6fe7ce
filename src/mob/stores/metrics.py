"""The metrics of a store. Their names are reserved, so no role of an app can declare one of them."""

from __future__ import annotations

from mob.mobster.metering import own_counter, own_gauge

KEYS = own_gauge("store_keys", "Keys in the store, rate limits included.")
BYTES = own_gauge("store_bytes", "Bytes that the keys and values of the store take.")
LOCKS = own_gauge("store_locks", "Locks that are held.")
LOCK_WAITS = own_gauge("store_lock_waits", "Claims that wait for a lock.")
WATCHERS = own_gauge("store_watchers", "Watchers of keys.")
HITS = own_counter("store_hits", "Keys that were asked for, and were there.")
MISSES = own_counter("store_misses", "Keys that were asked for, and were not there.")
EVICTIONS = own_counter("store_evictions", "Keys that were dropped because there was no room.")
