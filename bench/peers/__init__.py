"""The contestants: each is started anew for a run, in a directory of its own, on loopback.

A peer's module knows how to start it and nothing of what is measured; `SETTINGS` of each module
says for the report how it was tuned.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.processes import Child
from bench.signature import SigningKey


@dataclass(frozen=True, slots=True)
class Setup:
    """What a run asks of a contestant. Ports are on 127.0.0.1; None: not in this run."""

    directory: Path
    sink_port: int  # where all mail goes that is not named below
    connections: int = 40  # at most so many to the sink
    total_connections: int | None = None  # at most so many to all destinations together
    key: SigningKey | None = None
    check_port: int | None = None  # for signature.CHECK_DOMAIN
    dead_port: int | None = None  # refuses connections; for DEAD_DOMAIN
    dns_port: int | None = (
        None  # a resolver; then MX records are asked for, and the port is the sink's
    )
    workers: int = 1  # of Sluice; the others use every core as they are made to
    retry_s: int | None = None  # after a temporary refusal


DEAD_DOMAIN = "dead.example"


class Running(Protocol):
    """A contestant that accepts mail."""

    @property
    def port(self) -> int:
        """Where it listens."""

    @property
    def children(self) -> Sequence[Child]:
        """Its processes, whose CPU time and memory count."""

    @property
    def cpu_is_whole(self) -> bool:
        """Whether the CPU time of `children` is all that was used."""

    def loop_lag_p99_ms(self) -> float | None:
        """The p99 of its event loop's lag; None when it does not say."""

    def recorded(self) -> int:
        """Deliveries in its accounting or log."""


class Peer(Protocol):
    """A kind of contestant."""

    @property
    def name(self) -> str:
        """As in the report and on the command line."""

    @property
    def settings(self) -> str:
        """How it is tuned, for the report."""

    def missing(self) -> str:
        """Why it cannot run on this machine; "" when it can."""

    def version(self) -> str:
        """Its version, for the report."""

    def start(self, setup: Setup) -> AbstractContextManager[Running]:
        """Start it and wait until it greets; ended with the `with` block. Raises RunFailed."""
