"""X-Priority-Class, end to end: what goes first over one slow connection, also after a restart; and what a host sees of it."""

from pathlib import Path

from tests.support.daemon import Daemon, running
from tests.support.host import Dialogue, Host
from tests.support.sender import DEFAULT, NO_DNS, Sender
from tests.support.wire import Wire

QUEUE = "d.example"


def hand_in(server: Daemon, name: str, count: int, value: str = "") -> None:
    field = f"X-Priority-Class: {value}\r\n" if value else ""
    with Wire(server.port) as wire:
        wire.greet()
        for number in range(count):
            message = f"{field}Subject: {name}\r\n\r\nbody\r\n".encode()
            answer = wire.deliver(message, "a@b.example", f"{name}{number}@{QUEUE}")
            assert answer.startswith("250"), answer


def order(host: Host) -> list[str]:
    """The first letter of each recipient, in the order they came."""
    return [message.recipients[0][0] for message in host.messages]


def test_high_goes_first_and_low_last_also_over_a_restart(tmp_path: Path) -> None:
    with Host() as host:
        default = f'{DEFAULT}\nhosts = ["{host.name}"]'
        with running(tmp_path, default=default, more=NO_DNS) as server:
            server.ask("queue.pause", queue=QUEUE)
            hand_in(server, "low", 10, "low")
            hand_in(server, "normal", 20)
            hand_in(server, "high", 40, "High")
            server.kill()
            server.start()
            server.ask("queue.resume", queue=QUEUE)
            host.wait_for(messages=70)
        came = order(host)
        assert came[:4] == ["h"] * 4
        assert came.count("h") == 40
        assert came[:42].count("h") >= 30
        assert came[:42].count("n") >= 6
        assert came[:42].count("l") >= 1
        assert came[-5:] == ["l"] * 5
    assert not any(b"x-priority-class" in message.data.lower() for message in host.messages)


def test_what_is_no_class_is_refused_and_normal_is_one(tmp_path: Path) -> None:
    def shut(_: Dialogue, command: str) -> bytes | None:
        return b"450 4.2.1 later\r\n" if command.startswith("RCPT") else None

    with Host(shut) as host:
        default = f'{DEFAULT}\nretry = ["1h"]\nhosts = ["{host.name}"]'.replace(
            'retry = ["0.3s"]', ""
        )
        with running(tmp_path, default=default, more=NO_DNS) as server:
            with Wire(server.port) as wire:
                wire.greet()
                letter = b"X-Priority-Class: urgent\r\n\r\nbody\r\n"
                assert wire.deliver(letter, "a@b.example").startswith("550 5.6.0")
            hand_in(server, "normal", 1, "normal")
            hand_in(server, "high", 1, "high")
            Sender(server).wait_for_records(QUEUE, "t", count=2)
            rows = server.ask("messages.list", domain=QUEUE)["recipients"]
            assert {row["recipient"][:4]: row["priority"] for row in rows} == {
                "norm": "normal",
                "high": "high",
            }
