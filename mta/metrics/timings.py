"""How long things take in one worker: a histogram for each, with its help text.

`Timings` belong to the loop's thread, a spool's commits to its own. Only what ended well is timed: what fails is counted by its
reason elsewhere, and a time-out of minutes would hide what the others take. An observation is 0.2 µs; a message has four.
"""

from collections.abc import Iterable

from mta.metrics.histogram import COMMIT_EDGES, Histogram

# Seconds; the last edges are what RFC 5321 §4.5.3.2 lets a host take for a message.
DIALOGUE_EDGES = (*COMMIT_EDGES, 30.0, 60.0, 300.0, 600.0)
# From a first attempt to mail that was retried for days.
DELIVERY_EDGES = (
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 43200.0, 86400.0, 259200.0,
)  # fmt: skip
BATCH_EDGES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)

TIMINGS_HELP = {
    "accept_seconds": "From a message's final dot to its 250: signing and the commit.",
    "delivery_seconds": "From the acceptance of a message to each delivery of it.",
    "connect_seconds": "Connecting to a next hop, to the established connection.",
    "tls_handshake_seconds": "TLS handshakes with next hops.",
    "data_seconds": "From the first byte of a message to the next hop's reply to its final dot.",
}
COMMITS_HELP = {
    "commit_seconds": "Transactions of the spool, their fsync included.",
    "commit_operations": "Operations that share a transaction of the spool, and its fsync.",
}


class Timings:
    """The durations of one worker that are measured on its loop."""

    __slots__ = ("accept", "connect", "data", "delivery", "tls_handshake")

    def __init__(self) -> None:
        self.accept = Histogram(DIALOGUE_EDGES)
        self.delivery = Histogram(DELIVERY_EDGES)
        self.connect = Histogram(DIALOGUE_EDGES)
        self.tls_handshake = Histogram(DIALOGUE_EDGES)
        self.data = Histogram(DIALOGUE_EDGES)

    def by_name(self) -> dict[str, Histogram]:
        """Each by its name in `TIMINGS_HELP`."""
        return {name: getattr(self, name.removesuffix("_seconds")) for name in TIMINGS_HELP}


class Commits:
    """The commits of one spool: how long they take, how much shares one. Its thread observes."""

    __slots__ = ("operations", "seconds")

    def __init__(self) -> None:
        self.seconds = Histogram(COMMIT_EDGES)
        self.operations = Histogram(BATCH_EDGES)

    def by_name(self) -> dict[str, Histogram]:
        """Each by its name in `COMMITS_HELP`."""
        return {"commit_seconds": self.seconds, "commit_operations": self.operations}


def sum_of(histograms: Iterable[Histogram]) -> Histogram:
    """All of them as one; they have the same edges, and there is at least one."""
    first, *others = histograms
    total = Histogram(first.edges)
    for each in (first, *others):
        total.counts = [a + b for a, b in zip(total.counts, each.counts, strict=True)]
        total.sum += each.sum
        total.max = max(total.max, each.max)
    return total


def describe_timings() -> dict[str, str]:
    """Every histogram of this module with its help text."""
    return {**TIMINGS_HELP, **COMMITS_HELP}
