"""Virtual MTAs on a real server: pools, who may name which, paused, drained and removed ones, and moving their mail."""

import itertools
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mta.control.protocol import ControlError
from tests.support.cli import Cli
from tests.support.host import Host
from tests.support.sender import NO_DNS, Sender, a_sender
from tests.support.wire import Wire, wait_until

A = '\n[vmta.a]\nsource_addresses = ["127.0.0.2"]\n'
VMTAS = (
    A
    + """
[vmta.b]
source_addresses = ["127.0.0.3"]
total_connections = 5
[vmta.c]
[pool.shared]
vmtas = { a = 3, b = 1 }
[pool.byjob]
vmtas = ["a", "b"]
sticky = "job"
[selection]
default = "shared"
senders = { "*@c.example" = "c" }
"""
)
_names = itertools.count()


@pytest.fixture
def host() -> Iterator[Host]:
    with Host() as host:
        yield host


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sender]:
    """One server for the tests that leave it as it was."""
    with a_sender(tmp_path_factory.mktemp("vmtas"), more=NO_DNS + VMTAS) as sender:
        yield sender


@pytest.fixture
def own(tmp_path: Path, host: Host) -> Iterator[Sender]:
    """A server for one test, that delivers all mail to the host."""
    default = f'hosts = ["{host.name}"]\nbackoff_initial = "0.3s"\nidle_timeout = "0.5s"\n'
    with a_sender(tmp_path, default=default, more=NO_DNS + VMTAS) as sender:
        yield sender


def named(vmta: str, job: str = "") -> bytes:
    """A message whose header names a virtual MTA or pool."""
    fields = f"X-Virtual-MTA: {vmta}\r\n" + (f"X-Job: {job}\r\n" if job else "")
    return f"{fields}Subject: x\r\n\r\nbody\r\n".encode()


def address() -> str:
    return f"m{next(_names)}@d.example"


def vmtas_of(sender: Sender, domain: str, count: int) -> Counter[str]:
    found = sender.wait_for_records(domain, "d", count=count)
    return Counter(each["vmta"] for each in found)


def row_of(sender: Sender, name: str) -> dict[str, Any]:
    rows = sender.server.ask("vmtas")["vmtas"]
    (found,) = [row for row in rows if row["vmta"] == name]
    return dict(found)


def test_a_pool_shares_mail_by_weight_from_its_members_addresses(
    shared: Sender, host: Host
) -> None:
    domain = shared.domain(host)
    for _ in range(8):
        shared.send(f"x@{domain}")
    found = shared.wait_for_records(domain, "d", count=8)
    sources = Counter((each["vmta"], each["dlvSourceIp"]) for each in found)
    assert sources == {("a", "127.0.0.2"): 6, ("b", "127.0.0.3"): 2}


def test_a_job_goes_by_one_virtual_mta_of_a_sticky_pool(shared: Sender, host: Host) -> None:
    domain = shared.domain(host)
    for _ in range(6):
        shared.send(f"x@{domain}", message=named("byjob", "march"))
    assert len(vmtas_of(shared, domain, 6)) == 1


def test_header_sender_and_default_choose_and_the_header_is_taken_out(
    shared: Sender, host: Host
) -> None:
    domain = shared.domain(host)
    shared.send(f"h@{domain}", message=named("B"), sender="u@c.example")
    shared.send(f"s@{domain}", sender="u@c.example")
    found = shared.wait_for_records(domain, "d", count=2)
    assert {each["rcpt"][0]: each["vmta"] for each in found} == {"h": "b", "s": "c"}
    assert b"X-Virtual-MTA" not in host.message_to(f"h@{domain}").data


def test_an_unknown_name_is_refused_with_what_is_wrong(shared: Sender, host: Host) -> None:
    with Wire(shared.server.port) as wire:
        wire.greet()
        answer = wire.deliver(named("zzz"), "a@x.example", f"x@{shared.domain(host)}")
    assert answer == "550 5.7.1 Unknown virtual MTA or pool"


def test_a_client_that_names_what_was_just_taken_out_is_asked_to_come_again(own: Sender) -> None:
    with Wire(own.server.port) as wire:
        wire.greet()
        text = own.server.config.read_text()
        own.server.config.write_text(text.replace("[pool.byjob]", "[pool.other]"))
        own.server.ask("reload")
        answer = wire.deliver(named("byjob"), "a@x.example", address())
    assert answer.startswith("451 4.3.5 the virtual MTA or pool was taken out")


def test_a_paused_virtual_mta_leaves_its_pool_and_its_mail_waits_over_a_restart(
    own: Sender, host: Host
) -> None:
    sluice = Cli(own.server)
    assert "a is paused" in sluice.text("vmta", "pause", "a")
    waiting = address()
    own.send(waiting, message=named("a"))
    others = [address() for _ in range(4)]
    for each in others:
        own.send(each, message=named("shared"))
    host.wait_for(4)
    assert vmtas_of(own, "d.example", 4) == {"b": 4}
    wait = own.waits("d.example/a")[0]
    assert wait["what"].startswith("virtual MTA paused (by ")
    assert wait["place"].endswith("sluice.toml [vmta.a]")
    assert sluice.json("status")["workers"][0]["vmtas_out"] == {"a": "virtual MTA paused"}
    assert "out of service" in sluice.text("status")
    assert "paused" in sluice.text("vmtas")
    own.server.stop()
    own.server.start()
    row = row_of(own, "a")
    assert (row["state"], row["recipients"], row["addresses"]) == ("paused", 1, ["127.0.0.2"])
    assert own.server.ask("queues")["queues"][0]["mode"] == "stopped"
    assert own.waits("d.example/a")[0]["what"].startswith("virtual MTA paused")
    assert "a goes on" in sluice.text("vmta", "resume", "a")
    host.wait_for(5)
    assert host.message_to(waiting)
    assert row_of(own, "a")["state"] == "running"


def test_when_all_of_a_pool_are_paused_its_mail_waits_and_none_is_refused(
    own: Sender, host: Host
) -> None:
    for name in "ab":
        own.server.ask("vmta.pause", vmta=name)
    for _ in range(4):
        own.send(address(), message=named("shared"))
    assert [row_of(own, name)["recipients"] for name in "ab"] == [3, 1]
    own.server.ask("vmta.resume", vmta="b")
    host.wait_for(1)
    own.server.ask("vmta.resume", vmta="a")
    host.wait_for(4)
    assert not own.records("d.example", "b")


def test_what_an_operator_paused_expires_on_time_and_what_waits_for_a_lost_virtual_mta_does_not(
    own: Sender,
) -> None:
    own.add('[domain."old.example"]\nexpire_after = "3s"\n')
    for queue in ("old.example/b", "old.example/c"):
        own.server.ask("queue.pause", queue=queue)
    own.server.ask("vmta.pause", vmta="a")
    lost, paused = (own.send(f"{name}@old.example", message=named(name)) for name in "ca")
    own.send("b@old.example", message=named("b"))
    text = own.server.config.read_text().replace("[vmta.c]\n", "").replace("senders =", "#")
    own.server.config.write_text(text)
    own.server.ask("reload")
    own.server.ask("queue.resume", queue="old.example/c")
    said = {wait["what"].partition(" (")[0]: wait for wait in own.waits(str(paused))}
    assert "virtual MTA paused" in said
    expiry = said["it expires on time, paused or not"]
    assert expiry["place"].endswith('[domain."old.example"]')
    assert -3 < expiry["until"] - time.time() < 3
    found = own.wait_for_records("old.example", "b", count=2)
    assert sorted(each["rcpt"][0] for each in found) == ["a", "b"]
    assert {each["removedBy"] for each in found} == {"expired"}
    (of_a,) = (each for each in found if each["rcpt"][0] == "a")
    assert "last: virtual MTA paused" in of_a["dsnDiag"]
    (wait,) = own.waits(str(lost))
    assert wait["what"].startswith("virtual MTA gone")
    assert row_of(own, "c")["recipients"] == 1


def test_a_drained_virtual_mta_leaves_its_pool_and_delivers_what_it_has(
    own: Sender, host: Host
) -> None:
    own.server.ask("queue.pause", queue="d.example/a")
    own.send(address(), message=named("a"))
    assert "a is drained" in Cli(own.server).text("vmta", "drain", "a")
    for _ in range(3):
        own.send(address())
    assert vmtas_of(own, "d.example", 3) == {"b": 3}
    assert row_of(own, "a")["state"] == "drained"
    own.server.ask("queue.resume", queue="d.example/a")
    host.wait_for(4)


def test_mail_of_a_removed_virtual_mta_waits_says_so_and_can_be_moved(
    own: Sender, host: Host
) -> None:
    sluice = Cli(own.server)
    own.server.ask("queue.pause", queue="d.example/a")
    moved, kept = address(), address()
    own.send(moved, message=named("a", "march"))
    own.send(kept, message=named("a"))
    own.server.ask("queue.resume", queue="d.example/b")  # a resume elsewhere changes nothing
    own.server.ask("vmta.pause", vmta="a")
    own.server.ask("queue.resume", queue="d.example/a")
    text = own.server.config.read_text().replace(A, "").replace("a = 3, ", "")
    own.server.config.write_text(text.replace('["a", "b"]', '["b"]'))
    own.server.ask("reload")
    for _ in range(2):  # the same after a restart
        wait = own.waits("d.example/a")[0]
        assert wait["what"].startswith("virtual MTA gone (there is no a in the configuration: rer")
        assert wait["place"].endswith("sluice.toml [vmta.a]")
        assert (row_of(own, "a")["state"], row_of(own, "a")["recipients"]) == ("gone", 2)
        own.server.stop()
        own.server.start()
    order = ("messages", "reroute", "--to", "shared", "--queue", "d.example/a", "--job", "march")
    assert sluice.json(*order, "--dry-run")["would_move"] == 1
    assert "1 recipients moved to shared" in sluice.text(*order)
    assert host.wait_for(1) is None
    assert host.message_to(moved)
    own.server.config.write_text(text + A)
    own.server.ask("reload")
    assert row_of(own, "a")["state"] == "paused"  # as it was
    own.server.ask("vmta.resume", vmta="a")
    host.wait_for(2)
    assert host.message_to(kept)
    assert not own.records("d.example", "b")


def test_names_that_cannot_be_are_answered_with_those_that_can(shared: Sender) -> None:
    for verb, args, text in (
        ("vmta.pause", {"vmta": "shared"}, "shared is a pool"),
        ("vmta.pause", {"vmta": "zz"}, "there is no virtual MTA 'zz'"),
        ("messages.reroute", {"to": "zz", "all": True}, "there is no virtual MTA or pool 'zz'"),
        ("messages.reroute", {"to": "a"}, "that would move all mail"),
        (
            "messages.reroute",
            {"to": "a", "queue": "d.example/b", "vmta": "c"},
            "the queue d.example/b is of another domain or virtual MTA",
        ),
    ):
        with pytest.raises(ControlError, match=text.replace("'", ".")):
            shared.server.ask(verb, **args)


def test_the_limits_of_the_new_virtual_mta_hold_for_what_was_moved(own: Sender, host: Host) -> None:
    own.add("[vmta.b.domain.'d.example']\nmax_connections = 1\n")
    own.server.ask("vmta.pause", vmta="a")
    for _ in range(30):
        own.send(address(), message=named("a"))
    answer = own.server.ask("messages.reroute", to="b", vmta="a")
    assert answer == {"to": "b", "moved": 30, "silent": []}
    host.wait_for(30)
    assert vmtas_of(own, "d.example", 30) == {"b": 30}
    assert len(host.dialogues) == 1


def test_held_mail_is_moved_and_stays_held_and_nothing_is_moved_twice(
    own: Sender, host: Host
) -> None:
    own.server.ask("vmta.pause", vmta="a")
    for _ in range(3):
        own.send(address(), message=named("a"))
    assert own.server.ask("messages.reroute", to="c", sender="a@*")["moved"] == 3
    host.wait_for(3)
    assert own.server.ask("messages.reroute", to="c", all=True)["moved"] == 0


def test_a_pause_holds_in_every_worker_and_in_one_that_is_started_again(
    tmp_path: Path, host: Host
) -> None:
    default = f'hosts = ["{host.name}"]\n'
    with a_sender(tmp_path, default=default, more=NO_DNS + VMTAS, server="workers = 2") as sender:
        server = sender.server
        assert server.ask("vmta.pause", vmta="a") == {"vmta": "a", "state": "paused", "silent": []}
        before = server.ask("status")["processes"]
        for _ in range(8):
            sender.send(address(), message=named("a"))
        os.kill(before["worker 0"], signal.SIGKILL)
        wait_until(
            lambda: (
                server.ask("status")["processes"].get("worker 0", 0) not in (0, before["worker 0"])
            )
        )
        wait_until(lambda: not server.ask("vmtas")["silent"])
        row = row_of(sender, "a")
        assert (row["state"], row["recipients"]) == ("paused", 8)
        assert server.ask("messages.reroute", to="shared", vmta="a", dry_run=True) == {
            "to": "shared",
            "would_move": 8,
            "silent": [],
        }
        assert server.ask("messages.reroute", to="shared", vmta="a")["moved"] == 8
        host.wait_for(8)
        assert vmtas_of(sender, "d.example", 8) == {"b": 8}
