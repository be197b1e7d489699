"""The disk of the spool fails with EIO in the middle of load: every client of that commit and of every later one hears 451, the
server ends with 75, and is started again by the test.

Nothing acknowledged is lost. Mail answered 451 for a failed commit may be delivered all the same, for what the failed fsync left
in the log is valid to the next start: it is counted apart (architecture.md section 7, reliability.md D4).
"""

import random
import sys
import time
from pathlib import Path

import pytest

from tests.crash.load import Fate, Ledger, Load
from tests.crash.verdict import (
    Sink,
    a_sink,
    delivering_to,
    drain_and_release,
    judge,
    read_records,
)
from tests.support.daemon import Daemon, ended

ROOT = Path(__file__).parents[2]
EXIT_TEMPFAIL = 75
EXIT_S = 15.0
# Replies of one batch are read by clients in turn, so one 250 of an earlier commit may be read after a 451.
READ_LATE_S = 0.5
FAULTS = ("wal-sync:eio", "wal-write:eio:3", "change:eio:5", "sync:eio:2")


def on_a_failing_disk(place: Path, sink: Sink) -> tuple[Daemon, Path]:
    """A server whose database's disk obeys the fault file."""
    faults = place / "faults"
    daemon = Daemon(
        place,
        default=delivering_to(sink.port),
        server="total_connections = 24",
        environment={"PYTHONPATH": str(ROOT)},
        command=(sys.executable, "-m", "tests.support.fake_disk", str(faults)),
    )
    return daemon, faults


def require_silence_after_the_failure(ledger: Ledger, since: float) -> None:
    """From the first 451 on nobody was told 250, and nobody heard anything but 451 or a goodbye."""
    refused = [sent for sent in ledger.of(Fate.REFUSED) if sent.at > since]
    assert {sent.reply[:9] for sent in refused} <= {"451 4.3.0", "421 4.3.2"}, ledger.refusals()
    failed = [sent.at for sent in refused if sent.reply.startswith("451")]
    if failed:
        late = [sent for sent in ledger.of(Fate.ACKNOWLEDGED) if sent.at > min(failed)]
        assert all(sent.at < min(failed) + READ_LATE_S for sent in late)


@pytest.mark.parametrize(
    "faults",
    [FAULTS[:3], pytest.param(FAULTS * 15, marks=pytest.mark.soak)],
    ids=["one of each", "15 of each"],
)
def test_when_a_commit_fails_clients_hear_451_and_the_next_start_has_all_that_was_acknowledged(
    tmp_path: Path, faults: tuple[str, ...]
) -> None:
    ledger = Ledger()
    heard = 0
    with a_sink(tmp_path, delay_ms=5) as sink:
        daemon, fault_file = on_a_failing_disk(tmp_path, sink)
        with ended(daemon):
            for fault in faults:
                daemon.start()
                with Load(daemon.port, ledger):
                    time.sleep(random.uniform(0.2, 0.8))
                    since = time.monotonic()
                    fault_file.write_text(fault)
                    assert daemon.wait_for_exit(EXIT_S) == EXIT_TEMPFAIL, daemon.log
                    fault_file.unlink()
                require_silence_after_the_failure(ledger, since)
                heard += any(
                    sent.reply.startswith("451") for sent in ledger.of(Fate.REFUSED)[heard:]
                )
                read_records(tmp_path, torn_tail=True)
            daemon.start()
            drain_and_release(daemon)
            assert daemon.stop() == 0
        verdict = judge(ledger, sink.dump, read_records(tmp_path))
    verdict.require()
    assert "the spool failed; stopping to start again from the disk" in daemon.log
    assert heard, "no client was under way in any of the failed commits"


def test_a_log_that_cannot_be_copied_back_stops_the_server_and_costs_nothing(
    tmp_path: Path,
) -> None:
    ledger = Ledger()
    with a_sink(tmp_path) as sink:
        daemon, fault_file = on_a_failing_disk(tmp_path, sink)
        with ended(daemon):
            daemon.start()
            with Load(daemon.port, ledger) as load:
                load.wait_for(50)
            # Nothing is left to do but to tidy up.
            fault_file.write_text("db-write:eio")
            assert daemon.wait_for_exit(EXIT_S) == EXIT_TEMPFAIL, daemon.log
            fault_file.unlink()
            daemon.start()
            drain_and_release(daemon)
            assert daemon.stop() == 0
        verdict = judge(ledger, sink.dump, read_records(tmp_path))
    verdict.require()
    assert verdict.repeated == 0


def test_with_a_disk_that_fails_from_the_start_it_ends_with_75_and_says_why(tmp_path: Path) -> None:
    with a_sink(tmp_path) as sink:
        daemon, fault_file = on_a_failing_disk(tmp_path, sink)
        fault_file.write_text("sync:eio")
        with ended(daemon):
            daemon.start(wait=False)
            assert daemon.wait_for_exit() == EXIT_TEMPFAIL
            assert "cannot be opened" in daemon.log
            fault_file.unlink()
            daemon.start()
            assert daemon.stop() == 0
