"""When to try again: an entry after a refusal of its own, a queue after a failure of its site or of DNS. Pure.

Jitter comes from a checksum, not from chance: the recipients of one message in a queue stay together (one transaction), a
restart changes nothing, and 100,000 messages that failed together do not come back together. The checksum must be one that mixes:
CRC-32 of one name at two attempts differs by a constant, so that waves were spread out in one round and met again in the next.
"""

from collections.abc import Sequence
from hashlib import blake2b

from mta.model.envelope import QueueKey

RETRY_SPREAD = 0.1  # an interval of 10 minutes becomes 10 to 11
# Of a rest up to half is taken off: a thousand destinations that were lost together (a network was down) are tried again at an
# even pace. With a tenth they came back in waves of six times the mean, round after round.
BACKOFF_SPREAD = 0.5
# DNS: a dead resolver is back for everybody at once, so each queue looks again soon, whatever its history.
DNS_SOON_S = 15.0
DNS_SPREAD_S = 15.0
# A domain whose own DNS is broken while others resolve: asked again after a quarter of its oldest message's age. An outage cannot
# be told from that for certain (what is cached still resolves), so this starts late and ends soon.
DNS_LAME_AFTER_S = 3600.0
DNS_PATIENCE = 0.25
DNS_CAP_S = 900.0


def spread(*parts: object) -> float:
    """A number from 0 up to 1, always the same for the same parts."""
    text = "\0".join(map(str, parts)).encode("utf-8", "replace")
    return int.from_bytes(blake2b(text, digest_size=4).digest(), "big") / 4_294_967_296


def retry_delay(intervals: Sequence[float], attempts: int, message: int, key: QueueKey) -> float:
    """Seconds to the next try after so many (1: the first has just failed); the last interval repeats."""
    at = min(max(attempts, 1), len(intervals)) - 1
    return intervals[at] * (1.0 + RETRY_SPREAD * spread(message, key.domain, key.vmta, attempts))


def backoff_delay(initial: float, cap: float, attempts: int, key: QueueKey) -> float:
    """Seconds a queue rests after so many failures in a row: doubling to a cap, of which up to half is taken off."""
    doublings = min(max(attempts, 1) - 1, 30)  # beyond that every cap is reached
    full = min(initial * 2.0**doublings, cap)
    return full * (1.0 - BACKOFF_SPREAD * spread(key.domain, key.vmta, attempts))


def dns_delay(oldest_age_s: float, key: QueueKey, *, is_outage: bool, now: float) -> float:
    """Seconds a queue rests after DNS gave no answer; `is_outage`: nobody gets one.

    At most 30 s in an outage, so that mail flows within a minute of its end. The time is in the checksum: else the same
    queues would meet again at every round.
    """
    if not is_outage and oldest_age_s >= DNS_LAME_AFTER_S:
        return min(oldest_age_s * DNS_PATIENCE, DNS_CAP_S)
    return DNS_SOON_S + DNS_SPREAD_S * spread(key.domain, key.vmta, int(now))


def is_expired(age_s: float, expire_after: float) -> bool:
    """Whether a message has waited as long as it may."""
    return age_s >= expire_after
