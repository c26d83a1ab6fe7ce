"""Every exception that mob raises, in one tree.

    MobError
    ├── PlanError (ValueError)           the description of the app is wrong
    ├── NotInMobster (RuntimeError)      used outside an app: in the Kingpin or a plain process
    ├── WrongProcess (RuntimeError)      a client was used in a child of the process that made it
    ├── AppRunning                       an app with that name is already running
    ├── AppNotRunning                    no app with that name is running (or it is another user's)
    ├── UnknownRole (LookupError)        the app has no such role
    ├── UnknownTarget (LookupError)      no such process, or not a thing that can be addressed
    ├── AddressHeld (OSError)            another program listens on the address that a mobster wants to share
    ├── BadMessage (TypeError)           the value cannot be sent; says where in the structure it sits
    ├── LinkError                        the bytes on a link are not mob's
    │   ├── GarbageFrame
    │   └── FrameTooLong
    ├── PartialFailure                   some targets of a broadcast call failed; `.results`, `.errors`
    └── CallError                        a call failed; `.executed` is "no", "maybe" or "yes"
        ├── Lost (ConnectionError, BrokenExecutor)  the process that had the call died
        ├── Unavailable                  no ready worker within the waiting time, or the app stops
        ├── Quarantined                  the export killed too many workers; it is tried again later
        ├── Forbidden (PermissionError)  the role restricts its callers (`callers=`), and this one is not among them
        ├── Fenced                       the caller is a singleton that lost its lease to another one
        ├── JobDropped                   the durable job was dropped before it was done
        ├── UnknownJob                   no durable job has that id, or its result was kept long enough
        ├── QueueFailed                  the file of the durable jobs cannot be written, or is damaged
        ├── Busy                         a bounded queue is full
        ├── CallTimeout (TimeoutError)   the deadline passed
        ├── Deadlock                     waiting would never end: the only thread that could answer is waiting
        ├── UnknownExport (AttributeError)  the role exports no such function
        ├── ArgumentError (TypeError)    wrong count, or wrong type according to the annotations
        └── RemoteError                  the callee raised; also an instance of the built-in class it derives from

Floor 0: knows nothing of the rest of mob. A message says whose fault it is, what was seen, what was expected and
what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import BrokenExecutor
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

Executed = Literal["no", "maybe", "yes"]


def nearest(name: str, names: Iterable[str]) -> str:
    """Return a sentence that helps after a mistyped name: the nearest name, else all names.

    >>> nearest("bakc", ["back", "front"])
    "Did you mean 'back'?"
    >>> nearest("zzz", ["front", "back"])
    "There are: 'back', 'front'."
    >>> nearest("zzz", [])
    'There are none.'
    """
    known = sorted(names)
    if close := suggested(name, known):
        return close.rstrip()
    if not known:
        return "There are none."
    return f"There are: {', '.join(map(repr, known))}."


def suggested(name: str, names: Iterable[str], alike: float = 0.6) -> str:
    """Return the question whether the nearest name was meant, followed by a blank; "" if none is near.

    `alike` is the minimum similarity of two names, as `difflib` measures it. For a short name among many 0.6 is low:
    'cache' and 'Machine' have that.

    >>> suggested("bakc", ["back", "front"])
    "Did you mean 'back'? "
    """
    close = difflib.get_close_matches(name, sorted(names), n=1, cutoff=alike)
    return f"Did you mean {close[0]!r}? " if close else ""


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the singular or the plural.

    >>> counted(1, "worker"), counted(1200, "worker")
    ('1 worker', '1,200 workers')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


class MobError(Exception):
    """The base class of mob's exceptions; raised itself when the Kingpin cannot carry out a request.

    Example:
        >>> try: app.reload("back")                            # doctest: +SKIP
        ... except mob.MobError as error: print(error)
    """


class PlanError(MobError, ValueError):
    """The description of the app is wrong: `mob.start(...)` and what follows, a `mob.toml`, an option.

    The line that is wrong raises it, or `.run()` if parts do not fit together.

    Example:
        >>> import mob
        >>> mob.start("my app")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        mob.errors.PlanError: ...
    """


class NotInMobster(MobError, RuntimeError):
    """A function for mobsters was used in the Kingpin or outside the app; use `mob.connect` there.

    Importing the module of a role is always possible: `mob.require("back")` and the like raise only when their result
    is used.

    Example:
        >>> import mob
        >>> mob.require("back").foo(1)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        mob.errors.NotInMobster: ...
    """


class WrongProcess(MobError, RuntimeError):
    """A client, or something made with it, was used in a forked child of the process that made it.

    Example:
        >>> app = mob.connect("myapp")                         # doctest: +SKIP
        >>> if os.fork() == 0: app = mob.connect("myapp")      # doctest: +SKIP
    """


class AppRunning(MobError):
    """An app with that name is already running on this machine. `.pid` is that of its Kingpin."""

    def __init__(self, message: str, pid: int | None = None) -> None:
        super().__init__(message)
        self.pid = pid


class AppNotRunning(MobError):
    """No app with that name is running on this machine, or it belongs to another user.

    `.pid` is that of its Kingpin if it runs and did not answer, else None.
    """

    def __init__(self, message: str, pid: int | None = None) -> None:
        super().__init__(message)
        self.pid = pid


class UnknownRole(MobError, LookupError):
    """The app has no role with that name: raised at once by `require` and the like, with the nearest name."""


class UnknownTarget(MobError, LookupError):
    """No ready mobster has that pid, or no machine of the cluster has that name. Processes come and go."""


class AddressHeld(MobError, OSError):
    """A process outside this app listens on the address. An `OSError` with `errno` set, as from `bind`."""


class BadMessage(MobError, TypeError):
    """A value that cannot be sent. `.where` says where in the structure it sits, e.g. `args[0]['user'].lock`.

    Raised by the line that calls or sends, before anything is sent. docs/types.md lists what can be sent.

    Example:
        >>> mob.send(threading.Lock())                         # doctest: +SKIP
    """

    def __init__(self, message: str, where: str = "") -> None:
        super().__init__(message)
        self.where = where


class LinkError(MobError):
    """The bytes that arrived on a link are not those of a mob process. Only that link is closed."""


class GarbageFrame(LinkError):
    """The bytes of a frame do not decode to messages."""


class FrameTooLong(LinkError):
    """The frame is longer than the limit (the app's `frame_limit`, 256 MiB by default)."""


class PartialFailure(MobError):
    """A broadcast call failed for some targets: `.results` and `.errors` are both by pid.

    Example:
        >>> try: mob.all("back").call.flush().result()         # doctest: +SKIP
        ... except mob.PartialFailure as failure: print(failure.errors)
    """

    def __init__(
        self, message: str, results: Mapping[int | str, Any], errors: Mapping[int | str, BaseException]
    ) -> None:
        super().__init__(message)
        self.results: dict[int | str, Any] = dict(results)
        self.errors: dict[int | str, BaseException] = dict(errors)


class CallError(MobError):
    """A call that failed.

    `.executed` says whether the function ran: `"no"` (it never started, repeating is safe), `"maybe"` or `"yes"`.

    Example:
        >>> try: await back.pay(order)                         # doctest: +SKIP
        ... except mob.CallError as error:
        ...     if error.executed == "no": await back.pay(order)
    """

    executed: Executed = "no"

    def __init__(self, message: str = "", *, executed: Executed | None = None) -> None:
        super().__init__(message)
        if executed is not None:
            self.executed = executed


class Lost(CallError, ConnectionError, BrokenExecutor):
    """The process that had the call died, or its link broke, before the answer arrived.

    Calls of an export with `idempotent=True` are repeated elsewhere first (`options(retries=...)`). It is also a
    `BrokenExecutor`, which programs written for `concurrent.futures` expect; but only this call failed.
    """

    executed: Executed = "maybe"


class Unavailable(CallError):
    """No worker became ready in time (30 s, `options(wait=)`), its role was given up, or the app ends."""


class Quarantined(CallError):
    """The export killed three workers within a minute, and is refused for a while: see docs/supervision.md."""


class Forbidden(CallError, PermissionError):
    """The role restricts which roles may call it (`callers=`), and the caller's is not among them."""


class Fenced(CallError):
    """The caller is a singleton that lost its lease: another one with a greater token is already known."""


class JobDropped(CallError):
    """The durable job was dropped before it was done: by its `drop()`, or by `mob jobs drop`."""

    executed: Executed = "maybe"


class UnknownJob(CallError):
    """No durable job has that id: it never existed, or it is done and its result was kept long enough."""


class QueueFailed(CallError):
    """The file of the durable jobs cannot be written, or is damaged. The text names it, and says what to do.

    Nothing was stored. After a full disk the queue continues by itself as soon as there is space.
    """


class Busy(CallError):
    """A bounded queue on the way is full (`queue=` of a role): the call was refused instead of being buffered.

    The caller may wait and try again, shed load, or give the role more workers. `send` raises it too, if the receiver
    has 64 MiB unread.
    """


class CallTimeout(CallError, TimeoutError):
    """The time for the call ran out: that of `options(timeout=)` or `export(timeout=)`, or what its caller had left.

    The text says how long the call waited and how long it ran. `result(timeout=)` raises it too; that call continues.
    """

    executed: Executed = "maybe"


class Deadlock(CallError):
    """Waiting for this answer would never end, because the thread that could give it is the one that would wait.

    The text names the circle. It does not happen with coroutines that `await` each other, or in roles with `threads`.
    """


class UnknownExport(CallError, AttributeError):
    """The role exports no function of that name; the text has the nearest one."""


class ArgumentError(CallError, TypeError):
    """The arguments do not fit the exported function. `.argument` is the first that does not, if it is one argument."""

    def __init__(self, message: str = "", *, executed: Executed | None = None, argument: str | None = None) -> None:
        super().__init__(message, executed=executed)
        self.argument = argument


class RemoteError(CallError):
    """The exported function raised.

    The error is also an instance of your own class if this process imported that, so `except OutOfStock:` works, and
    always of the built-in class from which the original derives, so `except ValueError:` works. `.type_name` is the
    qualified name of the original class, `.remote_args` and `.remote_attributes` are its arguments and attributes as
    far as they could be sent, and `.unsent_attributes` are the names of the attributes that could not.
    `.remote_traceback` is the traceback as it looked where the error was raised.

    Example:
        >>> try: back.divide(1, 0).result()                    # doctest: +SKIP
        ... except ZeroDivisionError as error: print(error.remote_traceback)
    """

    executed: Executed = "yes"
    type_name: str = "Exception"
    type_module: str = ""
    """Module in which the class can be found; "" if it cannot."""
    remote_args: tuple[Any, ...] = ()
    remote_attributes: Mapping[str, Any] = MappingProxyType({})
    unsent_attributes: tuple[str, ...] = ()

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name[:2] != "__" and name in self.unsent_attributes:
                raise AttributeError(
                    f"{self.type_name} has no attribute {name!r} here: the original has one, but it could not be sent, "
                    f"because its type cannot be sent or it is too large."
                )
            unsent = f" (not sent: {', '.join(self.unsent_attributes)})" if self.unsent_attributes else ""
            raise AttributeError(f"{self.type_name!r} object has no attribute {name!r}{unsent}")

    @property
    def remote_traceback(self) -> str:
        """The traceback as it looked in the process that raised, with those of its causes; "" if there is none."""
        return next((each.args[0] for each in causes_of(self) if issubclass(type(each), RemoteTraceback)), "")

    def __str__(self) -> str:
        return f"{self.type_name}: {self.message}" if self.message else self.type_name

    def __init__(self, message: str = "", *, executed: Executed | None = None) -> None:
        super().__init__(message, executed=executed)
        self.message = message


class RemoteTraceback(Exception):
    """The last cause of an error: its text is the traceback as it looked in the process that raised."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}" if self.args else ""


_cause_of: Callable[[BaseException], BaseException | None] = vars(BaseException)["__cause__"].__get__
_name_of: Callable[[type], str] = vars(type)["__name__"].__get__


def name_of(error: BaseException) -> str:
    """Return the name of an error's class, without calling anything of the error or its class.

    >>> name_of(ValueError("x"))
    'ValueError'
    """
    return _name_of(type(error))


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions that led to an error, the nearest first, whatever their classes make of `__cause__`."""
    seen: list[BaseException] = [error]
    while (cause := _cause_of(seen[-1])) is not None and all(cause is not each for each in seen):
        seen.append(cause)
        yield cause


def summary_of(error: BaseException) -> str:
    """Return the text of an error, with the name of its class if it was raised in another process.

    >>> summary_of(RemoteError("no such item")), summary_of(Busy("the queue is full"))
    ('Exception: no such item', 'the queue is full')
    """
    text = str(error)
    if not isinstance(error, RemoteError) or text.startswith(error.type_name):
        return text
    return f"{error.type_name}: {text}" if text else error.type_name
