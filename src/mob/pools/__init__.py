"""Pools: any function in worker processes, behind the interface of `concurrent.futures`.

`executor` and `role` are what users hold. A task is an ordinary call of `worker.run` in an ordinary role; `pickling`
makes bytes of its function and arguments. `hosting` starts the app that is inside of a `mob.Pool`.

This is the one room of mob that unpickles. A role whose module is `worker` is named as a pool (`RolePlan.pool`). It
accepts tasks from processes of this machine only, and the system lets only those of the same user connect to it.
"""
