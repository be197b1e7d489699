"""What systemd is told; and that nobody listening, or a broken listener, harms nothing."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mta.io.notify import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(5)
        yield listening


def notifier(manager: socket.socket, **environment: str) -> Notifier:
    return Notifier({"NOTIFY_SOCKET": manager.getsockname(), **environment})


def test_each_state_is_one_datagram(manager: socket.socket) -> None:
    ours = notifier(manager)
    assert ours.ready("listening on 25")
    assert ours.alive()
    assert ours.status("two\nlines")
    assert ours.stopping()
    said = [manager.recv(1000) for _ in range(4)]
    assert said == [
        b"READY=1\nSTATUS=listening on 25",
        b"WATCHDOG=1",
        b"STATUS=two lines",
        b"STOPPING=1",
    ]


def test_an_abstract_socket_is_reached() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0sluice-test-{os.getpid()}")
        listening.settimeout(5)
        assert Notifier({"NOTIFY_SOCKET": f"@sluice-test-{os.getpid()}"}).ready()
        assert listening.recv(100) == b"READY=1"


def test_without_a_manager_nothing_is_sent() -> None:
    assert not Notifier({}).ready()


def test_a_manager_that_has_gone_is_no_error(tmp_path: Path) -> None:
    assert not Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()


@pytest.mark.parametrize(
    ("environment", "interval_s"),
    [
        ({"WATCHDOG_USEC": "60000000"}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_fed_twice_in_its_time_and_only_if_it_is_ours(
    environment: dict[str, str], interval_s: float | None
) -> None:
    assert Notifier(environment).watchdog_interval_s == interval_s
