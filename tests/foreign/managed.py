"""CPython's managers on services of mob: the module of the role that holds the objects, and the other end of it.

The classes of `multiprocessing.managers` stay as they are: its proxies call `_callmethod`, its managers `_create`. Only
what these do is replaced. An object is made by a call of the role, arrives as a handle (`mob.ref`), and each method of
a proxy calls one of the handle. A proxy that is sent travels as its handle, so at home it holds the object itself.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import subprocess
import sys
import threading
from functools import reduce
from multiprocessing import managers as of_cpython
from typing import Any

import mob
from mob.mobster import api

managers: Any = of_cpython
"""With the names that type checkers do not know."""

APP = """
import sys, mob
if __name__ == "__main__":
    mob.start(sys.argv[1]).role("manager", "tests.foreign.managed").run()
"""
READY = "the manager is ready"


# ---------------------------------------------------------------------------------------------- in the role


@mob.on("ready")
def tell() -> None:
    """Have the other end connect."""
    print(READY, flush=True)


@mob.export
def create(manager: str, typeid: str, args: list[Any], named: dict[str, Any]) -> Any:
    """Make an object of a type that a manager has registered; what is exposed of it, and the object."""
    make, exposed, _, _ = registry(manager)[typeid]
    return referred(make(*args, **named), exposed)


@mob.export
def create_from(target: Any, name: str, args: list[Any], manager: str, typeid: str) -> Any:
    """The same for what a method returns."""
    return referred(getattr(target, name)(*args), registry(manager)[typeid][1])


@mob.export
def count() -> int:
    """How many objects are known elsewhere."""
    gc.collect()
    return api.current("count").references.statistics()["lent"]


def referred(target: Any, exposed: Any) -> Any:
    names = tuple(exposed or managers.public_methods(target))
    callable_ones = [name for name in (*names, "__repr__") if callable(getattr(type(target), name, None))]
    return names, hosted(target, callable_ones)


def hosted(target: Any, names: list[str]) -> Any:
    private = [name for name in names if name.startswith("_") and not name.startswith("__")]
    if private:  # a manager may expose them; mob never does, so they get another name
        kind = type(target)
        opened = type(kind.__name__, (kind,), {f"private{name}": getattr(kind, name) for name in private})
        target.__class__ = opened
        names = [f"private{name}" if name in private else name for name in names]
    return mob.ref(target, methods=names)


def registry(manager: str) -> dict[str, Any]:
    return found(manager)._registry


def found(path: str) -> Any:
    module, _, name = path.partition(":")
    return reduce(getattr, name.split("."), importlib.import_module(module))


# ------------------------------------------------------------------------------------------- at both ends


def path_of(kind: Any) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


class Hold:
    """What stands in the place of a `Token`: the type, and the handle, or at home the object."""

    address = None

    def __init__(self, typeid: str, handle: Any, exposed: tuple[str, ...], manager: str) -> None:
        self.typeid, self.handle, self.exposed, self.manager = typeid, handle, tuple(exposed), manager
        self.id = None


def begin_proxy(proxy: Any, token: Hold, serializer: Any, **named: Any) -> None:
    vars(proxy).update(_token=token, _serializer=serializer, _manager=named.get("manager"), _id=None, _isauto=False)


def call_method(proxy: Any, name: str, args: Any = (), named: Any = {}) -> Any:  # noqa: B006  as in CPython
    hold = vars(proxy)["_token"]
    _, _, results, _ = registry(hold.manager)[hold.typeid]
    if not isinstance(hold.handle, mob.RemoteObject):
        return getattr(hold.handle, name)(*args, **named)
    wanted = (results or {}).get(name)
    if wanted:
        back = vars(proxy)["_manager"]._back if vars(proxy)["_manager"] else current[-1]._back
        exposed, handle = back.create_from(hold.handle, name, args, hold.manager, wanted).result()
        return made(wanted, handle, exposed, hold.manager, owner=None)
    remote = f"private{name}" if name.startswith("_") and not name.startswith("__") else name
    try:
        result = mob.RemoteMethod(hold.handle, remote)(*args, **named).result()
    except mob.RemoteError as error:
        if str(error).startswith("StopIteration"):  # never raised as such, because it would end the caller's generators
            raise StopIteration from None
        raise
    return [tuple(each) for each in result] if name == "items" else result  # MessagePack has no tuples


def made(typeid: str, handle: Any, exposed: Any, manager: str, *, owner: Any) -> Any:
    token = Hold(typeid, handle, exposed, manager)
    return registry(manager)[typeid][3](token, "pickle", manager=owner, exposed=token.exposed, authkey=b"")


def sent(proxy: Any) -> list[Any]:
    hold = vars(proxy)["_token"]
    handle = hold.handle
    if not isinstance(handle, mob.RemoteObject):
        handle = referred(handle, hold.exposed)[1]
    return [hold.typeid, handle, hold.exposed, hold.manager]


mob.register(slice, lambda it: [it.start, it.stop, it.step], lambda data: slice(*data))
mob.register(managers.BaseProxy, sent, lambda data: made(*data, owner=None))
managers.BaseProxy.__init__ = begin_proxy
managers.BaseProxy._callmethod = call_method
managers.BaseProxy.__str__ = lambda self: self._callmethod("__repr__")


# ------------------------------------------------------------------------------------------- in the tests


class Exited:
    """What the tests ask of the process of a manager."""

    exitcode: int | None = None


current: list[Any] = []
"""The managers that run."""


def start(self: Any, *args: Any) -> None:
    name = f"managed-{os.getpid()}-{id(self)}"
    running: Any = subprocess.Popen([sys.executable, "-c", APP, name], stdout=subprocess.PIPE, text=True)
    self._running = running
    if not any(READY in line for line in running.stdout):
        raise RuntimeError(f"{name} ended before it was ready")
    threading.Thread(target=running.stdout.read, daemon=True).start()  # else its output would fill the pipe
    self._client = mob.connect(name)
    self._back = self._client.require("manager")
    self._process = Exited()
    self._serializer, self._authkey = "pickle", b""
    self._Client = lambda *args, **named: None
    self._state.value = managers.State.STARTED
    current.append(self)


def make(self: Any, typeid: str, /, *args: Any, **named: Any) -> tuple[Hold, Any]:
    assert self._state.value == managers.State.STARTED
    manager = path_of(type(self))
    exposed, handle = self._back.create(manager, typeid, args, named).result()
    return Hold(typeid, handle, exposed, manager), tuple(exposed)


def shutdown(self: Any) -> None:
    if self._state.value != managers.State.STARTED:
        return
    self._state.value = managers.State.SHUTDOWN
    current.remove(self)
    self._client.close()
    self._running.send_signal(signal.SIGTERM)
    self._process.exitcode = self._running.wait(60)


def end() -> None:
    """End the managers that tests have left."""
    for manager in list(current):
        shutdown(manager)


def replace() -> None:
    """Have the managers of this process be mob's."""
    base: Any = managers.BaseManager
    base.start, base._create, base.shutdown = start, make, shutdown
    base.join = lambda self, timeout=None: None
    base._number_of_objects = lambda self: self._back.count().result()
    base._debug_info = lambda self: repr(self._back)
    managers.dispatch = lambda *args, **named: None
    managers.RemoteError = mob.CallError
