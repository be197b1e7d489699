"""A campaign that must not go out is deleted, fast, and delivery of everything else goes on meanwhile.

The long count is a million recipients in under a minute.
"""

import threading
import time
from pathlib import Path

import pytest

from mta.control.client import ControlClient
from tests.support.cli import Cli
from tests.support.host import Host
from tests.support.sender import a_sender
from tests.support.wire import Wire

RECIPIENTS = 500  # of each message
MOST_S = 60.0
MOST_WAIT_S = 5.0  # for a message beside it, on a busy machine


@pytest.mark.parametrize("messages", [8, pytest.param(2000, marks=pytest.mark.soak)])
def test_a_held_campaign_is_deleted_while_other_mail_is_delivered(
    messages: int, tmp_path: Path
) -> None:
    with Host() as host, a_sender(tmp_path, listener="max_recipients = 1000") as sender:
        sender.domain(host, name="one.example")
        other = sender.domain(host, name="two.example")
        sluice = Cli(sender.server)
        sluice.json("queue", "pause", "one.example")
        _fill(sender.server.port, messages)
        total = messages * RECIPIENTS
        assert sender.server.totals()["queued_recipients"] == total

        ended = threading.Event()
        answer: dict[str, float] = {}

        def delete() -> None:
            began = time.monotonic()
            with ControlClient(tmp_path / "control.sock", 2 * MOST_S) as client:
                answer["deleted"] = client.call("messages.delete", job="news")["deleted"]
            answer["seconds"] = time.monotonic() - began
            ended.set()

        thread = threading.Thread(target=delete)
        thread.start()
        waits: list[float] = []
        while not ended.is_set() or not waits:
            began = time.monotonic()
            sender.send(f"r{len(waits)}@{other}")
            host.wait_for(len(waits) + 1, timeout_s=MOST_WAIT_S)
            waits.append(time.monotonic() - began)
        thread.join()
        print(f"{total} in {answer['seconds']:.1f} s; {len(waits)} delivered beside it, "
              f"the slowest in {max(waits):.2f} s")  # fmt: skip
        assert answer["deleted"] == total
        assert answer["seconds"] < MOST_S
        status = sender.server.ask("status")
        assert status["totals"]["queued_recipients"] == 0
        removed = [each for each in sender.server.records() if each["removedBy"]]
        assert len(removed) == total
        assert {each["removedBy"] for each in removed} == {"administrator"}


def _fill(port: int, messages: int) -> None:
    with Wire(port) as wire:
        wire.greet()
        for number in range(messages):
            recipients = [f"u{number}-{each}@one.example" for each in range(RECIPIENTS)]
            wire.deliver(b"X-Job: news\r\nSubject: n\r\n\r\nbody\r\n", "n@s.example", *recipients)
        wire.ask("QUIT")
