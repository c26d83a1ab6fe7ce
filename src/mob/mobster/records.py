"""What `logging` knows in a mobster: which worker logs, and for which call; and records as JSON.

Every record carries `app`, `role`, `index`, `pid`, `call` (the call that is being served, "" if none) and `request_id`
(the request to which the call belongs), so that any format can use them. If an app has its own fields with these names
(`extra={"index": 3}`), they are kept. The work is done when a record is created; a process that does not log pays
nothing.
"""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime
from typing import Any

import msgspec

from mob.peer.calls.request_ids import request_id
from mob.peer.links.served import SERVED
from mob.wire import messages as m

OURS = frozenset({"app", "role", "index", "pid", "call", "request_id"})
STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}
_place = {"index": 0}
_JSON = msgspec.json.Encoder(enc_hook=repr)


class Attributes(dict[str, Any]):
    """The attributes of a record, in which `extra=` may replace those added by mob, although `logging` forbids it."""

    def __contains__(self, name: object) -> bool:
        return name not in OURS and super().__contains__(name)


class JsonFormatter(logging.Formatter):
    """A formatter that writes a record as one JSON object on one line.

    Fields: time, level, logger, message; the worker that logged, and for which call; the fields of `extra=`; and the
    traceback, if there is one, as `exc_info`.

    With `app.logs(format="json")` a mobster uses it unless `logging` is configured. If you configure `logging`
    yourself, set this formatter where you want JSON, for example for a file of your own.

    >>> import mob
    >>> handler = logging.StreamHandler()
    >>> handler.setFormatter(mob.JsonFormatter())
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the JSON object, in one line."""
        attributes = record.__dict__
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")[:-6] + "Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields |= {name: value for name, value in attributes.items() if name not in STANDARD and name[:1] != "_"}
        for name in ("call", "request_id"):
            if not fields.get(name, True):
                del fields[name]
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            fields["exc_info"] = record.exc_text
        if record.stack_info:
            fields["stack_info"] = self.formatStack(record.stack_info)
        return _encoded(fields)


def _encoded(fields: dict[str, Any]) -> str:
    """Return JSON; values that have no form in JSON are written as their `repr`."""
    try:
        return _JSON.encode(fields).decode()
    except Exception:  # noqa: BLE001  a field that cannot be shown must not lose the record
        safe = {
            name: value if isinstance(value, int | float | None) else _shown(value) for name, value in fields.items()
        }
        return _JSON.encode(safe).decode()


def _shown(value: object) -> str:
    try:
        text = value if isinstance(value, str) else repr(value)
    except Exception as error:  # noqa: BLE001  any exception of the application
        text = f"<{type(value).__name__} whose repr() raised {type(error).__name__}>"
    return text.encode(errors="replace").decode()  # half a surrogate pair has no form in UTF-8


def install(order: m.Fork) -> None:
    """Add the worker to every record from now on; unless the app configures `logging`, set the app's format, too."""
    before = logging.getLogRecordFactory()
    app, role = order.app, order.role.name
    move(order.index)

    def make(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = before(*args, **kwargs)
        attributes = Attributes(record.__dict__)
        attributes.update(
            app=app, role=role, index=_place["index"], pid=os.getpid(), call=call_id(), request_id=request_id()
        )
        record.__dict__ = attributes
        return record

    logging.setLogRecordFactory(make)
    if order.log_format == "json" and logging.lastResort is not None:
        logging.lastResort.setFormatter(JsonFormatter())


def move(index: int) -> None:
    """Give this mobster another index."""
    _place["index"] = index


def call_id() -> str:
    """Return the call that is being served in this context: the uid of its caller and its number there."""
    served = SERVED.get()
    if served is None or served[1] is None:
        return ""
    return f"{served[0].uid}-{served[1].id}"
