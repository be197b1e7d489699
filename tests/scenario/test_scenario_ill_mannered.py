"""Hosts that refuse, swallow, reset, drip, babble and never end: the others keep their rate, and nothing is left open.

Each kind is a server with many domains, each a destination of its own. The good ones are bounded by their rate, not by
this machine, so that what the bad ones take from them can be counted.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from mta.lab.certificate import make_server_context
from mta.lab.tempers import Moment, Temper
from tests.scenario.stage import Stage, hand_in, letters, wait_until
from tests.scenario.test_scenario_black_holes import black_hole, rate_of
from tests.support.daemon import Daemon

GOOD = 10  # destinations
GOOD_RATE = 5  # messages a second to each
REPLY_S = 0.005
SETTLED_S = 2.0
FEW = 5  # descriptors that come and go with the work

KINDS = {
    "closed port": Temper(listens=False),
    "never greets": Temper(stall=Moment.GREETING),
    "half open": Temper(deaf=Moment.GREETING),
    "half open in the message": Temper(deaf=Moment.DATA),
    "no reply to the dot": Temper(stall=Moment.DOT),
    "reset at once": Temper(reset_after=0),
    "reset in the message": Temper(reset_after=200),
    "drip": Temper(drip_s=5.0),
    "never-ending reply": Temper(endless=Moment.EHLO),
    "a line of a megabyte": Temper(long_line=Moment.EHLO),
    "no reply at all": Temper(garbage=Moment.GREETING),
    "hangs in the handshake": Temper(offers_tls=True, tls_hangs=True),
    "injects at starttls": Temper(offers_tls=True, tls_injects=True),
}
HOLE = "black hole"
# Opportunistic TLS: a host whose handshake fails gets its mail on a second connection, in the clear (RFC 7435).
DELIVERED = {"hangs in the handshake"}


@dataclass(frozen=True, slots=True)
class Scene:
    """So many destinations of each kind; how long each step may take; how long is looked; what must remain."""

    each: int
    step_s: int
    look_s: float
    remains: float


SCENES = [
    pytest.param(Scene(4, 2, 4.0, 0.85), id="briefly"),
    pytest.param(Scene(75, 60, 60.0, 0.95), id="1,000 destinations", marks=pytest.mark.soak),
]


def open_files(server: Daemon) -> int:
    """How many descriptors the server holds."""
    return len(list(Path(f"/proc/{server.pid}/fd").iterdir()))


def outcomes(server: Daemon) -> dict[str, set[str]]:
    """The kinds of record of each queue's domain, as far as they are written."""
    found: dict[str, set[str]] = {}
    for record in server.records_on_disk():
        found.setdefault(record["queue"].partition("/")[0], set()).add(record["type"])
    return found


@pytest.mark.timeout(900)
@pytest.mark.serial
@pytest.mark.parametrize("scene", SCENES)
def test_hosts_that_misbehave_in_every_way_take_little_from_the_others_and_end_by_their_deadline(
    tmp_path: Path, scene: Scene
) -> None:
    with Stage() as stage, black_hole() as hole:
        good = stage.witness(Temper(delay_s=REPLY_S))
        hosts = {HOLE: hole}
        for kind, temper in KINDS.items():
            witness = stage.witness(temper)
            witness.context = make_server_context("host.lab.example") if temper.offers_tls else None
            hosts[kind] = witness.host
        bad = {
            f"b{n}.{kind.replace(' ', '-')}.example": host
            for kind, host in hosts.items()
            for n in range(scene.each)
        }
        more = "".join(
            f'[domain."g{n}.example"]\nhosts = ["{good.host}"]\nmessage_rate = "{GOOD_RATE}/s"\n'
            for n in range(GOOD)
        ) + "".join(
            f'[domain."{domain}"]\nhosts = ["{host}"]\ntls = "opportunistic"\n'
            for domain, host in bad.items()
        )
        steps = ("greeting", "ehlo", "starttls", "mail", "rcpt", "data", "body", "end_of_data")
        timeouts = ", ".join(f'{step} = "{scene.step_s}s"' for step in steps)
        default = (
            f'timeouts = {{ {timeouts} }}\nconnect_timeout = "{scene.step_s}s"\n'
            'backoff_initial = "1h"\nretry = ["1h"]'
        )
        with stage.server(tmp_path, default=default, more=more) as server:
            wanted = round(GOOD_RATE * (2 * scene.look_s + 20))
            for n in range(GOOD):
                hand_in(server, letters(wanted, f"g{n}.example"))
            wait_until(lambda: good.mailbox.recipients, "nothing is delivered")
            time.sleep(SETTLED_S)
            before = open_files(server)
            clean = rate_of(good, scene.look_s)
            hand_in(server, [each for domain in bad for each in letters(1, domain)])
            began = time.monotonic()
            found = rate_of(good, scene.look_s)
            print(f"{clean:.1f}/s alone, {found:.1f}/s beside {len(bad)} that misbehave")
            assert good.mailbox.recipients < GOOD * wanted, "there was not enough mail to look"
            assert found >= scene.remains * clean
            # A dialogue is over after its slowest step, or two connections' where TLS fails.
            wait_until(
                lambda: bad.keys() <= outcomes(server).keys(),
                lambda: f"no outcome: {sorted(bad.keys() - outcomes(server).keys())}",
                2 * scene.step_s + 20.0 - (time.monotonic() - began) + scene.look_s,
            )
            for domain, kinds in outcomes(server).items():
                if domain in bad:
                    kind = domain.split(".")[1].replace("-", " ")
                    assert "b" not in kinds, (domain, kinds)
                    assert ("d" in kinds) == (kind in DELIVERED), (domain, kinds)
            wait_until(
                lambda: open_files(server) <= before + FEW,
                lambda: f"{open_files(server)} descriptors, {before} before",
            )
