"""Three connections, and a third of the destinations swallow every SYN: the others still get most of what they had.

A connect that times out holds a connection and moves nothing. Destinations that have not answered yet share a third of the
connections, and give up after two seconds while others wait (architecture.md section 6).
"""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from mta.lab.tempers import Temper
from tests.scenario.stage import Letter, Stage, Witness, hand_in, wait_until

BLACK_HOLED = 0.3
REPLY_S = 0.01  # what a host takes for a reply: it, not this machine, bounds the rate
SETTLED_S = 2.0  # after the first delivery, before the clean rate is taken
RECIPIENTS_A_LETTER = 100


@dataclass(frozen=True, slots=True)
class Scene:
    """So many sites of so many domains, mail for each domain, and how long is looked."""

    sites: int
    domains_each: int
    mail_each: int
    clean_s: float
    holed_s: float
    workers: int

    def domains(self, sites: range) -> list[str]:
        """The domains of these sites, those of one site apart from each other."""
        return [f"d{n}.s{site}.example" for n in range(self.domains_each) for site in sites]


SCENES = [
    pytest.param(Scene(20, 2, 60, 4.0, 8.0, 2), id="briefly"),
    pytest.param(
        Scene(50, 10, 100, 120.0, 600.0, 8), id="500 domains, 10 minutes", marks=pytest.mark.soak
    ),
]


@contextmanager
def black_hole() -> Iterator[str]:
    """`address:port` that answers no SYN: its accept queue is full, and Linux drops what comes then."""
    sockets: list[socket.socket] = []
    try:
        listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        sockets.append(listener)
        for _ in range(8):
            sockets.append(client := socket.socket())
            client.settimeout(0.3)
            with suppress(TimeoutError):
                client.connect(listener.getsockname())
                continue
            break
        else:
            pytest.fail("this kernel does not drop SYNs when the accept queue is full")
        address, port = listener.getsockname()
        yield f"{address}:{port}"
    finally:
        for each in sockets:
            each.close()


def rate_of(host: Witness, seconds: float) -> float:
    """Recipients a second that the host takes, from now on."""
    before, began = host.mailbox.recipients, time.monotonic()
    time.sleep(seconds)  # the rate over this time is what is asked
    return (host.mailbox.recipients - before) / (time.monotonic() - began)


def run(place: Path, scene: Scene, stage: Stage, hole: str, holed: int, seconds: float) -> float:
    """Deliver while the first `holed` sites lead nowhere: recipients a second of the others."""
    host = stage.witness(Temper(delay_s=REPLY_S))
    more = ""
    for site in range(scene.sites):
        domains = [f"d{n}.s{site}.example" for n in range(scene.domains_each)]
        listed = ", ".join(f'"{domain}"' for domain in domains)
        where = hole if site < holed else host.host
        more += f'[site.s{site}]\ndomains = [{listed}]\nhosts = ["{where}"]\n'
    with stage.server(
        place,
        default='max_connections = 2\nmessage_rate = "10/s"\nbackoff_initial = "5m"',
        server=f"workers = {scene.workers}\ntotal_connections = 3",
        more=more,
    ) as daemon:
        domains = scene.domains(range(scene.sites))
        step = RECIPIENTS_A_LETTER
        names = [f"m{n}@{domain}" for n in range(scene.mail_each) for domain in domains]
        mail = [Letter(tuple(names[at : at + step])) for at in range(0, len(names), step)]
        hand_in(daemon, mail, connections=20)
        wait_until(lambda: host.mailbox.recipients, "nothing is delivered")
        time.sleep(SETTLED_S)
        found = rate_of(host, seconds)
        good = scene.sites - holed
        left = good * scene.domains_each * scene.mail_each - host.mailbox.recipients
        assert left > 0, "there was not enough mail to look that long"
        return found


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("scene", SCENES)
def test_with_a_third_of_all_destinations_black_holed_half_the_rate_remains(
    tmp_path: Path, scene: Scene
) -> None:
    with Stage() as stage, black_hole() as hole:
        (tmp_path / "clean").mkdir()
        (tmp_path / "holed").mkdir()
        clean = run(tmp_path / "clean", scene, stage, hole, 0, scene.clean_s)
        holed = round(scene.sites * BLACK_HOLED)
        found = run(tmp_path / "holed", scene, stage, hole, holed, scene.holed_s)
        print(f"{clean:.0f}/s clean, {found:.0f}/s with {holed} of {scene.sites} black-holed")
        assert stage.crowd.peak <= 3
        assert found >= 0.5 * clean
