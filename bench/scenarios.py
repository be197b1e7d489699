"""The table of what is measured: one entry a row, with its load, its contestants and its limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from bench.arena import Arena
from bench.backlog import DeadDestination, SilentDns
from bench.contest import Cheaper, Contestant, Faster, ShareOf, SlowSink
from bench.fanout import OneMessageManyRecipients
from bench.licensing import Licensing
from bench.load import Load
from bench.million import Million
from bench.pace import Paced
from bench.peers import Peer
from bench.peers.exim import Exim
from bench.peers.haraka import Haraka
from bench.peers.opensmtpd import OpenSmtpd
from bench.peers.postfix import Postfix
from bench.peers.sluice import Sluice
from bench.remarks import explain_workers
from bench.results import Result
from bench.signature import ED25519, RSA
from bench.sink import Manner
from bench.throughput import RSA_LIMIT, Throughput

KB = 1024
SLOW_CONNECTIONS = 1_000
DELAY_S = 0.2
SLOW_STEPS = 2  # delayed answers a message: to MAIL, RCPT and DATA together, and to the dot


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

    def estimate_s(self, arena: Arena) -> float:
        """How many seconds that will take, roughly."""


SLUICE = Sluice()
POSTFIX = Postfix()
OPENDKIM = Postfix(with_opendkim=True)
HARAKA, EXIM, OPENSMTPD = Haraka(), Exim(), OpenSmtpd()
PEERS: Sequence[Peer] = (SLUICE, POSTFIX, OPENDKIM, HARAKA, EXIM, OPENSMTPD)

_FOUR_KB = Load(20_000, 4 * KB)
_OWN_SOURCE = Load(20_000, 4 * KB, own_source=True)
_PLAIN = (
    Contestant("Sluice", SLUICE),
    Contestant("Postfix", POSTFIX),
    Contestant("Haraka", HARAKA),
    Contestant("Exim", EXIM),
    # It leaves Nagle's algorithm on: with any other sink it waits 40 ms for each message's ACK.
    Contestant("OpenSMTPD", OPENSMTPD, manner=Manner(quick_ack=True)),
)
_SIGNED = (
    Contestant("Sluice", SLUICE, key=RSA),
    Contestant("Postfix + OpenDKIM", OPENDKIM, key=RSA),
)

SCENARIOS: Sequence[Scenario] = (
    Throughput(
        "plain",
        "4 KB, no DKIM, 50 client connections, outbound up to 40",
        _FOUR_KB,
        4_000,
        _PLAIN,
        (Faster("Sluice", "Postfix", 8.0), Faster("Sluice", "Haraka", 6.0)),
    ),
    Throughput(
        "three",
        "4 KB, no DKIM, 3 connections in all",
        _FOUR_KB,
        2_000,
        (
            Contestant("Sluice, 3 connections", SLUICE, setup={"total_connections": 3}),
            Contestant("Sluice, up to 40", SLUICE),
        ),
        (Faster("Sluice, 3 connections", "Sluice, up to 40", 0.75),),
    ),
    Throughput(
        "signed",
        "4 KB, RSA-2048",
        Load(10_000, 4 * KB),
        2_500,
        _SIGNED,
        (
            Faster("Sluice", "Postfix + OpenDKIM", 8.0),
            ShareOf("Sluice", RSA_LIMIT, 0.33),
        ),
        rsa_limit=True,
    ),
    Throughput(
        "ed25519",
        "4 KB, Ed25519",
        _FOUR_KB,
        2_000,
        (
            Contestant("Sluice, Ed25519", SLUICE, key=ED25519),
            Contestant("Sluice, unsigned", SLUICE),
        ),
        (Faster("Sluice, Ed25519", "Sluice, unsigned", 0.70),),
    ),
    Throughput(
        "large",
        "100 KB, RSA-2048",
        Load(4_000, 100 * KB),
        500,
        _SIGNED,
        (Faster("Sluice", "Postfix + OpenDKIM", 3.0),),
    ),
    Throughput(
        "zipf",
        "4 KB, 1,000 destinations by DNS, Zipf-distributed",
        _OWN_SOURCE,
        3_000,
        (
            Contestant(
                "Sluice, 1,000 destinations",
                SLUICE,
                load={"recipient": "user@d{d}.example", "domains": 1_000, "zipf": True},
                dns=True,
            ),
            Contestant("Sluice, one destination", SLUICE),
        ),
        (Faster("Sluice, 1,000 destinations", "Sluice, one destination", 0.75),),
    ),
    Throughput(
        "slow",
        f"4 KB, a sink that delays each write 200 ms, {SLOW_CONNECTIONS:,} connections",
        _FOUR_KB,
        3_000,
        (
            Contestant(
                "Sluice, slow sink",
                SLUICE,
                setup={"connections": SLOW_CONNECTIONS},
                manner=Manner(delay_s=DELAY_S),
            ),
            Contestant("Sluice, the same sink at once", SLUICE, manner=Manner()),
        ),
        (
            SlowSink(
                "Sluice, slow sink",
                "Sluice, the same sink at once",
                SLOW_CONNECTIONS / (SLOW_STEPS * DELAY_S),
                0.80,
                0.60,
            ),
        ),
    ),
    OneMessageManyRecipients(),
    Throughput(
        "workers",
        "4 KB, no DKIM, workers 2 against 1",
        _FOUR_KB,
        2_000,
        (
            Contestant("Sluice, 2 workers", SLUICE, setup={"workers": 2}),
            Contestant("Sluice, 1 worker", SLUICE, setup={"workers": 1}),
        ),
        (Cheaper("Sluice, 2 workers", "Sluice, 1 worker", 1.15),),
        remarks=(explain_workers,),
    ),
    Throughput(
        "refusals",
        "4 KB, half of the replies 4xx, in attempts",
        Load(200_000, 4 * KB, recipient="user{n}@dest.example", own_source=True),
        3_000,
        (
            Contestant(
                "Sluice, half 4xx",
                SLUICE,
                setup={"retry_s": 1},
                manner=Manner(refuse_first=True),
            ),
            Contestant("Sluice, all 2xx", SLUICE, manner=Manner()),
        ),
        (Faster("Sluice, half 4xx", "Sluice, all 2xx", 0.70),),
    ),
    Throughput(
        "reconnect",
        "4 KB: connect, one message, quit",
        Load(10_000, 4 * KB, reuse=False),
        1_000,
        (Contestant("Sluice", SLUICE), Contestant("Postfix", POSTFIX)),
        (Faster("Sluice", "Postfix", 3.0),),
    ),
    Throughput(
        "spread",
        "4 KB, 3 connections, 5,000 domains by DNS, 20 messages each",
        Load(100_000, 4 * KB, own_source=True),
        5_000,
        (
            Contestant(
                "Sluice, 5,000 domains",
                SLUICE,
                setup={"total_connections": 3},
                load={"recipient": "user@d{d}.example", "per_domain": 20},
                dns=True,
            ),
            Contestant("Sluice, one destination", SLUICE, setup={"total_connections": 3}),
        ),
        (Faster("Sluice, 5,000 domains", "Sluice, one destination", 0.60),),
    ),
    Paced((Contestant("Sluice", SLUICE), Contestant("Postfix", POSTFIX))),
    DeadDestination(),
    SilentDns(),
    Million(),
    Licensing(),
)
NAMES: Sequence[str] = tuple(scenario.name for scenario in SCENARIOS)
# What a quick look needs: the rate, signed and not; many destinations; memory; latency.
QUICK: Sequence[str] = ("plain", "signed", "zipf", "recipients", "latency", "dead")
QUICK_PEERS: Sequence[str] = ("sluice", "postfix", "postfix+opendkim")
