"""The ways to call and to wait, for a client and for a role alike. `work` is the proxy of the role that is called."""

from collections import deque
from time import perf_counter, process_time, sleep


def plain(work, name, n, argument):
    """Make n calls, then wait for each; return the seconds that it took."""
    export = getattr(work, name)
    start = perf_counter()
    calls = [export(i, argument) for i in range(n)]
    for call in calls:
        call.result()
    return perf_counter() - start


def mapped(work, name, n, argument):
    """Do the same by the export's `map`, with one argument; return the seconds, None if exports have no `map`."""
    export = getattr(work, name)
    if not hasattr(export, "map"):
        return None
    items = [argument] * n
    start = perf_counter()
    for _ in export.map(items):
        pass
    return perf_counter() - start


def held(work, pending, seconds, length):
    """Keep so many calls pending and wait; return the share of a core that this process used meanwhile."""
    calls = deque(work.nap(0, length) for _ in range(pending))

    def turn():
        if calls:
            calls.popleft().result()
            calls.append(work.nap(0, length))
        else:
            sleep(seconds)

    turn()  # making the calls is not waiting for them
    spent, start = process_time(), perf_counter()
    while perf_counter() - start < seconds:
        turn()
    share = (process_time() - spent) / (perf_counter() - start)
    for call in calls:
        call.cancel()
    return share
