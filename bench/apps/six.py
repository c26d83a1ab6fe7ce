"""Six spawned processes by multiprocessing, started by hand; prints `ready` when all six have said a word.

Stops when its input ends. The counterpart of examples/hello in the row on starting.
"""

import multiprocessing
import sys


def work(end):
    end.send(1)
    try:
        end.recv()
    except EOFError:
        pass


def main():
    spawn = multiprocessing.get_context("spawn")
    ends = []
    for _ in range(6):
        here, there = spawn.Pipe()
        spawn.Process(target=work, args=(there,), daemon=True).start()
        there.close()
        ends.append(here)
    for end in ends:
        end.recv()
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
