"""`sluice trace`: the dialogue while it happens, from every worker, without bodies; and an end in every case."""

import threading
from pathlib import Path

import pytest

from mta.control.client import ControlClient
from tests.support.cli import Cli
from tests.support.host import Dialogue, Host
from tests.support.sender import a_sender
from tests.support.wire import wait_until


def script(dialogue: Dialogue, command: str) -> bytes | None:
    return b"550 5.1.1 no \x1b[2J such user\r\n" if "bad@" in command else None


@pytest.mark.parametrize("workers", [1, 2])
def test_both_sides_are_shown_without_the_body(workers: int, tmp_path: Path) -> None:
    with Host(script) as host, a_sender(tmp_path, server=f"workers = {workers}") as sender:
        sender.domain(host, name="one.example")
        sender.domain(host, name="two.example")
        lines: list[dict[str, str]] = []

        def listen() -> None:
            with ControlClient(tmp_path / "control.sock", 30.0) as client:
                for row in client.stream("trace", what="one.example", for_s=25.0):
                    lines.extend(row["lines"])
                    if any("550 5.1.1" in line["text"] for line in lines):
                        return

        sender.send("first@one.example")  # the connection is open when the trace begins, or not
        thread = threading.Thread(target=listen)
        thread.start()
        count = 0
        while thread.is_alive():
            sender.send(f"r{count}@one.example", "bad@one.example", message=b"A: b\r\n\r\nhush\r\n")
            sender.send(f"other{count}@two.example")
            count += 1
            wait_until(lambda: len(host.messages) >= 1 + 2 * count)  # noqa: B023 - called at once
        thread.join()
        text = "\n".join(f"{line['side']} {line['text']}" for line in lines)
        assert "> MAIL FROM:<a@sender.example>" in text
        assert "< 550 5.1.1 no \\x1b[2J such user" in text
        assert "bytes of message, with its dot)" in text
        assert "> RCPT TO:<r" in text
        assert "hush" not in text
        assert {line["queue"] for line in lines} == {"one.example/default"}
        assert {line["worker"] for line in lines} <= set(range(workers))


def test_a_trace_is_refused_or_ends(tmp_path: Path) -> None:
    with Host() as host, a_sender(tmp_path) as sender:
        sender.domain(host, name="one.example")
        sluice = Cli(sender.server)
        for words, says in (
            (("trace", "4711"), "4711 is not queued"),
            (("trace", "one.example", "--for", "2h"), "at most 3600 s"),
            (("trace", "one.example", "--limit", "0"), "lines"),
            (("trace", "/x"), "a queue is named"),
        ):
            ended = sluice(*words)
            assert ended.code == 1, words
            assert says in ended.err
        assert sluice("trace", "one.example", "--for", "0.5s").code == 0
        sluice.json("queue", "pause", "one.example")
        number = sender.send("a@one.example")
        assert sluice("trace", str(number), "--for", "0.5s").code == 0
