"""Limits, as the hosts see them: connections counted from accept to close, arrivals by the clock.

Every limit is kept at every moment, whatever shares it, and used in full while mail waits: a limit that is kept by doing nothing
is kept by no one.
"""

from collections import Counter
from itertools import pairwise
from pathlib import Path

from mta.lab.tempers import Temper
from tests.scenario.stage import Stage, Witness, hand_in, letters, one_letter, require_rate

EACH = 30  # messages of a queue
SLOW = Temper(delay_s=0.02)


def busiest(witness: Witness) -> int:
    """The most messages over one connection."""
    return max(Counter(each.connection for each in witness.arrivals).values())


def test_connections_never_exceed_the_limit_of_site_virtual_mta_and_server(tmp_path: Path) -> None:
    more = """
[vmta.a]
source_addresses = ["127.0.0.2"]
total_connections = 5
[vmta.b]
source_addresses = ["127.0.0.3"]
[site.big]
domains = ["b1.example", "b2.example"]
max_connections = 2
hosts = ["{big}"]
"""
    with Stage() as stage:
        big, other = stage.witness(SLOW), stage.witness(SLOW)
        with stage.server(
            tmp_path,
            default=f'hosts = ["{other.host}"]\nmax_recipients_per_message = 1',
            server="total_connections = 8",
            listener='vmta = "a"',
            more=more.format(big=big.host),
        ) as daemon:
            domains = ("b1.example", "b2.example", "c.example", "d.example", "e.example")
            for vmta in ("a", "b"):
                for domain in domains:
                    hand_in(daemon, one_letter(EACH, domain, vmta=vmta))
            big.wait_for(2 * 2 * EACH)
            other.wait_for(2 * 3 * EACH)
            assert stage.crowd.peak == 8
            assert dict(big.peak_of) == {"127.0.0.2": 2, "127.0.0.3": 2}
            assert big.peak_of["127.0.0.2"] + other.peak_of["127.0.0.2"] >= 5
            assert other.peak_of["127.0.0.2"] <= 5
            assert other.peak_of["127.0.0.3"] <= 8


def test_a_virtual_mta_has_its_own_total(tmp_path: Path) -> None:
    more = '[vmta.a]\nsource_addresses = ["127.0.0.2"]\ntotal_connections = 3\n[vmta.b]\nsource_addresses = ["127.0.0.3"]'
    with Stage() as stage:
        host = stage.witness(SLOW)
        with stage.server(
            tmp_path,
            default=f'hosts = ["{host.host}"]\nmax_recipients_per_message = 1\nmax_connections = 4',
            listener='vmta = "a"',
            more=more,
        ) as daemon:
            for vmta in ("a", "b"):
                for n in range(3):
                    hand_in(daemon, one_letter(EACH, f"d{n}.example", vmta=vmta))
            host.wait_for(2 * 3 * EACH)
            assert host.peak_of["127.0.0.2"] == 3
            assert 3 < host.peak_of["127.0.0.3"] <= 12


def test_rates_hold_in_every_window_and_there_is_no_opening_burst(tmp_path: Path) -> None:
    with Stage() as stage:
        messages, connections, shape = stage.witness(), stage.witness(), stage.witness(SLOW)
        more = f"""
[site.rated]
domains = ["r1.example", "r2.example"]
message_rate = "40/s"
hosts = ["{messages.host}"]
[domain."often.example"]
connection_rate = "10/s"
max_messages_per_connection = 1
hosts = ["{connections.host}"]
[domain."shape.example"]
max_messages_per_connection = 7
max_recipients_per_message = 5
hosts = ["{shape.host}"]
"""
        with stage.server(tmp_path, default="", more=more) as daemon:
            hand_in(daemon, letters(40, "often.example"))
            hand_in(daemon, [*letters(80, "r1.example"), *letters(80, "r2.example")])
            for n in range(30):
                hand_in(daemon, one_letter(23, "shape.example", first=23 * n))
            messages.wait_for(160)
            connections.wait_for(40)
            shape.wait_for(30 * 23)
            daemon.wait_for(delivered=200 + 30 * 23)
            require_rate([each.at for each in messages.arrivals], 40.0)
            require_rate(connections.opened, 10.0)
            assert busiest(connections) == 1
            assert len(connections.opened) == 40
            assert {len(each.recipients) for each in shape.arrivals} == {5, 3}
            assert busiest(shape) == 7
            assert all(after >= before for before, after in pairwise(messages.opened))
            records = daemon.records()
            assert {record["type"] for record in records} == {"d"}
