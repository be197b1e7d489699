"""The log: one line an event on standard error, as logfmt or JSON, for the journal to keep.

Call `set_up_log` once, before anything is logged; then `structlog.get_logger()` anywhere from floor
3 up. What strangers said has its control characters and direction marks escaped before it is
rendered (CWE-117), so a line is one line. Values whose names say that they are secret are never
written. The standard library's loggers (asyncio, aiosmtpd) end in the same place. A log that cannot
be written is no reason to stop the mail: the line is dropped.
"""

import logging
import sys
from collections.abc import Mapping
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from mta.model.escape import escape_controls

LogFormat = Literal["logfmt", "json"]
LEVELS = ("debug", "info", "warning", "error")

REDACTED = "[redacted]"
# A name with one of these words in it is a secret's; `key` alone is a queue's name here.
_SECRET_WORDS = (
    "password", "passwd", "secret", "token", "credential", "authorization", "private_key", "pem", "cookie",
)  # fmt: skip
# A name that is exactly this is a secret's, or a message's content, which is not ours to write.
_SECRET_NAMES = frozenset({"auth", "auth_param", "body", "data", "content"})

MAX_VALUE = 4096  # characters of one value; a traceback is not cut


def set_up_log(
    format: LogFormat = "logfmt", level: str = "info", stream: TextIO | None = None
) -> None:
    """Configure structlog and the standard library's root logger. Raises ValueError for an unknown
    level."""
    if level not in LEVELS:
        raise ValueError(f"{level!r} is no log level; choose one of {', '.join(LEVELS)}")
    number = getattr(logging, level.upper())
    output = _Output(stream or sys.stderr)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
        escape_values,
    ]
    render = _renderer(format)
    structlog.configure(
        processors=[*shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(output),  # type: ignore[arg-type]
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                render,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # What libraries tell at info is not for our operator.
    root.setLevel(max(number, logging.WARNING))


def redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Processor: secrets do not reach the log."""
    for name in event:
        if _is_secret(name):
            event[name] = REDACTED
        elif isinstance(event[name], Mapping):
            event[name] = _redact_within(event[name])
    return event


def escape_values(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Processor: every value safe to show on one line, and of bounded length."""
    for name, value in event.items():
        if name == "exception":  # its line ends are ours; both renderers write them as \\n
            event[name] = "\n".join(escape_controls(line) for line in str(value).split("\n"))
        else:
            event[name] = _escape(value)
    return event


def _is_secret(name: str) -> bool:
    lower = name.lower()
    return lower in _SECRET_NAMES or any(word in lower for word in _SECRET_WORDS)


def _redact_within(values: Mapping[Any, Any]) -> dict[Any, Any]:
    return {
        name: REDACTED
        if _is_secret(str(name))
        else (_redact_within(value) if isinstance(value, Mapping) else value)
        for name, value in values.items()
    }


def _escape(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {_escape(str(name)): _escape(one) for name, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_escape(one) for one in value]
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    if len(text) > MAX_VALUE:
        text = f"{text[:MAX_VALUE]}… ({len(text)} characters)"
    return escape_controls(text)


def _renderer(format: LogFormat) -> Processor:
    if format == "json":
        return structlog.processors.JSONRenderer(ensure_ascii=False)
    return structlog.processors.LogfmtRenderer(
        # What filters look for stands before anything in a stranger's words.
        key_order=["timestamp", "level", "event", "peer", "step"],
        drop_missing=True,
        bool_as_flag=False,
    )


class _Output:
    """A stream that may be closed, full or gone without anybody noticing."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.dropped = 0

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except (OSError, ValueError):  # ValueError: closed, or not encodable
            self.dropped += 1
            return 0

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self.dropped += 1
