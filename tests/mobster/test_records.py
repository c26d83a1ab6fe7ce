"""What mob adds to records of `logging`, and their form as JSON."""

from __future__ import annotations

import io
import json
import logging
import logging.config
import pickle
from collections.abc import Iterator
from logging.handlers import QueueHandler
from queue import SimpleQueue

import pytest

from mob.mobster import records
from mob.mobster.records import JsonFormatter
from mob.plan import RolePlan
from mob.wire import messages as m


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    before = logging.getLogRecordFactory()
    records.install(m.Fork(7, 3, 0, "shop", "/", RolePlan("back", "back.py"), 30.0, 4096, False))
    yield
    logging.setLogRecordFactory(before)


def log_to(formatter: logging.Formatter) -> tuple[logging.Logger, io.StringIO]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logger = logging.Logger("test")
    logger.addHandler(handler)
    return logger, stream


def logged(text: str, *args: object, **options: object) -> dict[str, object]:
    logger, stream = log_to(JsonFormatter())
    logger.warning(text, *args, **options)  # type: ignore[arg-type]
    (line,) = stream.getvalue().splitlines()
    return dict(json.loads(line))


def test_a_format_may_name_what_mob_adds() -> None:
    logger, stream = log_to(logging.Formatter("%(app)s %(role)s.%(index)s [%(call)s] %(message)s"))
    logger.info("hello")
    assert stream.getvalue() == "shop back.3 [] hello\n"


def test_the_app_keeps_fields_of_its_own_by_the_same_names() -> None:
    logger, stream = log_to(logging.Formatter("%(role)s %(index)s %(call)s"))
    logger.info("", extra={"role": "admin", "index": "first", "call": "mine"})
    assert stream.getvalue() == "admin first mine\n"
    with pytest.raises(KeyError, match="overwrite 'name'"):
        logger.info("", extra={"name": "as ever"})


def test_a_factory_that_was_set_before_and_one_that_is_set_later_are_respected() -> None:
    below = logging.getLogRecordFactory()

    def mine(*args: object, **kwargs: object) -> logging.LogRecord:
        record = below(*args, **kwargs)
        record.tenant = "acme"
        return record

    logging.setLogRecordFactory(mine)
    records.install(m.Fork(8, 4, 0, "shop", "/", RolePlan("front", "front.py"), 30.0, 4096, False))
    logger, stream = log_to(logging.Formatter("%(tenant)s %(role)s.%(index)s"))
    logger.info("")
    assert stream.getvalue() == "acme front.4\n"


def test_records_pass_queues_and_pickle() -> None:
    queue: SimpleQueue[logging.LogRecord] = SimpleQueue()
    logger = logging.Logger("test")
    logger.addHandler(QueueHandler(queue))
    logger.info("hello %s", "you")
    record = pickle.loads(pickle.dumps(queue.get()))
    assert (record.role, record.index, record.getMessage()) == ("back", 3, "hello you")


def test_a_record_as_json() -> None:
    fields = logged("hello %s", "you", extra={"order": 4711})
    assert fields.pop("pid")
    assert str(fields.pop("time")).endswith("Z")
    assert fields == {
        "level": "WARNING",
        "logger": "test",
        "message": "hello you",
        "app": "shop",
        "role": "back",
        "index": 3,
        "order": 4711,
    }


def test_a_traceback_is_a_field() -> None:
    try:
        raise ValueError("no such order")
    except ValueError:
        fields = logged("failed", exc_info=True, stack_info=True)
    assert str(fields["exc_info"]).startswith("Traceback")
    assert str(fields["exc_info"]).endswith("ValueError: no such order")
    assert str(fields["stack_info"]).startswith("Stack")


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("not in the mood")


def test_what_has_no_form_in_json_is_shown_as_python_does() -> None:
    fields = logged("a\ud800", extra={"one": object, "two": {1, 2}, "three": Unshowable(), "four": {(1, 2): 3}})
    assert fields["message"] == "a?"
    assert fields["one"] == "<class 'object'>"
    assert "RuntimeError" in str(fields["three"])
    assert logged("x", extra={"sets": {1}, "complex": 1j})["complex"] == "1j"


def test_a_configuration_may_name_the_formatter(capsys: pytest.CaptureFixture[str]) -> None:
    handler = {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stdout"}
    logger = {"handlers": ["h"], "propagate": False}
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"json": {"class": "mob.JsonFormatter"}},
            "handlers": {"h": handler},
            "loggers": {"test.records": logger},
        }
    )
    logging.getLogger("test.records").error("hello")
    assert json.loads(capsys.readouterr().out)["message"] == "hello"


def test_outside_of_a_mobster_it_says_what_it_knows() -> None:
    record = logging.LogRecord("a", logging.INFO, "", 0, "hello", (), None)
    fields = json.loads(JsonFormatter().format(record))
    assert set(fields) == {"time", "level", "logger", "message"}
