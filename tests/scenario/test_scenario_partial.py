"""A host that takes some recipients of a message, refuses others for now and others for good, or takes only so many at a time.

Each recipient has a fate of its own, also when the server is killed in the middle of the transaction: delivered once, bounced
once, or tried again until the host relents. reliability.md F15; RFC 5321 §4.5.3.1.10.
"""

from collections import Counter
from pathlib import Path

import pytest

from mta.lab.tempers import Moment, Temper
from tests.scenario.stage import Letter, Stage, hand_in, wait_until
from tests.support.daemon import Daemon

EACH = 8  # recipients of each fate
MOODS = {"later": "450 4.2.1 try again later", "never": "550 5.1.1 no such user"}
DEFAULT = 'retry = ["1s"]\nbackoff_initial = "1s"\nbackoff_cap = "1s"\nidle_timeout = "0.1s"\n'
LETTER = Letter(tuple(f"{mood}{n}@d.example" for n in range(EACH) for mood in ("ok", *MOODS)))


def named(mood: str) -> set[str]:
    """The recipients of one fate."""
    return {each for each in LETTER.recipients if each.startswith(mood)}


def recorded(daemon: Daemon, kind: str) -> Counter[str]:
    """How many records of this type each recipient has, as far as they are written."""
    return Counter(each["rcpt"] for each in daemon.records_on_disk() if each["type"] == kind)


def require_fates(daemon: Daemon) -> None:
    """Those the host takes are delivered, those it refuses for good bounced, each once; the others wait."""
    wait_until(lambda: recorded(daemon, "b").keys() == named("never"), "not all are bounced")
    wait_until(lambda: recorded(daemon, "d").keys() == named("ok"), "not all are delivered")
    wait_until(lambda: recorded(daemon, "t").keys() >= named("later"), "not all are deferred")
    assert daemon.totals()["queued_recipients"] == EACH


@pytest.mark.parametrize("moment", [None, Moment.RCPT, Moment.DATA, Moment.DOT])
def test_each_recipient_has_its_own_fate_whenever_the_server_is_killed(
    tmp_path: Path, moment: Moment | None
) -> None:
    with Stage() as stage:
        host = stage.witness(Temper(refuse_recipients=MOODS, stall=moment))
        with stage.server(tmp_path, default=f'{DEFAULT}hosts = ["{host.host}"]') as daemon:
            hand_in(daemon, [LETTER])
            if moment is not None:
                wait_until(lambda: host.counts[moment], f"{moment} is not reached")
                daemon.kill()
                host.temper = Temper(refuse_recipients=MOODS)
                daemon.start()
            require_fates(daemon)
            host.temper = Temper()
            wait_until(lambda: not daemon.totals()["queued_recipients"], "something is left")
            records = daemon.records()
    ends = Counter(each["rcpt"] for each in records if each["type"] in ("d", "b"))
    assert ends == dict.fromkeys(LETTER.recipients, 1)
    came = Counter(host.recipients)
    assert came.keys() == named("ok") | named("later")
    twice = {each for each, count in came.items() if count > 1}
    # What was taken before the kill comes again (SMTP knows no better), and only that; its record says so.
    assert twice == (named("ok") if moment is Moment.DOT else set())
    assert twice <= {each["rcpt"] for each in records if each["mayRepeat"]}


@pytest.mark.parametrize(
    "reply", ["452 4.5.3 too many recipients", "552 5.5.3 too many recipients"]
)
def test_a_host_that_takes_only_so_many_recipients_gets_the_others_afterwards(
    tmp_path: Path, reply: str
) -> None:
    """552 was the old word for it and is read as 452 (RFC 5321 §4.5.3.1.10)."""
    recipients = tuple(f"r{n}@d.example" for n in range(30))
    with Stage() as stage:
        host = stage.witness(Temper(max_recipients=10, too_many=reply))
        default = f'{DEFAULT}hosts = ["{host.host}"]\nmax_recipients_per_message = 100'
        with stage.server(tmp_path, default=default) as daemon:
            hand_in(daemon, [Letter(recipients)])
            host.wait_for(len(recipients), 30.0)
            wait_until(lambda: not daemon.totals()["queued_recipients"], "something is left")
            assert recorded(daemon, "b") == {}
    assert Counter(host.recipients) == dict.fromkeys(recipients, 1)
    assert max(len(each.recipients) for each in host.arrivals) == 10
