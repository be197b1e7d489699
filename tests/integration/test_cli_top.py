"""`sluice top` in a real terminal (a pty) and as rendered pages: its keys, small terminals, a server that comes back."""

import io
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from mta.cli.top import SORTS, Top
from mta.control.protocol import ControlError
from tests.support.cli import run
from tests.support.daemon import free_port
from tests.support.sender import Sender, a_sender
from tests.support.wire import wait_until


@pytest.fixture
def sender(tmp_path: Path) -> Iterator[Sender]:
    with a_sender(tmp_path, default=f'hosts = ["127.0.0.1:{free_port()}"]') as sender:
        for number, name in enumerate(("few.example", "many.example", "paused.example")):
            sender.server.ask("queue.pause", queue=name)
            sender.send(*(f"r{each}@{name}" for each in range(1 + 2 * (number % 2))))
        yield sender


def shown(top: Top, width: int, height: int) -> str:
    """The page as a terminal of this size has it."""
    console = Console(record=True, width=width, height=height, file=io.StringIO())
    console.print(top.page(height))
    return console.export_text()


def test_pages_show_the_queues_in_their_order_on_any_terminal_and_survive_the_server(
    sender: Sender,
) -> None:
    top = Top(sender.server.place / "control.sock", "recipients")
    top.look()
    text = shown(top, 120, 30)
    assert re.search(r"mta\.test\.example +up .* in \d+/min +out 0/min", text)
    assert "queued 5" in text
    queues = re.findall(r"^ *(\w+)\.example/default +(\d) .* paused", text, re.MULTILINE)
    assert queues == [("many", "3"), ("few", "1"), ("paused", "1")]
    top.sort_next()
    top.sort_next()
    assert top.sort == SORTS[2] == "oldest"
    top.look()
    assert re.findall(r"^ *(\w+)\.example/", shown(top, 120, 30), re.MULTILINE)[0] == "few"
    for width, height in ((40, 9), (20, 5), (80, 10)):
        lines = shown(top, width, height).splitlines()
        assert max(map(len, lines)) <= width
        assert len([line for line in lines if "example/" in line or "…" in line]) >= 1
        if height >= 9:
            assert len(lines) <= height
    sender.server.kill()
    top.look()
    text = shown(top, 120, 30)
    assert "no daemon answers" in text
    assert "as it was" in text
    assert "many.example/default" in text
    sender.server.start()
    top.look()
    assert "no daemon answers" not in shown(top, 120, 30)


def test_keys_sort_and_end_it_and_leave_the_terminal_as_it_was(sender: Sender) -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "mta", "top", "--every", "1h", "--config", sender.server.config],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "24"},
    )
    said = bytearray()

    def has_said(words: bytes) -> bool:
        while words not in said:
            os.set_blocking(master, False)
            try:
                said.extend(os.read(master, 65_536))
            except BlockingIOError:
                return False
        return True

    try:
        wait_until(lambda: has_said(b"by recipients"))
        os.write(master, b"s")
        wait_until(lambda: has_said(b"by bytes"))
        os.write(master, b"q")
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        os.close(slave)
        os.close(master)


def test_without_a_server_it_says_so_at_once(tmp_path: Path) -> None:
    began = time.monotonic()
    ended = run("top", "--socket", str(tmp_path / "none"))
    assert ended.code == 69
    assert "no control socket" in ended.err
    assert time.monotonic() - began < 10
    ended = run("top", "--socket", str(tmp_path / "none"), "--sort", "colour")
    assert ended.code == 2
    assert "sort by recipients" in ended.err
    with pytest.raises(ControlError):
        Top(tmp_path / "none", "due").look()
