"""Many workers, one set of limits: what the hosts see is the same as if one process had sent it all.

Connections are counted on the wire from our SYN to our FIN, and at the hosts from accept to close; arrivals by the clock, while
8 workers share three connections, two a site, and a rate a site over 500 domains.
"""

import os
import threading
import time
from pathlib import Path

import pytest

from mta.lab.tempers import Temper
from tests.scenario.stage import Letter, Stage, hand_in, require_rate
from tests.support.packets import Recorder

WORKERS = 8
DOMAINS = 500
SITES = 5
RATE = 10.0


@pytest.mark.serial
@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="a packet capture needs root")
def test_eight_workers_keep_three_connections_two_a_site_and_the_rate_of_each(
    tmp_path: Path,
) -> None:
    with Stage() as stage:
        hosts = [stage.witness(Temper(delay_s=0.005)) for _ in range(SITES)]
        more = ""
        for number, host in enumerate(hosts):
            domains = [f"d{n}.example" for n in range(number, DOMAINS, SITES)]
            more += f'[site.s{number}]\ndomains = {domains!r}\nhosts = ["{host.host}"]\n'
        with (
            Recorder([host.port for host in hosts]) as wire,
            stage.server(
                tmp_path,
                default=f'max_connections = 2\nmessage_rate = "{RATE:g}/s"',
                server=f"workers = {WORKERS}\ntotal_connections = 3",
                more=more.replace("'", '"'),
            ) as daemon,
        ):
            mail = [Letter((f"a@d{n}.example",)) for n in range(DOMAINS)]
            hand_in(daemon, mail, connections=40)
            status = daemon.ask("status")
            shares = [each["totals"]["messages_in"] for each in status["workers"]]
            assert len(shares) == WORKERS
            assert min(shares) > 0, f"every worker took mail: {shares}"
            for host in hosts:
                host.wait_for(DOMAINS // SITES, 60)
            assert stage.crowd.peak <= 3
            assert wire.peak == 3, f"{wire.peak} from SYN to FIN, {wire.seen} in all"
            for host in hosts:
                assert max(host.peak_of.values()) <= 2
                times = [each.at for each in host.arrivals for _ in each.recipients]
                # Three connections over 500 queues: a lease that waits for its tokens is no other's meanwhile.
                require_rate(times, RATE, used=0.3)


def test_every_verb_answers_within_a_second_while_eight_workers_are_under_load(
    tmp_path: Path,
) -> None:
    with Stage() as stage:
        host = stage.witness(Temper())
        with stage.server(
            tmp_path, default=f'hosts = ["{host.host}"]', server=f"workers = {WORKERS}"
        ) as daemon:
            mail = [Letter((f"a{n}@d{n % 50}.example",)) for n in range(3000)]
            load = threading.Thread(target=hand_in, args=(daemon, mail), kwargs={"connections": 40})
            load.start()
            try:
                while load.is_alive():
                    for verb, args in (
                        ("status", {}),
                        ("queues", {}),
                        ("queue.pause", {"queue": "d1.example"}),
                        ("queue.resume", {"queue": "d1.example"}),
                        ("explain", {"what": "d2.example"}),
                        ("messages.list", {}),
                    ):
                        began = time.monotonic()
                        answer = daemon.ask(verb, **args)
                        # The deadline of a worker, and what a busy machine adds on the way.
                        assert time.monotonic() - began < 2.0, verb
                        assert not answer["silent"], (verb, answer["silent"])
            finally:
                load.join()
            host.wait_for(3000)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_reload_holds_everywhere_or_nowhere(tmp_path: Path, workers: int) -> None:
    with Stage() as stage:
        first, second = stage.witness(), stage.witness()
        with stage.server(
            tmp_path, default=f'hosts = ["{first.host}"]', server=f"workers = {workers}"
        ) as daemon:
            good = daemon.config.read_text()
            hand_in(daemon, [Letter((f"a{n}@one.example",)) for n in range(20)], connections=10)
            first.wait_for(20)
            daemon.config.write_text(good.replace("[default]", "[default]\nmax_conections = 3"))
            with pytest.raises(Exception, match="max_connections"):
                daemon.ask("reload")
            hand_in(daemon, [Letter((f"b{n}@two.example",)) for n in range(20)], connections=10)
            first.wait_for(40)
            daemon.config.write_text(good.replace(first.host, second.host))
            daemon.ask("reload")
            hand_in(daemon, [Letter((f"c{n}@three.example",)) for n in range(40)], connections=10)
            second.wait_for(40)
            assert len(first.recipients) == 40
