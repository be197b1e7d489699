"""Other people's mail servers in tests: what they have in common, and what becomes of a test whose peer is not installed.

Each peer's own module (`postfix`, `exim`, `opensmtpd`) starts a private instance on loopback, with its configuration, queue and
mail in a directory made for it. Those that cannot stand beside Postfix are unpacked by bench/install-peers and run in a `Room`.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from bench.peers.room import forbidden, missing_from_room
from tests.support.wire import wait_until

PROMISED = "SLUICE_TEST_PEERS"  # .ci/run sets it: it has installed every peer
WAIT_S = 30.0


def needs(missing: str) -> pytest.MarkDecorator:
    """Skips a test whose peer is `missing` (the reason; "": it is there). Where all are promised the test fails instead."""
    return pytest.mark.skipif(bool(missing) and PROMISED not in os.environ, reason=missing)


def needs_room(peer: str, program: str) -> pytest.MarkDecorator:
    """The same for a peer that runs in a room; a system that allows no rooms is nobody's promise."""
    if forbidden():
        return pytest.mark.skip(reason=forbidden())
    return needs(missing_from_room(peer, program))


@dataclass(frozen=True, slots=True)
class Smarthost:
    """Where a peer relays all mail: a server on 127.0.0.1 that it must talk TLS to and log in at."""

    port: int
    user: str
    password: str

    @property
    def name(self) -> str:
        """As Postfix writes it: an address, without MX."""
        return f"[127.0.0.1]:{self.port}"


class Mta(Protocol):
    """A running peer: it takes mail for its `domain` and keeps it; given a smart host, all other mail goes there."""

    domain: str
    port: int

    @property
    def log(self) -> str:
        """What it wrote."""

    def mail(self) -> list[bytes]:
        """The messages it keeps, lines ended by CRLF as they came."""


def read_mail(folder: Path) -> list[bytes]:
    """The messages in a directory of files, in the order of their names: LF of the mailbox is CRLF of the wire."""
    files = (path for path in sorted(folder.glob("*")) if path.is_file())
    return [path.read_bytes().replace(b"\n", b"\r\n") for path in files]


def wait_for_mail(peer: Mta, count: int) -> list[bytes]:
    """The messages of a peer once there are so many. Raises AssertionError with its log."""
    try:
        wait_until(lambda: len(peer.mail()) >= count, WAIT_S)
    except AssertionError:
        raise AssertionError(f"{len(peer.mail())} of {count} messages:\n{peer.log}") from None
    return peer.mail()
