"""Names that people know from other libraries, and what to use here instead.

Read only when an error is raised; nothing works under these names. Knows nothing about the objects themselves.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

from mob.errors import nearest

F = TypeVar("F", bound=Callable[..., Any])

_STORE = 'a store: .store("cache") in the main script, mob.store("cache") in the module of a role'
_JOB = "a durable call: mob.require(role).options(durable=True).function()"
_TIMER = '@mob.every(seconds) or @mob.cron("15 0 * * *") on a function of a role'
_ROLE = 'mob.start(name).role("back", "./back.py").run()'
MODULE = {
    **dict.fromkeys(("cache", "lock", "Lock", "redis", "kv", "state", "shared", "limit", "rate_limit"), _STORE),
    **dict.fromkeys(("enqueue", "delay", "task", "job_queue", "queue", "Queue", "Celery", "durable"), _JOB),
    **dict.fromkeys(("timer", "timers", "schedule", "scheduler", "interval", "periodic", "repeat"), _TIMER),
    **dict.fromkeys(("role", "run", "worker", "Worker", "process", "service"), _ROLE),
    **dict.fromkeys(("publish", "broadcast", "emit"), "mob.send(obj), or mob.all(role).send(obj)"),
    **dict.fromkeys(("Executor", "executor", "map", "submit", "parallel"), "mob.Pool, or mob.pool(role)"),
    **dict.fromkeys(("summary", "metric", "Summary"), "mob.counter, mob.gauge or mob.histogram"),
    **dict.fromkeys(("subscribe", "event", "hook"), "@mob.on(event)"),
    "jobs": "mob.job(id) for one job, mob.connect(name).jobs() for all",
}
"""Names that the module `mob` does not have."""
STORE = {
    **dict.fromkeys(("path", "filename", "db", "database", "persist"), "'file'"),
    **dict.fromkeys(("maxmemory", "memory", "max_bytes", "size", "maxsize"), "'max_memory', such as \"500M\""),
}
QUEUE = {**dict.fromkeys(("file", "filename", "db", "database"), "'path'")}
LOGS = {**dict.fromkeys(("path", "filename"), "'file'")}
_LIMIT = "'max_age', in seconds, or 'max_memory'; 'max_calls' does not count HTTP requests"
_GRACE = "mob.start(name, grace=seconds), for the whole app"
_TIMEOUT = "'hang_timeout' for a blocked worker, or mob.export(kill_after=seconds) for calls"
_BIND = '\'serve\', such as "127.0.0.1:8000" or "unix:./web.sock"'
_SERVE_OPTIONS = "an option of uvicorn in 'serve_options'"
ROLE = {
    **dict.fromkeys(("max_requests", "max_requests_jitter", "limit_max_requests"), _LIMIT),
    **dict.fromkeys(("maxtasksperchild", "max_tasks_per_child"), "'max_calls'"),
    **dict.fromkeys(("max_lifetime", "lifetime"), "'max_age', in seconds"),
    **dict.fromkeys(("memory", "memory_limit", "max_memory_per_child"), "'max_memory', such as \"500M\""),
    **dict.fromkeys(("grace", "graceful_timeout", "stop_timeout", "shutdown_timeout"), _GRACE),
    **dict.fromkeys(("timeout", "worker_timeout", "time_limit"), _TIMEOUT),
    **dict.fromkeys(("start_timeout", "startup_timeout"), "'boot_timeout', in seconds"),
    **dict.fromkeys(("preload", "preload_app"), "app.preload(module, ...), for the whole app"),
    **dict.fromkeys(("bind", "host", "port", "address", "listen", "uds"), _BIND),
    **dict.fromkeys(("access_log", "accesslog", "keepalive", "keep_alive", "root_path"), _SERVE_OPTIONS),
    **dict.fromkeys(("processes", "num_workers", "numprocs", "instances", "replicas", "count"), "'workers'"),
    **dict.fromkeys(("environment", "environ"), "'env'"),
    **dict.fromkeys(("depends_on", "requires", "after"), "'needs'"),
    **dict.fromkeys(("max_restarts", "retries"), "'intensity', the number of restarts within 'period' seconds"),
    **dict.fromkeys(("logfile", "log_file", "errorlog", "stdout_logfile"), "app.logs(file=...), for the whole app"),
}
"""Options that methods of `App` do not have."""
EXPORT = {
    **dict.fromkeys(("kill", "kill_timeout", "hard_timeout", "time_limit", "max_time"), "'kill_after', in seconds"),
    **dict.fromkeys(("deadline", "soft_time_limit", "expires"), "'timeout', in seconds"),
    **dict.fromkeys(("limit", "max_concurrency", "parallel", "semaphore", "threads"), "'concurrency'"),
    **dict.fromkeys(("batch_size", "max_batch", "max_batch_size"), "'batch'"),
    **dict.fromkeys(("wait", "batch_wait", "batch_timeout", "linger", "max_wait"), "'within', in seconds"),
    **dict.fromkeys(("retry", "retries", "repeat", "repeatable"), "'idempotent'"),
}
"""Options that `mob.export` does not have."""


def instead(name: str, elsewhere: Mapping[str, str], known: Iterable[str]) -> str:
    """Return a sentence that helps with a name that does not exist: its equivalent here, else the nearest name.

    >>> instead("path", {"path": "'file'"}, ["file", "max_memory"])
    "Here it is 'file'."
    >>> instead("flie", {"path": "'file'"}, ["file", "max_memory"])
    "Did you mean 'file'?"
    """
    return f"Here it is {elsewhere[name]}." if name in elsewhere else nearest(name, known)


def spelled(elsewhere: Mapping[str, str], fault: type[Exception] = TypeError) -> Callable[[F], F]:
    """Return a decorator that raises a helpful error if a function is called with unknown options.

    Args:
        elsewhere: Options of other libraries, each with its equivalent here.
        fault: The exception to raise.

    >>> @spelled({"seconds": "'ttl', in seconds"})
    ... def keep(key, *, ttl=None): ...
    >>> keep("a", seconds=5)
    Traceback (most recent call last):
    TypeError: keep() has no option 'seconds'. Here it is 'ttl', in seconds.
    """

    def mark(function: F) -> F:
        @functools.wraps(function)
        def checked(*args: Any, **options: Any) -> Any:
            try:
                return function(*args, **options)
            except TypeError:
                _check(function, elsewhere, fault, args, options)
                raise

        return cast(F, checked)

    return mark


def _check(
    function: Any,
    elsewhere: Mapping[str, str],
    fault: type[Exception],
    args: tuple[Any, ...],
    options: dict[str, Any],
) -> None:
    """Raise if a function does not accept the options that it was called with."""
    code = function.__code__
    places = code.co_argcount
    known = [
        name for name in code.co_varnames[code.co_posonlyargcount : places + code.co_kwonlyargcount] if name != "self"
    ]
    for option in options:
        if option not in known:
            here = instead(option, elsewhere, known)
            raise fault(f"{function.__qualname__}() has no option {option!r}. {here}") from None
    if len(args) > places and code.co_kwonlyargcount:
        named = ", ".join(f"{name}=" for name in code.co_varnames[places : places + code.co_kwonlyargcount])
        raise fault(f"{function.__qualname__}() accepts these options only by name: {named}") from None
