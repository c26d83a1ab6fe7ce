"""Measures mob beside its peers, on one machine, in one run: `python -m bench` from the root of the repository.

__main__.py       arguments; starts the sides, runs the rounds, writes RESULTS.md
measure.py        the rows, the figures and the tables                      no process, no clock
targets.py        what mob is meant to reach, and whether it did            no process, no clock
side.py           a side: one process per peer, asked over a pipe to measure one row
loops.py          the rows of a side whose calls are awaited
cpu.py            user and system time per call, at both ends
floor.py          a blocking echo in C, below which nothing can be          (floor.c)
pipe.py           multiprocessing.Pipe
executor_side.py  concurrent.futures.ProcessPoolExecutor
zmq_side.py       pyzmq on asyncio
xoscar_side.py    xoscar actors
grpc_side.py      grpc.aio over a Unix socket
gunicorn_side.py  gunicorn's dirty workers
ray_side.py       a Ray actor
node_side.py      the toolkit of the same name on Node                      (apps/node/)
mob_side.py       mob itself                                                (apps/)
load_side.py      mob under load: callers by workers, short calls beside slow ones
load_tables.py    the tables of that                                        no process, no clock
fanout.py         how calls spread over workers, on its own; FANOUT.md
fanout_peers.py   bare processes and ProcessPoolExecutor, beside it
fanout_tables.py  its tables, and what mob is meant to reach in them        no process, no clock
pools.py          mob.Pool beside other pools, on its own; POOLS.md
pools_side.py     its rows, for any pool
pools_sides.py    the pools
pools_work.py     what runs in them
pools_tables.py   its tables, and what mob is meant to reach in them        no process, no clock
jobs.py           durable jobs beside huey and Celery, on its own; JOBS.md
tables.py         a table to a worker and a sum back, on its own; TABLES.md
tables_sides.py   what its sides have in common: tables_mob.py, tables_ray.py, tables_pool.py
tables_work.py    the tables, and what is done with them
"""
