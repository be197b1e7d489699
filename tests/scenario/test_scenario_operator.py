"""The operator stops, resumes, retries, reloads, and takes a virtual MTA away while mail waits for it.

What was said holds over a restart; a reload is felt by the mail that runs; and mail whose virtual MTA is gone waits, says so, and
goes out when it is back.
"""

import time
from pathlib import Path

from mta.lab.tempers import Temper
from tests.scenario.stage import (
    Letter,
    Stage,
    hand_in,
    kinds,
    letters,
    one_letter,
    queue_row,
    wait_until,
)


def test_a_paused_queue_stays_paused_over_a_restart_until_it_is_resumed(tmp_path: Path) -> None:
    with Stage() as stage:
        host = stage.witness()
        with stage.server(tmp_path, default=f'hosts = ["{host.host}"]') as daemon:
            daemon.ask("queue.pause", queue="p.example")
            hand_in(daemon, letters(50, "p.example"))
            hand_in(daemon, letters(50, "q.example"))
            daemon.wait_for(delivered=50)
            assert daemon.stop() == 0
            daemon.start()
            hand_in(daemon, letters(50, "p.example", first=50))
            (wait,) = daemon.ask("explain", what="p.example")["waits"]
            assert "paused by the operator" in wait["what"]
            row = queue_row(daemon, "p.example/default")
            assert (row["paused"], row["recipients"]) == (True, 100)
            daemon.kill()
            daemon.start()
            assert daemon.ask("queue.show", queue="p.example")["paused"] is True
            time.sleep(0.5)
            assert {each.rpartition("@")[2] for each in host.recipients} == {"q.example"}
            daemon.ask("queue.retry", queue="q.example")  # an empty queue may be retried
            daemon.ask("queue.resume", queue="p.example")
            host.wait_for(150)
            daemon.wait_for(delivered=100)
            assert len(set(host.recipients)) == 150
            assert kinds(daemon.records()) == {"d": 150}


def test_retry_ends_a_backoff_and_a_reload_changes_the_limit_of_mail_that_runs(
    tmp_path: Path,
) -> None:
    with Stage() as stage:
        host = stage.witness(Temper(delay_s=0.03))
        dead, other = stage.witness(Temper(listens=False)), stage.witness()
        default = (
            f'hosts = ["{host.host}"]\nmax_recipients_per_message = 1\nmax_connections = 2\n'
            'backoff_initial = "1h"'
        )
        more = f'[domain."dead.example"]\nhosts = ["{dead.host}"]'
        with stage.server(tmp_path, default=default, more=more) as daemon:
            hand_in(daemon, one_letter(240, "run.example"))
            hand_in(daemon, letters(5, "dead.example"))
            host.wait_for(20)
            assert host.peak == 2
            wait_until(lambda: queue_row(daemon, "dead.example/default").get("next_at"), "no rest")
            text = daemon.config.read_text()
            daemon.config.write_text(
                text.replace("max_connections = 2", 'max_connections = "lots"')
            )
            try:
                daemon.ask("reload")
            except Exception as error:
                assert "max_connections" in str(error) or "lots" in str(error), error
            else:
                raise AssertionError("a configuration with a mistake was taken")
            fixed = text.replace("max_connections = 2", "max_connections = 6")
            daemon.config.write_text(fixed.replace(f'"{dead.host}"', f'"{other.host}"'))
            daemon.ask("reload")
            wait_until(lambda: host.peak == 6, lambda: f"{host.peak} connections")
            assert not other.recipients
            daemon.ask("queue.retry", queue="dead.example")
            other.wait_for(5)
            host.wait_for(240)
            daemon.config.write_text(text)
            daemon.ask("reload")
            hand_in(daemon, one_letter(60, "run.example", first=240))
            host.wait_for(300)
            daemon.wait_for(delivered=305)
            assert host.peak == 6
            assert kinds(daemon.records())["d"] == 305


def test_mail_for_a_virtual_mta_that_was_taken_away_waits_and_says_so(tmp_path: Path) -> None:
    more = '[vmta.a]\nehlo_name = "a.example"\n[vmta.b]\nehlo_name = "b.example"\n'
    with Stage() as stage:
        host = stage.witness()
        with stage.server(
            tmp_path,
            default=f'hosts = ["{host.host}"]\nexpire_after = "1h"',
            listener='vmta = "a"',
            more=more,
        ) as daemon:
            daemon.ask("queue.pause", queue="d.example/b")
            hand_in(daemon, letters(20, "d.example", vmta="b"))
            whole = daemon.config.read_text()
            daemon.config.write_text(whole.replace('[vmta.b]\nehlo_name = "b.example"\n', ""))
            daemon.ask("reload")
            daemon.ask("queue.resume", queue="d.example/b")
            hand_in(daemon, [Letter(("m@d.example",))])
            host.wait_for(1)
            wait_until(
                lambda: queue_row(daemon, "d.example/b").get("mode") == "stopped",
                "it is not stopped",
            )
            waits = daemon.ask("explain", what="d.example/b")["waits"]
            assert any("virtual MTA" in wait["what"] for wait in waits), waits
            assert daemon.stop() == 0
            daemon.start()
            waits = daemon.ask("explain", what="d.example/b")["waits"]
            assert any("virtual MTA" in wait["what"] for wait in waits), waits
            assert daemon.totals()["queued_recipients"] == 20
            daemon.config.write_text(whole)
            daemon.ask("reload")
            host.wait_for(21)  # at once, for it had no backoff
            daemon.wait_for(delivered=20)
            found = kinds(daemon.records())
            assert (found["d"], found["b"], found["t"]) == (21, 0, 0)
