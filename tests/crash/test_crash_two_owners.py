"""A second start on a spool in use refuses, names the process that owns it, and disturbs nothing (reliability.md F8)."""

import os
from pathlib import Path

import pytest

from tests.crash.load import Fate, Ledger, hand_in_now
from tests.crash.verdict import a_sink, delivering_to, drain, judge, read_records
from tests.support.daemon import Daemon, ended


@pytest.mark.parametrize("same_config", [True, False], ids=["same config", "another config"])
def test_a_second_start_on_the_same_spool_refuses_with_the_pid_of_its_owner(
    tmp_path: Path, same_config: bool
) -> None:
    ledger = Ledger()
    with a_sink(tmp_path) as sink:
        first = Daemon(tmp_path, default=delivering_to(sink.port))
        elsewhere = tmp_path / "second"
        elsewhere.mkdir()
        second = Daemon(elsewhere, default=delivering_to(sink.port), disk=tmp_path)
        if same_config:
            second.config = first.config
        with ended(first), ended(second):
            first.start()
            second.start(wait=False)
            assert second.wait_for_exit() not in (0, None)
            assert f"process {first.pid}" in second.log
            # The owner lost neither its lock, its control socket, its port nor its records.
            assert (tmp_path / "spool" / "0.lock").read_text() == f"{first.pid}\n"
            assert first.ask("status")["pid"] == first.pid
            assert hand_in_now(first.port, ledger.new(1000, 1)).fate is Fate.ACKNOWLEDGED
            drain(first)
            assert first.stop() == 0
        judge(ledger, sink.dump, read_records(tmp_path)).require()


def test_the_lock_of_a_killed_owner_holds_nobody_up(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, default=delivering_to(1))
    with ended(daemon):
        daemon.start()
        killed = daemon.pid
        daemon.kill()
        assert (tmp_path / "spool" / "0.lock").read_text() == f"{killed}\n"
        daemon.start()
        assert daemon.ask("status")["pid"] == daemon.pid
        assert daemon.pid not in (killed, os.getpid())
        assert daemon.stop() == 0
