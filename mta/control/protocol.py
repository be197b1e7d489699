"""What both ends of the control socket agree on: one JSON object a line.

A request is `{"verb": …, "args": {…}}`. The answer is `{"ok": …}` or `{"error": {"text": …, "hint":
…}}`; a long list comes first as any number of `{"items": […]}` lines. One request after the other
on a connection. Lines are bounded in both directions.
"""

from typing import Any

import msgspec

MAX_REQUEST = 1 << 20  # bytes of a request's line: a filter, a list of ids
MAX_ANSWER = 16 << 20  # bytes of an answer's line: more than that is streamed as items


class ControlError(Exception):
    """Why a request was not done, and what the operator can do about it."""

    def __init__(self, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.hint = hint


class Request(msgspec.Struct, forbid_unknown_fields=True):
    """One request line."""

    verb: str
    args: dict[str, Any] = {}


class ErrorBody(msgspec.Struct):
    """The part of an answer that says what is wrong."""

    text: str
    hint: str = ""


class Answer(msgspec.Struct):
    """One answer line: exactly one of the three is set."""

    ok: Any = msgspec.UNSET
    items: list[Any] | msgspec.UnsetType = msgspec.UNSET
    error: ErrorBody | msgspec.UnsetType = msgspec.UNSET


_encoder = msgspec.json.Encoder()
_requests = msgspec.json.Decoder(Request)
_answers = msgspec.json.Decoder(Answer)


def encode_line(line: Request | Answer) -> bytes:
    """The line with its end. Raises TypeError for a value JSON has no word for."""
    return _encoder.encode(line) + b"\n"


def decode_request(line: bytes) -> Request:
    """Raises msgspec.DecodeError (a ValueError) that says what is wrong."""
    return _requests.decode(line)


def decode_answer(line: bytes) -> Answer:
    """Raises msgspec.DecodeError (a ValueError)."""
    return _answers.decode(line)
