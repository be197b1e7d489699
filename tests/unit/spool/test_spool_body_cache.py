"""Bodies at hand for their first attempt: bounded in bytes and in time."""

from mta.model.envelope import Message
from mta.spool.bodies import BodyCache


def a_message(number: int, at: float) -> Message:
    return Message(0, number, "a@sender.example", 0, at, "default")


def test_the_oldest_make_room() -> None:
    cache = BodyCache(10_000)
    for number in range(5):
        cache.put(a_message(number, 0.0), b"", bytes(3_000), 1)
        assert cache.held_bytes <= 10_000
    assert [cache.get(a_message(number, 0.0)) is None for number in range(5)] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_a_body_leaves_with_its_last_recipient() -> None:
    cache, message = BodyCache(10_000), a_message(1, 0.0)
    cache.put(message, b"prefix", b"body", 2)
    cache.release(message)
    assert cache.get(message) == (b"prefix", b"body")
    cache.release(message)
    assert cache.get(message) is None
    assert cache.held_bytes == 0


def test_what_did_not_go_out_in_time_is_let_go() -> None:
    cache = BodyCache(100_000)
    for number in range(10):
        cache.put(a_message(number, float(number)), b"", bytes(1_000), 1)
    held = cache.held_bytes
    assert cache.forget_before(4.0) == held * 4 // 10
    assert [n for n in range(10) if cache.get(a_message(n, 0.0))] == [4, 5, 6, 7, 8, 9]
    assert cache.forget_before(4.0) == 0
    assert cache.forget_before(100.0) == held - held * 4 // 10
    assert cache.held_bytes == 0
