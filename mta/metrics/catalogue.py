"""Every number on the metrics page: its name, its kind, its help text, and whether it is a worker's or the server's.

The counters of `counts` stand with their help there and the histograms of `timings` there; all others are here. Names are without
the prefix and without what Prometheus adds to a counter (`_total`). A *snapshot* is what one process answers: name → a number, a
mapping from a label's values to numbers (or, of a second label, to such mappings), or a histogram's parts; a name may be missing
where the number is not known. It is plain data, for it crosses processes. `docs/metrics.md` is rendered from here.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mta.metrics.counts import PREFIX, describe_counts
from mta.metrics.histogram import Histogram
from mta.metrics.timings import describe_timings

Snapshot = dict[str, Any]


class Kind(StrEnum):
    """As Prometheus calls them."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One name on the page. `labels`: those of its own, beside `worker`."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """The name Prometheus shows; a histogram's begins its three kinds of samples."""
        return f"{PREFIX}{self.name}_total" if self.kind is Kind.COUNTER else PREFIX + self.name


def _gauge(name: str, help_text: str, *labels: str) -> Metric:
    return Metric(name, Kind.GAUGE, help_text, labels)


# Of each worker, with the label `worker`.
WORKER_METRICS: tuple[Metric, ...] = (
    *(Metric(each.name, Kind.COUNTER, each.help, each.labels) for each in describe_counts()),
    Metric("dns_lookups", Kind.COUNTER, "DNS questions sent to the servers."),
    Metric(
        "scheduler_steps",
        Kind.COUNTER,
        "Steps of the scheduler: in proportion to what changed, not to what is queued.",
    ),
    Metric("cpu_seconds", Kind.COUNTER, "CPU time of the worker's process, all its threads."),
    _gauge("queued_messages", "Messages in the spool."),
    _gauge("queued_recipients", "Recipients in the spool; due, deferred and held together."),
    _gauge("due_recipients", "Recipients that could be tried now, as far as their own time says."),
    _gauge("deferred_recipients", "Recipients that wait for their next attempt."),
    _gauge("held_recipients", "Recipients held by an operator or as poison."),
    _gauge("license_hold_messages", "Messages that wait because the licence holds delivery."),
    _gauge("queues", "Queues in the spool."),
    _gauge(
        "queue_recipients",
        "Recipients in each of the twenty largest queues, and in all others together (`other`).",
        "queue",
    ),
    _gauge("active_queues", "Queues in the scheduler's memory."),
    _gauge("open_connections_in", "Connections of feeders that are open."),
    _gauge("open_connections_out", "Connections to next hops that are open."),
    _gauge("unsettled_outcomes", "Outcomes of attempts that are not on disk yet."),
    _gauge("spool_bytes", "Used bytes of the spool's database, without large bodies."),
    _gauge("event_bytes", "Bytes of events that not every follower has read yet."),
    _gauge("free_bytes", "Free bytes of the spool's file system."),
    _gauge("free_inodes", "Free inodes of the spool's file system."),
    _gauge("intake_open", "1 while mail is taken, 0 while it is refused for now (452 or 451)."),
    _gauge("intake_memory_bytes", "Memory that messages take which are being received."),
    _gauge("body_cache_bytes", "Memory that keeps bodies at hand for their first attempt."),
    _gauge("memory_bytes", "Resident memory of the worker's process."),
    _gauge(
        "vmta_out",
        "1 while a virtual MTA is out of service: paused, drained, or without its source addresses.",
        "vmta",
    ),
    _gauge("dns_down", "1 while no DNS server answers."),
    Metric(
        "loop_lag_seconds",
        Kind.HISTOGRAM,
        "How late the event loop called back; 0.05 at the 99th percentile is healthy.",
    ),
    *(Metric(name, Kind.HISTOGRAM, text) for name, text in describe_timings().items()),
)

# Of the server as a whole.
SERVER_METRICS: tuple[Metric, ...] = (
    _gauge("build_info", "Which release this is; always 1.", "version"),
    _gauge("uptime_seconds", "How long the server has been running."),
    _gauge("worker_up", "1 where the worker answered this scrape within a second.", "worker"),
    _gauge("follower_waiting_events", "Events in memory that a follower has not read.", "follower"),
    _gauge(
        "follower_lag_seconds",
        "How old the oldest event is that a follower has taken and not saved; 0: none is.",
        "follower",
    ),
    _gauge("license_state", "1 for the state the licence is in; not in lab mode.", "state"),
    _gauge("license_expires_seconds", "How long until the first licence in force ends."),
    _gauge("license_connections_in_use", "Outbound connections, as the licence counts them."),
    _gauge("license_connections_limit", "How many the licence allows; not shown: any number."),
    _gauge("license_connections_peak", "The most there were at once since the start."),
    _gauge(
        "license_volume_used", "Emails used of the volume, over all servers, at the last report."
    ),
    _gauge("license_volume_limit", "Emails of the volume in this period."),
    _gauge(
        "license_volume_lease_left", "Emails this server may still deliver before the next lease."
    ),
    _gauge("license_report_age_seconds", "How long ago the vendor last confirmed a report."),
    _gauge("license_report_tries", "How often the report under way was tried; 0 where none is."),
    _gauge(
        "license_clock_offset_seconds", "How far this machine's clock is ahead of trusted time."
    ),
    _gauge("follower_up", "0 while a follower cannot write and tries again.", "follower"),
)


def snapshot_histogram(histogram: Histogram) -> dict[str, Any]:
    """A histogram as it stands in a snapshot."""
    return {
        "edges": list(histogram.edges),
        "counts": list(histogram.counts),
        "sum": histogram.sum,
    }
