"""Events: what is written is read again, also by a release that knows more fields."""

import msgspec
import pytest

from mta.model.event import Attempt, Event, Gap, QueueDeferred, Received, decode_event, encode_event

RECEIVED = Received(1.5, 7, "a@b.example", 2, 4096, "a", "job", "", "smtp", "192.0.2.1", "x", "u")
ATTEMPT = Attempt(
    *(
        "d",
        2.0,
        7,
        8,
        "a@b.example",
        "c@d.example",
        "",
        "d.example",
        "a",
        "",
        "",
        4096,
        1.5,
        1.9,
        1,
    ),
    *(250, "2.0.0", "OK\x00é", False, "", "smtp", "feeder", "192.0.2.1", ""),
    may_repeat=True,
)
DEFERRED = QueueDeferred(3.0, "d.example", "a", 421, "4.4.2", "bye", True, "", 3, 63.0)
GAP = Gap(4.0, "statistics", 100)


@pytest.mark.parametrize("event", [RECEIVED, ATTEMPT, DEFERRED, GAP])
def test_an_event_written_is_read_again(event: Event) -> None:
    assert decode_event(encode_event(event)) == event


def test_an_event_of_an_older_release_gets_the_defaults_of_the_new_fields() -> None:
    fields = msgspec.msgpack.decode(encode_event(RECEIVED))
    older = msgspec.msgpack.encode(fields[:-1])
    assert decode_event(older) == RECEIVED


def test_bytes_that_are_no_event_are_refused() -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_event(b"\x93\xa1z\x01\x02")
