"""Mail that cannot be delivered in its time.

It bounces once, by expiry, and its record says why it waited; also in a paused queue, behind a dead host, and when the server
was killed and started meanwhile: the age of mail and the state of its queue are on disk, and count on.
"""

import time
from pathlib import Path

from mta.lab.tempers import Moment, Temper
from tests.scenario.stage import Letter, Stage, hand_in, queue_row, wait_until

EXPIRE_S = 4.0


def test_what_expires_bounces_once_with_its_last_reason_wherever_it_waits(tmp_path: Path) -> None:
    full = Temper(refuse={Moment.RCPT: "452 4.2.2 mailbox full"})
    shut = Temper(refuse={Moment.GREETING: "421 4.3.2 not now"})
    with Stage() as stage:
        often, seldom = stage.witness(full), stage.witness(full)
        away, dead = stage.witness(shut), stage.witness(Temper(listens=False))
        hosts = {"often": often, "seldom": seldom, "away": away, "dead": dead}
        more = "".join(
            f'[domain."{name}.example"]\nhosts = ["{host.host}"]\n'
            + ('retry = ["1h"]\n' if name == "seldom" else "")
            for name, host in hosts.items()
        )
        default = (
            f'hosts = ["{often.host}"]\nretry = ["1s"]\nexpire_after = "{EXPIRE_S:.0f}s"\n'
            'backoff_initial = "1s"\nbackoff_cap = "1s"'
        )
        with stage.server(tmp_path, default=default, more=more) as daemon:
            daemon.ask("queue.pause", queue="paused.example")
            for name in (*hosts, "paused"):
                hand_in(daemon, [Letter((f"m@{name}.example",))])
            began = time.monotonic()
            wait_until(
                lambda: queue_row(daemon, "dead.example/default").get("attempts"), "not dead"
            )
            daemon.kill()
            daemon.start()
            daemon.wait_for(expired=5, timeout_s=4 * EXPIRE_S)
            assert time.monotonic() - began >= EXPIRE_S - 1
            wait_until(lambda: not daemon.totals()["queued_recipients"], "something is left")
            bounces = [each for each in daemon.records() if each["type"] == "b"]
            said = {each["rcpt"].removesuffix(".example"): each for each in bounces}
            assert sorted(said) == sorted(f"m@{name}" for name in (*hosts, "paused"))
            assert len(bounces) == 5
            assert {each["removedBy"] for each in bounces} == {"expired"}
            assert "mailbox full" in said["m@often"]["dsnDiag"]
            assert "mailbox full" in said["m@seldom"]["dsnDiag"]
            assert "not now" in said["m@away"]["dsnDiag"]
            assert "4.4." in said["m@dead"]["dsnStatus"]
            assert all(int(each["totalSecondsQueued"]) >= EXPIRE_S - 1 for each in bounces)


def test_retries_and_backoff_go_on_after_a_kill_where_they_stood(tmp_path: Path) -> None:
    with Stage() as stage:
        full = stage.witness(Temper(refuse={Moment.RCPT: "452 4.2.2 mailbox full"}))
        away = stage.witness(Temper(refuse={Moment.GREETING: "421 4.3.2 not now"}))
        default = f'hosts = ["{full.host}"]\nretry = ["1s", "1h"]\nbackoff_initial = "1h"'
        more = f'[domain."away.example"]\nhosts = ["{away.host}"]'
        with stage.server(tmp_path, default=default, more=more) as daemon:
            hand_in(daemon, [Letter(("m@full.example",)), Letter(("m@away.example",))])
            wait_until(lambda: full.counts["rcpt"] == 2, "no second try")
            wait_until(lambda: len(away.opened) == 1, "no try")
            daemon.wait_for(deferred=2)

            def state() -> list[object]:
                listed = daemon.ask("messages.list", recipient="m@full.example")["recipients"]
                row = queue_row(daemon, "away.example/default")
                names = ("attempts", "mode", "reason", "next_at")
                return [(each["attempts"], each["due"], each["last_reply"]) for each in listed] + [
                    row[name] for name in names
                ]

            before = state()
            assert before[0][0] == 2
            assert before[1:3] == [1, "backoff"]
            daemon.kill()
            daemon.start()
            assert state() == before
            time.sleep(1.5)
            assert (full.counts["rcpt"], len(away.opened)) == (2, 1)
            waits = daemon.ask("explain", what="away.example")["waits"]
            assert any("not now" in wait["what"] for wait in waits), waits
            # The operator's word ends the rest of both.
            for host in (full, away):
                host.temper = Temper()
            daemon.ask("queue.retry", queue="full.example")
            daemon.ask("queue.retry", queue="away.example")
            daemon.wait_for(delivered=2)
