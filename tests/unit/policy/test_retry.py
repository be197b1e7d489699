"""When to try again."""

from collections import Counter

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
        assert full * 0.5 <= backoff_delay(60.0, 3600.0, attempts, KEY) <= full


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


def test_what_failed_together_is_tried_at_an_even_pace_after_a_few_rounds() -> None:
    """Attempts in each of sixteen parts of the longest rest, after the fourth failure of 4,000 queues at one moment."""
    tried: Counter[int] = Counter()
    for number in range(4_000):
        at = 0.0
        for attempts in range(1, 12):
            at += backoff_delay(60.0, 240.0, attempts, QueueKey(f"d{number}.example", "default"))
            tried[int(at / 15)] += 1
    later = [tried[part] for part in range(40, 56)]
    assert max(later) <= 1.3 * sum(later) / len(later)
    assert min(later) >= 0.7 * sum(later) / len(later)
