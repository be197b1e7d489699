"""No DNS server answers, for a while.

Nothing bounces, no entry and no queue pays a try for it, what is known already goes on, and within a minute of the first answer
all of it has arrived, each message once. An answer of SERVFAIL is no answer; NXDOMAIN and a null MX are, and bounce at once.
"""

import time
from collections import Counter
from pathlib import Path

import pytest

from mta.lab.nameserver import DnsTemper
from mta.lab.tempers import Temper
from tests.scenario.stage import (
    Letter,
    Stage,
    attempts_of,
    hand_in,
    kinds,
    letters,
    queue_row,
    wait_until,
)
from tests.support.queue_world import NO_DNS, World
from tests.support.queue_world import Temper as Refusal

FLOW_RESUMES_S = 60.0
DOMAINS = 20
EACH = 10


@pytest.mark.parametrize("outage_s", [8.0, pytest.param(60.0, marks=pytest.mark.soak)])
def test_dns_is_silent_for_a_while_and_nothing_bounces_or_pays_for_it(
    tmp_path: Path, outage_s: float
) -> None:
    with Stage() as stage:
        port, (known, fresh) = stage.internet(Temper(), Temper())
        for n in range(DOMAINS):
            stage.dns.add(f"f{n}.example", "MX", f"10 {fresh.name}.")
        with stage.server(tmp_path, default=f"port = {port}") as daemon:
            hand_in(daemon, letters(EACH, "d0.example"))
            known.wait_for(EACH)
            stage.dns.temper = DnsTemper.SILENT
            began = time.monotonic()
            mail = [each for n in range(DOMAINS) for each in letters(EACH, f"f{n}.example")]
            sent = hand_in(daemon, mail)
            hand_in(daemon, letters(EACH, "d0.example", first=EACH))
            known.wait_for(2 * EACH)  # its MX is in the cache
            wait_until(
                lambda: any("4.4.3" in r["dsnDiag"] for r in daemon.records() if r["type"] == "tq"),
                "no queue was deferred for want of an answer",
            )
            time.sleep(max(0.0, began + outage_s - time.monotonic()))
            assert daemon.totals()["queued_recipients"] == sent
            assert set(attempts_of(daemon)) == {0}
            assert {
                queue_row(daemon, f"f{n}.example/default")["attempts"] for n in range(DOMAINS)
            } == {0}
            stage.dns.temper = DnsTemper.GOOD
            fresh.wait_for(sent, FLOW_RESUMES_S)
            assert max(Counter(fresh.recipients).values()) == 1
            daemon.wait_for(delivered=sent + 2 * EACH)
            found = kinds(daemon.records())
            assert (found["d"], found["b"], found["t"]) == (sent + 2 * EACH, 0, 0)


def test_only_answers_that_are_final_bounce_and_servfail_is_none(tmp_path: Path) -> None:
    with Stage() as stage:
        port, (host,) = stage.internet(Temper())
        stage.dns.add("null.example", "MX", "0 .")
        stage.dns.add("broken.example", "MX", f"10 {host.name}.")
        stage.dns.spoil("broken.example", DnsTemper.SERVFAIL)
        with stage.server(tmp_path, default=f"port = {port}") as daemon:
            for domain in ("null.example", "none.example", "broken.example", "d0.example"):
                hand_in(daemon, [Letter((f"m@{domain}",))])
            daemon.wait_for(bounced=2, delivered=1)
            wait_until(
                lambda: queue_row(daemon, "broken.example/default").get("next_at"), "not deferred"
            )
            records = daemon.records()
            status = {r["rcpt"]: r["dsnStatus"].split()[0] for r in records if r["type"] == "b"}
            assert status == {"m@null.example": "5.1.10", "m@none.example": "5.1.2"}
            assert attempts_of(daemon) == [0]
            row = queue_row(daemon, "broken.example/default")
            assert (row["attempts"], row["mode"]) == (0, "backoff")
            assert "4.4.3" in row["reason"]
            (wait,) = daemon.ask("explain", what="broken.example")["waits"]
            assert "backoff" in wait["what"]
            assert wait["until"] > time.time()


@pytest.mark.parametrize(("is_down", "at_most_s"), [(True, 30.0), (False, 900.0)])
def test_old_mail_too_is_tried_soon_after_an_outage(is_down: bool, at_most_s: float) -> None:
    """A domain whose own DNS is broken waits longer, the older its mail; while nobody gets an answer that says nothing."""
    world = World()
    world.scheduler.dns_is_down = is_down
    world.tempers["old.test"] = Refusal(dns=NO_DNS)
    world.accept("old.test", age=7200.0)
    world.run(1)
    (postponed,) = world.postponed
    assert postponed.state.attempts == 0
    assert at_most_s / 3 <= postponed.state.next_at - world.time <= at_most_s
