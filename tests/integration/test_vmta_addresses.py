"""A source address that goes from the machine and comes back, in a network of the test's own."""

import subprocess
from pathlib import Path

from tests.support.host import Host
from tests.support.own_network import in_a_network_of_its_own
from tests.support.sender import NO_DNS, a_sender
from tests.support.wire import wait_until

VMTAS = """
[vmta.six]
source_addresses = ["::1"]
[vmta.four]
source_addresses = ["127.0.0.2"]
[pool.both]
vmtas = { six = 1, four = 1 }
[selection]
default = "both"
[domain."six.example"]
hosts = ["[::1]:HOST6"]
"""
SIX = b"X-Virtual-MTA: six\r\nSubject: x\r\n\r\nbody\r\n"


def address(verb: str) -> None:
    subprocess.run(["ip", "-6", "addr", verb, "::1/128", "dev", "lo"], check=True, timeout=10)


def test_a_virtual_mta_without_its_address_leaves_its_pool_and_comes_back(tmp_path: Path) -> None:
    in_a_network_of_its_own(lambda: lose_and_find_an_address(tmp_path))


def lose_and_find_an_address(place: Path) -> None:
    with Host() as host, Host(address="::1") as host6:
        more = NO_DNS + VMTAS.replace("HOST6", str(host6.port))
        default = f'hosts = ["{host.name}"]\n'
        with a_sender(place, default=default, more=more) as sender:
            sender.send("x@six.example", message=SIX)
            host6.wait_for(1)
            address("del")
            wait_until(lambda: "a virtual MTA is out of service" in sender.server.log)
            for _ in range(4):
                sender.send("x@four.example")
            host.wait_for(4)  # without a try from the other: none waits for a backoff
            sender.send("y@six.example", message=SIX)
            wait = sender.waits("six.example/six")[0]
            assert wait["what"].startswith("virtual MTA without its source address (this machine")
            assert wait["place"].endswith("[vmta.six]")
            assert sender.server.ask("queues")["queues"][0]["next_at"] == 0  # nothing failed
            address("add")
            host6.wait_for(2)
            assert "a virtual MTA is in service again" in sender.server.log
