"""The judgement after a crash: what the clients' ledger, the sink's dump and the accounting say of each other.

Three witnesses that share nothing: the ledger is outside of the server, the sink wrote its line before its 250, the accounting
was written by the server. What was acknowledged arrived; what arrived twice is marked so; each delivery is told once.
"""

import csv
import io
import json
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mta.spool.words import Filter
from tests.crash.load import Fate, Ledger
from tests.support.daemon import Daemon
from tests.support.spools import SpoolUnderTest

MAX_PREFIX = 1_500  # what the server puts in front: trace, lab stamp


class Sink:
    """A sink in a process of its own, which outlives every server."""

    def __init__(self, place: Path, *, delay_ms: float = 0.0, port: int = 0) -> None:
        self.dump = place / "sink.dump"
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "mta.lab.sink", "--dump", str(self.dump)),
                *("--delay-ms", str(delay_ms), "--port", str(port)),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        ready = self._process.stdout.readline()
        assert ready.startswith("ready"), ready
        self.port = int(ready.rpartition(":")[2])
        self.counts: dict[str, int] = {}  # once it is closed

    def close(self) -> None:
        """End it."""
        self._process.send_signal(signal.SIGTERM)
        out, _ = self._process.communicate(timeout=20)
        self.counts = json.loads(out.splitlines()[-1])


def read_arrivals(dump: Path) -> list[tuple[str, str, int]]:
    """(recipient, Message-ID, size) of every copy a sink took."""
    found = []
    for line in dump.read_text().splitlines():
        _, recipient, message_id, size = line.split(" ")
        found.append((recipient, message_id, int(size)))
    return found


@contextmanager
def a_sink(place: Path, *, delay_ms: float = 0.0, port: int = 0) -> Iterator[Sink]:
    """A sink, ended whatever happens."""
    sink = Sink(place, delay_ms=delay_ms, port=port)
    try:
        yield sink
    finally:
        sink.close()


def delivering_to(port: int) -> str:
    """The lines of `[default]` that send everything to a sink, and try again soon."""
    return (
        f'hosts = ["127.0.0.1:{port}"]\nretry = ["1s"]\n'
        'backoff_initial = "1s"\nbackoff_cap = "1s"\ntls = "none"'
    )


def start_until_ready(daemon: Daemon) -> float:
    """Start; the seconds until a client is greeted."""
    began = time.monotonic()
    daemon.start()
    with socket.create_connection(("127.0.0.1", daemon.port), 10) as client:
        assert client.recv(3) == b"220"
    return time.monotonic() - began


def drain(daemon: Daemon, timeout_s: float = 60.0) -> None:
    """Wait until nothing is queued but what is held."""
    until = time.monotonic() + timeout_s
    while (totals := daemon.totals())["queued_recipients"] > totals["held"] or totals["unsettled"]:
        left = {name: totals[name] for name in ("queued_recipients", "held", "unsettled")}
        assert time.monotonic() < until, (
            f"not drained: {left} {daemon.ask('queues')}\n{daemon.log[-3000:]}"
        )
        time.sleep(0.05)


def drain_and_release(daemon: Daemon) -> None:
    """Drain; what was in flight at three crashes running is held as poison: release it as an operator would, and drain again."""
    drain(daemon)
    held = daemon.ask("messages.list", held=True, limit=1000)["recipients"]
    if not held:
        return
    assert all(row["hold_reason"].startswith("poison") for row in held), held[:3]
    assert daemon.stop() == 0
    spool = SpoolUnderTest(daemon.disk / "spool")
    released = spool.ask(spool.spool.release(Filter()))
    spool.close()
    print(f"{released} held as poison")
    assert released == len(held)
    daemon.start()
    drain(daemon)
    assert daemon.totals()["held"] == 0


def read_records(disk: Path, *, torn_tail: bool = False) -> list[dict[str, str]]:
    """Every record, after proof that each file is well formed and no event stands in them twice.

    `torn_tail`: nobody has opened the current file since a crash; it may end within a line.
    """
    records: list[dict[str, str]] = []
    current = disk / "acct.csv"
    for path in [*sorted(disk.glob("acct-*.csv")), current]:
        data = path.read_bytes() if path.exists() else b""
        if torn_tail and path == current:
            data = data[: data.rfind(b"\r\n") + 2]
        records += parse_records(data, path)
    numbers = Counter(record["eventId"] for record in records)
    twice = [number for number, count in numbers.items() if count > 1]
    assert not twice, f"events told twice: {twice[:10]} of {len(twice)}"
    return records


def parse_records(data: bytes, path: Path) -> list[dict[str, str]]:
    """The records of a file's bytes. Raises AssertionError on anything but whole lines of the header's width."""
    if not data:
        return []
    assert data.endswith(b"\r\n"), f"{path} ends within a line: {data[-200:]!r}"
    assert b"\0" not in data, f"{path} has zeros in it"
    text = io.StringIO(data.decode("utf-8"), newline="")
    header, *rows = csv.reader(text, strict=True)
    assert header[0] == "type", f"{path} begins with {header[:3]}"
    for row in rows:
        assert len(row) == len(header), f"{path}: a record of {len(row)} fields: {row}"
        assert row[0] in ("d", "b", "t", "tq"), f"{path}: {row}"
    return [dict(zip(header, row, strict=True)) for row in rows]


def read_saved_records(daemon: Daemon) -> None:
    """Proof that the current file is well formed up to the place the follower has saved, which a crash cannot take away."""
    followers = {each["name"]: each for each in daemon.ask("status")["followers"]}
    assert not any(each["trouble"] for each in followers.values()), followers
    follower = followers["accounting.main"]
    if follower["place"]:
        place = json.loads(follower["place"])
        path = Path(place["file"])
        data = path.read_bytes()
        # It may have been rotated between the two looks: the new file is shorter.
        if path.stat().st_ino == place["inode"]:
            assert len(data) >= place["offset"], f"{path} is shorter than what was saved"
            parse_records(data[: place["offset"]], path)


@dataclass(slots=True)
class Verdict:
    """What was found; `str` of it is the line a test prints."""

    acknowledged: int  # messages
    recipients: int  # of those
    repeated: int  # copies beyond the first
    unsure_arrived: int  # recipients of messages without an answer
    refused_arrived: int  # recipients of messages refused after their dot
    marked: int  # deliveries marked mayRepeat
    lost: list[str]
    wrong: list[str]

    def __str__(self) -> str:
        return (
            f"{self.acknowledged} messages acknowledged ({self.recipients} recipients), {len(self.lost)} lost,"
            f" {self.repeated} repeated ({self.marked} marked),"
            f" arrived though unsure {self.unsure_arrived}, though refused {self.refused_arrived}"
        )

    def require(self) -> None:
        """Raise AssertionError unless nothing is lost and nothing is wrong."""
        print(self)
        assert not (self.lost or self.wrong), (
            f"{len(self.lost)} lost: {self.lost[:10]}\n{len(self.wrong)} wrong: {self.wrong[:10]}"
        )


def judge(ledger: Ledger, dump: Path, records: list[dict[str, str]]) -> Verdict:
    """Hold ledger, sink and records against each other, after the queues are empty and the server has stopped."""
    arrivals = read_arrivals(dump)
    copies = Counter(recipient for recipient, _, _ in arrivals)
    sent_to = {recipient: sent for sent in ledger.messages for recipient in sent.recipients}
    delivered = Counter(record["rcpt"] for record in records if record["type"] == "d")
    marked = {
        record["rcpt"]
        for record in records
        if record["type"] in "dbt" and record["mayRepeat"] == "true"
    }
    verdict = Verdict(
        acknowledged=len(ledger.of(Fate.ACKNOWLEDGED)),
        recipients=sum(len(sent.recipients) for sent in ledger.of(Fate.ACKNOWLEDGED)),
        repeated=sum(copies.values()) - len(copies),
        unsure_arrived=sum(sent_to[each].fate is Fate.UNSURE for each in copies if each in sent_to),
        refused_arrived=sum(
            sent_to[each].fate is Fate.REFUSED for each in copies if each in sent_to
        ),
        marked=sum(delivered[each] for each in marked),
        lost=[
            recipient
            for sent in ledger.of(Fate.ACKNOWLEDGED)
            for recipient in sent.recipients
            if not copies[recipient]
        ],
        wrong=list(ledger.faults),
    )
    wrong = verdict.wrong
    wrong += [
        f"bounced: {each['rcpt']} {each['dsnDiag']}" for each in records if each["type"] == "b"
    ]
    for recipient, message_id, size in arrivals:
        sent = sent_to.get(recipient)
        if sent is None or sent.message_id != message_id:
            wrong.append(f"{recipient} got {message_id}, which nobody sent there")
        elif sent.fate is Fate.UNSENT:
            wrong.append(f"{recipient} arrived without its final dot")
        elif not sent.size < size < sent.size + MAX_PREFIX:
            wrong.append(f"{recipient} of {sent.size} bytes arrived with {size}")
    for recipient, count in copies.items():
        if count > 1 and recipient not in marked:
            wrong.append(f"{recipient} arrived {count} times and no record says it may")
        if delivered[recipient] != 1:
            wrong.append(f"{recipient} arrived and has {delivered[recipient]} records of delivery")
    wrong += [f"{each} is recorded as delivered, no sink has it" for each in delivered - copies]
    return verdict
