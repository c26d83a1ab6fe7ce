"""Pools: any function in worker processes, behind the interface of `concurrent.futures`.

`executor` is what users hold. A task travels as an ordinary call of `worker.run` in an ordinary role; `pickling` makes
its function and arguments bytes, and buffers beside them. `hosting` starts the app that is inside of a `mob.Pool`.

This is the one room of mob that unpickles. A role whose module is `worker` is named as a pool (`RolePlan.pool`), accepts
tasks from processes of this machine only, and the system lets only processes of the same user connect to it.
"""
