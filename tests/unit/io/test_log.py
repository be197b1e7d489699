"""The log: one event is one line, whatever strangers said; secrets are not in it."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from mta.io.log import REDACTED, set_up_log


@pytest.fixture(autouse=True)
def quiet_afterwards() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(format: str = "json", level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    set_up_log(format, level, stream)  # type: ignore[arg-type]
    return stream


def only_line(stream: io.StringIO) -> str:
    (line,) = stream.getvalue().split("\n")[:-1]
    return line


@pytest.mark.parametrize("format", ["logfmt", "json"])
def test_a_reply_with_line_ends_escapes_and_direction_marks_stays_one_harmless_line(
    format: str,
) -> None:
    stream = lines(format)
    structlog.get_logger().info("refused", reply="no\r\nlevel=error event=forged \x1b[2J\x9b\u202e")
    line = only_line(stream)
    assert "\\x1b" in line and "\\x9b" in line and "\\u202e" in line and "\\x0d" in line
    assert line.isprintable()


def test_logfmt_begins_with_time_level_and_event() -> None:
    stream = lines("logfmt")
    structlog.get_logger().info("started", workers=2, lab=True)
    line = only_line(stream)
    assert line.startswith("timestamp=2")
    assert line.endswith("level=info event=started workers=2 lab=true")


@pytest.mark.parametrize(
    "name", ["password", "auth", "webhook_token", "private_key", "Authorization", "body"]
)
def test_a_secret_is_not_written_even_within_a_table(name: str) -> None:
    stream = lines()
    structlog.get_logger().info(
        "x", **{name: "hunter2"}, args={name: "hunter2", "to": {name: "hunter2"}}
    )
    assert "hunter2" not in stream.getvalue()
    assert stream.getvalue().count(REDACTED) == 3


def test_the_name_of_a_queue_is_no_secret() -> None:
    stream = lines()
    structlog.get_logger().info("x", key="example.net/default")
    assert json.loads(only_line(stream))["key"] == "example.net/default"


@pytest.mark.parametrize("format", ["logfmt", "json"])
def test_a_traceback_is_within_its_line(format: str) -> None:
    stream = lines(format)
    try:
        raise ValueError("bad\x1b")
    except ValueError:
        structlog.get_logger().exception("failed", message=7)
    line = only_line(stream)
    assert "\\nValueError: bad" in line
    assert "\x1b" not in line


def test_bytes_lists_and_long_values_are_shown_safely() -> None:
    stream = lines()
    structlog.get_logger().info("x", raw=b"\xff\r\n", many=["a\n", 1], long="y" * 5000)
    event = json.loads(only_line(stream))
    assert event["raw"] == "\\xff\\x0d\\x0a"
    assert event["many"] == ["a\\x0a", 1]
    assert event["long"].endswith("(5000 characters)")


def test_a_level_below_the_chosen_one_is_not_written() -> None:
    stream = lines(level="warning")
    structlog.get_logger().info("quiet")
    assert stream.getvalue() == ""


def test_an_unknown_level_is_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match="choose one of debug, info"):
        set_up_log("json", "loud")


def test_the_loggers_of_libraries_end_in_the_same_form() -> None:
    stream = lines()
    logging.getLogger("asyncio").warning("slow callback\n%s", "x\x1b")
    event = json.loads(only_line(stream))
    assert (event["logger"], event["level"], event["event"]) == (
        "asyncio",
        "warning",
        "slow callback\\x0ax\\x1b",
    )


def test_a_log_that_cannot_be_written_stops_nothing() -> None:
    stream = lines()
    stream.close()
    structlog.get_logger().info("nobody hears")
    logging.getLogger("asyncio").warning("nor this")
