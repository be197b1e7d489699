"""The command line's end of the control socket: synchronous, and clear when nobody answers.

Every failure is a ControlError with a text for the operator and a hint what to do. Imports little:
a command starts fast.
"""

import grp
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from mta.control.protocol import (
    MAX_ANSWER,
    Answer,
    ControlError,
    Request,
    decode_answer,
    encode_line,
)

TIMEOUT_S = 60.0  # longer than any verb's own deadline
_CHUNK = 1 << 16


class ControlClient:
    """A connection to the daemon; use it as a context manager. One request at a time."""

    def __init__(self, path: Path, timeout_s: float = TIMEOUT_S) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._socket = _connect(path, timeout_s)
        self._received = bytearray()

    def call(self, verb: str, **args: Any) -> Any:
        """The verb's answer; raises ControlError. A stream's items are its answer as a list."""
        items: list[Any] | None = None
        for answer in self._request(verb, args):
            if answer.items is not msgspec.UNSET:
                items = (items or []) + answer.items
            elif items is None:
                return answer.ok
        return items

    def stream(self, verb: str, **args: Any) -> Iterator[Any]:
        """The items of a long list as they come; raises ControlError, perhaps after some of
        them."""
        for answer in self._request(verb, args):
            if answer.items is not msgspec.UNSET:
                yield from answer.items

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _request(self, verb: str, args: dict[str, Any]) -> Iterator[Answer]:
        try:
            self._socket.sendall(encode_line(Request(verb, args)))
        except BrokenPipeError:
            pass  # refused at once: the answer says why
        except OSError as error:
            raise self._lost(error) from error
        while True:
            answer = self._read_answer()
            if answer.error is not msgspec.UNSET:
                raise ControlError(answer.error.text, answer.error.hint)
            yield answer
            if answer.items is msgspec.UNSET:
                return

    def _read_answer(self) -> Answer:
        searched = 0
        while (end := self._received.find(b"\n", searched)) < 0:
            searched = len(self._received)
            if searched > MAX_ANSWER:
                raise ControlError(f"the daemon's answer on {self._path} does not end")
            try:
                data = self._socket.recv(_CHUNK)
            except OSError as error:
                raise self._lost(error) from error
            if not data:
                raise ControlError(
                    f"the daemon on {self._path} hung up", "look at its log: it may have stopped"
                )
            self._received += data
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        try:
            return decode_answer(line)
        except msgspec.DecodeError as error:
            raise ControlError(
                f"what answers on {self._path} is not our daemon, or of another release"
            ) from error

    def _lost(self, error: OSError) -> ControlError:
        if isinstance(error, TimeoutError):
            return ControlError(
                f"the daemon on {self._path} did not answer within {self._timeout_s:g} s",
                "it may be very busy or stuck; look at its log",
            )
        return ControlError(f"lost the daemon on {self._path}: {error.strerror or error}")


def _connect(path: Path, timeout_s: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout_s)
    try:
        connection.connect(str(path))
    except OSError as error:
        connection.close()
        raise _no_daemon(path, error) from error
    return connection


def _no_daemon(path: Path, error: OSError) -> ControlError:
    start = "start it with `sluice run --config FILE`, or name its socket with --socket or --config"
    match error:
        case FileNotFoundError():
            return ControlError(f"no daemon: there is no control socket at {path}", start)
        case ConnectionRefusedError():
            return ControlError(f"no daemon answers on {path}: it has stopped or died", start)
        case PermissionError():
            return ControlError(f"you may not use the control socket {path}", _group_hint(path))
        case TimeoutError() | BlockingIOError():
            return ControlError(f"the daemon on {path} accepts no connection", "look at its log")
        case _:
            return ControlError(f"cannot use the control socket {path}: {error}", start)


def _group_hint(path: Path) -> str:
    with suppress(OSError, KeyError):
        name = grp.getgrgid(os.stat(path).st_gid).gr_name
        return f"become root, or a member of the group {name}"
    return "become root, or a member of the daemon's group"
