"""Several accounting sets of a real server: each has its own records in its own form, and finished files are kept as asked."""

import gzip
import json
import os
import smtplib
import time
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, running
from tests.support.host import Host
from tests.support.wire import wait_until

OLD_S = 40 * 86_400
SETS = """
[accounting.news]
path = "news.jsonl"
format = "jsonl"
records = ["d", "r"]
jobs = ["news-*", "!*"]
fields = ["rcpt", "jobId", "timeLogged", "dlvSize"]

[accounting.kept]
path = "kept.csv"
compress = true
keep = "30d"
"""


def send(daemon: Daemon, job: str, recipient: str) -> None:
    with smtplib.SMTP("127.0.0.1", daemon.port, timeout=10) as client:
        client.sendmail("a@sender.example", [recipient], f"X-Job: {job}\r\nSubject: x\r\n\r\nx\r\n")


def finished(place: Path, name: str, *, age_s: float) -> None:
    path = place / name
    path.write_bytes(b"type,eventId\r\nd,1\r\n")
    at = time.time() - age_s
    os.utime(path, (at, at))


@pytest.mark.parametrize("workers", [1, 2])
def test_each_set_has_its_own_records_and_keeps_its_files(tmp_path: Path, workers: int) -> None:
    finished(tmp_path, "kept-2026-01-01-0000.csv", age_s=OLD_S)
    finished(tmp_path, "kept-2026-02-01-0000.csv", age_s=3600)
    server = f"workers = {workers}"
    with Host() as host:
        default = f'hosts = ["127.0.0.1:{host.port}"]'
        with running(tmp_path, default=default, more=SETS, server=server) as daemon:
            for job, recipient in (("news-1", "one@example.net"), ("other", "two@example.net")):
                send(daemon, job, recipient)
            daemon.wait_for(delivered=2)
            daemon.ask("rotate")
            packed = tmp_path / "kept-2026-02-01-0000.csv.gz"
            wait_until(packed.exists)
            wait_until(lambda: not (tmp_path / "kept-2026-02-01-0000.csv").exists())
    assert gzip.decompress(packed.read_bytes()) == b"type,eventId\r\nd,1\r\n"
    assert not list(tmp_path.glob("kept-2026-01-01*"))
    texts = [path.read_text() for path in sorted(tmp_path.glob("news*.jsonl"))]
    lines = [json.loads(line) for text in texts for line in text.splitlines()]
    assert sorted(each["type"] for each in lines) == ["d", "r"]
    assert {each["jobId"] for each in lines} == {"news-1"}
    (delivery,) = [each for each in lines if each["type"] == "d"]
    assert list(delivery) == ["type", "rcpt", "jobId", "timeLogged", "dlvSize"]
    assert delivery["rcpt"] == "one@example.net" and delivery["dlvSize"] > 100
    assert {each["rcpt"] for each in daemon.records_on_disk() if each["type"] == "d"} == {
        "one@example.net",
        "two@example.net",
    }
