"""Pools: any function in worker processes, with the interface of `concurrent.futures`.

Users hold classes of `executor` and `role`. A task is an ordinary call of `worker.run` in an ordinary role; `pickling`
makes bytes of its function and arguments. `hosting` starts the app inside a `mob.Pool`.

This is the only package of mob that unpickles. A role with the module `worker` is marked as a pool (`RolePlan.pool`).
It accepts tasks only from processes of this machine, and the system lets only those of the same user connect to it.
"""
