"""When to try again."""

import pytest

from mta.model.envelope import QueueKey
from mta.policy.retry import backoff_delay, dns_delay, is_expired, retry_delay

KEY = QueueKey("gmail.com", "a")
INTERVALS = (600.0, 1200.0, 3600.0)


@pytest.mark.parametrize(
    ("attempts", "interval"), [(0, 600), (1, 600), (2, 1200), (3, 3600), (4, 3600), (99, 3600)]
)
def test_the_intervals_follow_each_other_and_the_last_repeats(
    attempts: int, interval: float
) -> None:
    delay = retry_delay(INTERVALS, attempts, 7, KEY)
    assert interval <= delay < interval * 1.1


def test_recipients_of_one_message_in_a_queue_stay_together() -> None:
    assert retry_delay(INTERVALS, 1, 7, KEY) == retry_delay(INTERVALS, 1, 7, KEY)


def test_messages_that_failed_together_do_not_come_back_together() -> None:
    delays = sorted(retry_delay(INTERVALS, 1, message, KEY) for message in range(1000))
    per_slice = [sum(600 + 6 * n <= d < 606 + 6 * n for d in delays) for n in range(10)]
    assert max(per_slice) <= 2 * min(per_slice)


def test_the_backoff_of_a_queue_doubles_to_its_cap() -> None:
    for attempts in range(1, 40):
        full = min(60.0 * 2 ** (attempts - 1), 3600.0)
        assert full * 0.9 <= backoff_delay(60.0, 3600.0, attempts, KEY) <= full


def test_in_an_outage_of_dns_every_queue_looks_again_within_30_seconds() -> None:
    for age in (0.0, 60.0, 400_000.0):
        for n in range(50):
            key = QueueKey(f"d{n}.test", "a")
            assert 15 <= dns_delay(age, key, is_outage=True, now=1e9 + n) <= 30


def test_a_domain_with_broken_dns_is_asked_less_and_less_while_others_resolve() -> None:
    assert dns_delay(60.0, KEY, is_outage=False, now=0.0) <= 30
    assert dns_delay(3600.0, KEY, is_outage=False, now=0.0) == 900


def test_a_message_expires_at_its_age() -> None:
    assert is_expired(10.0, 10.0)
    assert not is_expired(9.9, 10.0)
