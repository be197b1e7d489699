"""The table of what is measured: one entry a row, with its load, its contestants and its limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from bench.arena import Arena
from bench.backlog import DeadDestination, SilentDns
from bench.load import Load
from bench.peers import Peer
from bench.peers.postfix import Postfix
from bench.peers.sluice import Sluice
from bench.results import Result
from bench.throughput import Contestant, Limit, Throughput

KB = 1024


class Scenario(Protocol):
    """Something to measure."""

    @property
    def name(self) -> str:
        """For `--only`."""

    @property
    def title(self) -> str:
        """For the report."""

    def run(self, arena: Arena) -> Result:
        """Measure it; a failure is part of the result."""


SLUICE = Sluice()
POSTFIX = Postfix()
OPENDKIM = Postfix(with_opendkim=True)
PEERS: Sequence[Peer] = (SLUICE, POSTFIX, OPENDKIM)

_PLAIN = (Contestant("Sluice", SLUICE), Contestant("Postfix", POSTFIX))
_SIGNED = (Contestant("Sluice", SLUICE), Contestant("Postfix + OpenDKIM", OPENDKIM))
_THREE = (
    Contestant("Sluice, 3 connections", SLUICE, total_connections=3),
    Contestant("Sluice, up to 40", SLUICE),
)

SCENARIOS: Sequence[Scenario] = (
    Throughput(
        "plain",
        "4 KB, no DKIM, 50 client connections, outbound up to 40",
        Load(20_000, 4 * KB),
        2_000,
        _PLAIN,
        Limit("Sluice", "Postfix", 4.0),
    ),
    Throughput(
        "three",
        "the same with total_connections = 3",
        Load(20_000, 4 * KB),
        2_000,
        _THREE,
        Limit("Sluice, 3 connections", "Sluice, up to 40", 0.75),
    ),
    Throughput(
        "signed",
        "4 KB, RSA-2048",
        Load(10_000, 4 * KB),
        1_500,
        _SIGNED,
        Limit("Sluice", "Postfix + OpenDKIM", 5.0),
        signed=True,
    ),
    Throughput(
        "large",
        "100 KB, RSA-2048",
        Load(4_000, 100 * KB),
        500,
        _SIGNED,
        Limit("Sluice", "Postfix + OpenDKIM", 1.5),
        signed=True,
    ),
    Throughput(
        "latency",
        "4 KB, no DKIM, pipelining clients: time from the final dot to its 250",
        Load(10_000, 4 * KB),
        1_500,
        _PLAIN,
        latency=True,
    ),
    DeadDestination(),
    SilentDns(),
)
