"""Measures mob beside its peers, on one machine, in one run: `python -m bench` from the root of the repository.

__main__.py     arguments; starts the sides, runs the rounds, writes RESULTS.md
measure.py      the rows, the figures and the tables                        no process, no clock
side.py         a side: one process per peer, asked over a pipe to measure one row
floor.py        a blocking echo in C, below which nothing can be            (floor.c)
pipe.py         multiprocessing.Pipe
pool.py         concurrent.futures.ProcessPoolExecutor
zmq_side.py     pyzmq on asyncio
xoscar_side.py  xoscar actors
mob_side.py     mob itself                                                  (apps/)
"""
