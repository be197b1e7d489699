"""What the commands show of several workers, one of which never answers: over the real control socket, from workers in memory."""

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mta.control.asking import Times
from mta.control.message_verbs import MessageVerbs
from mta.control.registry import Registry
from mta.control.server import ControlServer
from mta.control.verbs import Verbs
from tests.support.cli import run
from tests.support.faces import Face, ServerFake, SilentFace, a_queue

TOTALS = dict.fromkeys(
    (
        "messages_in",
        "last_minute_in",
        "delivered",
        "last_minute_delivered",
        "deferred",
        "bounced",
        "expired",
        "queued_recipients",
        "queued_messages",
        "queues",
        "held",
        "connections_in",
        "connections_out",
        "spool_bytes",
    ),
    1,
)


class Server(ServerFake):
    """With what `sluice status` shows of it."""

    async def status(self) -> dict[str, Any]:
        return {
            **(await super().status()),
            "hostname": "mta.test.example",
            "pid": 4711,
            "lab": False,
            "license": {
                "lab": False,
                "state": "valid",
                "reason": "",
                "hold": "",
                "licenses": [{"kind": "standard_server"}],
                "remarks": [],
                "connections": {"in_use": 2, "limit": 3, "peak": 3},
            },
        }


@pytest.fixture(scope="module")
def socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("workers") / "control.sock"
    faces = [
        Face(0, [a_queue("a.example", 2)], totals=TOTALS),
        SilentFace(1),
        Face(2, [a_queue("a.example", 3)], totals=TOTALS),
    ]
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    registry = Registry()
    times = Times(change_s=0.3, mass_s=0.3)
    server = Server()
    Verbs(server, server, faces, times).register(registry)
    MessageVerbs(faces, times).register(registry)
    server = ControlServer(path, registry)
    asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
    yield path
    asyncio.run_coroutine_threadsafe(server.close(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


def text(socket: Path, *words: str) -> tuple[str, str]:
    ended = run(*words, "--socket", str(socket))
    assert ended.code == 0, ended
    return ended.out, ended.err


def test_status_has_a_line_for_each_worker_and_says_who_does_not_answer(socket: Path) -> None:
    began = time.monotonic()
    out, err = text(socket, "status")
    assert time.monotonic() - began < 2.0
    lines = [line.split() for line in out.splitlines() if line.strip()[:1].isdigit()]
    assert [line[0] for line in lines] == ["0", "1", "2"]
    assert " ".join(lines[1][1:]) == "does not answer"
    assert lines[2][1] == "open"
    assert "2 in the last minute" in out  # the sum of those that answered
    assert "2/3 (peak 3)" in out
    assert "worker 1 did not answer" in err


def test_queues_are_merged_and_the_silent_named(socket: Path) -> None:
    out, err = text(socket, "queues")
    assert "1 of at least 1 queues" in out
    assert [line.split()[:2] for line in out.splitlines() if "a.example" in line] == [
        ["a.example/default", "5"]
    ]
    assert "worker 1 did not answer" in err


@pytest.mark.parametrize(
    "words",
    [
        ("queue", "pause", "a.example"),
        ("queue", "resume", "a.example"),
        ("queue", "retry", "a.example"),
        ("messages", "delete", "--all"),
        ("messages", "delete", "--all", "--dry-run"),
        ("messages", "list"),
        ("explain", "a.example"),
    ],
)
def test_every_command_says_who_did_not_answer(socket: Path, words: tuple[str, ...]) -> None:
    _, err = text(socket, *words)
    assert "worker 1 did not answer" in err
