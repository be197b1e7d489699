"""What a worker counts: one slotted object of plain integers, each standing with its help text.

The hot path writes `counts.delivered += 1` and nothing else: 30 ns, where a prometheus-client
Counter takes a lock and 0.3 µs. All of it is read, and only then given names and labels, when
somebody scrapes. Counters belong to the event loop's thread; other threads have counts of their own
or post their sums. Counters never fall, except by a restart.
"""

from dataclasses import dataclass, field, fields
from typing import Any

PREFIX = "sluice_"


def _count(help_text: str) -> Any:
    return field(default=0, metadata={"help": help_text})


def _count_by(labels: str, help_text: str) -> Any:
    return field(
        default_factory=dict, metadata={"help": help_text, "labels": tuple(labels.split())}
    )


@dataclass(slots=True, eq=False)
class Counts:
    """Everything one worker has counted since it started."""

    # Coming in
    connections_in: int = _count("Connections accepted from feeders.")
    connections_in_refused: int = _count(
        "Connections from feeders refused by a limit (421), or because they are not among `proxy_from`."
    )
    connections_in_tls: int = _count("TLS handshakes completed with feeders.")
    connections_in_timed_out: int = _count(
        "Feeder connections closed by a deadline or a data rate."
    )
    auth_succeeded: int = _count("Successful AUTH commands.")
    auth_failed: int = _count(
        "AUTH commands refused for wrong credentials (535), or unseen after too many of them (454, 421)."
    )
    messages_in: int = _count("Messages accepted: durable, and answered 250.")
    recipients_in: int = _count("Recipients of accepted messages.")
    bytes_in: int = _count("Bytes of accepted messages.")
    messages_in_refused: int = _count("Messages refused for good at the end of DATA (5xx).")
    messages_in_deferred: int = _count("Messages refused for now at the end of DATA (4xx).")
    commands_in_refused: int = _count(
        "MAIL and RCPT commands refused by a rule, a limit or the state of the house."
    )
    data_faults: int = _count("Messages with a bare CR, a bare LF or a NUL: possible smuggling.")
    protocol_errors_in: int = _count("Feeder connections closed for breaking the protocol.")

    # Going out
    connections_out: int = _count("Connections opened to next hops.")
    connections_out_failed: int = _count("Connections to next hops that failed before MAIL.")
    connections_out_tls: int = _count("TLS handshakes completed with next hops.")
    transactions_out: int = _count(
        "Messages given to a connection to a next hop, whatever it answered."
    )
    bytes_out: int = _count("Bytes of those messages.")
    delivered: int = _count("Recipients a next hop took responsibility for.")
    delivered_by_vmta: dict[str, int] = _count_by("vmta", "Recipients delivered, by virtual MTA.")  # noqa: RUF009
    deferred: int = _count("Attempts for a recipient that ended with not now.")
    bounced: int = _count("Recipients given up because of a reply, theirs or ours.")
    expired: int = _count("Recipients given up because their time ran out.")
    deleted: int = _count("Recipients deleted by an administrator.")
    queues_deferred: int = _count("Failures of a connection, a site or DNS that postponed a queue.")
    notices: int = _count("Notices of failed, delayed and passed-on mail written, digests too.")
    notices_folded: int = _count(
        "Messages that are told of in a digest: the notices of their sender are beyond `notice_rate`."
    )
    notices_failed: int = _count("Notices that could not be delivered to whom they were for.")
    notices_waived: int = _count(
        "Recipients of whose failure nobody is told: the digest for their sender is full."
    )
    may_repeat: int = _count("Outcomes marked as perhaps reaching the recipient twice.")
    bounces_by_category: dict[str, int] = _count_by("category", "Recipients given up, by category.")  # noqa: RUF009
    deferrals_by_category: dict[str, int] = _count_by("category", "Deferred attempts, by category.")  # noqa: RUF009
    refusals: dict[str, dict[str, int]] = _count_by(  # noqa: RUF009
        "category verdict", "Attempts for a recipient that were refused, for now or for good."
    )
    queue_refusals: dict[str, dict[str, int]] = _count_by(  # noqa: RUF009
        "category verdict", "Failures of a connection, a site or DNS that postponed a queue."
    )
    attempts_by_site: dict[str, dict[str, int]] = _count_by(  # noqa: RUF009
        "site outcome",
        "Attempts for a recipient at each `[site.X]`, and at all other domains together (`other`).",
    )

    # Between
    body_cache_hits: int = _count("Bodies delivered from memory.")
    body_cache_misses: int = _count("Bodies read back from the spool for delivery.")
    bugs: int = _count("Faults of our own, caught at a task's border; each is in the log.")
    stalls: int = _count(
        "Queues found with due work, no reason to wait and no attempt for a minute."
    )


def add_to(by_label: dict[str, int], label: str) -> None:
    """Count one under `label`; labels come from closed sets of ours, never from the network."""
    by_label[label] = by_label.get(label, 0) + 1


def add_to_both(by_labels: dict[str, dict[str, int]], label: str, second: str) -> None:
    """The same for a pair of labels."""
    inner = by_labels.get(label)
    if inner is None:
        inner = by_labels[label] = {}
    inner[second] = inner.get(second, 0) + 1


@dataclass(frozen=True, slots=True)
class Described:
    """One counter's name in `Counts`, its help text, and its labels (none for a plain one)."""

    name: str
    help: str
    labels: tuple[str, ...]

    @property
    def metric(self) -> str:
        """The name Prometheus shows."""
        return f"{PREFIX}{self.name}_total"


def describe_counts() -> tuple[Described, ...]:
    """Every counter with its help text, for the scrape and for the reference page."""
    return tuple(
        Described(one.name, one.metadata["help"], one.metadata.get("labels", ()))
        for one in fields(Counts)
    )
