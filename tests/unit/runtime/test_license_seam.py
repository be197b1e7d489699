"""What an entitlement means at the door, in the greeting, in the reason of a hold, and over the wire to a worker."""

import msgspec
import pytest

from licensing.entitlement import UNLICENSED, Entitlement, Injection, Remark, Stamp, State
from mta.ingress.collect import IntakeMemory
from mta.model.envelope import QueueKey
from mta.policy.book import LICENCE_KEY, UNLIMITED, Book
from mta.policy.rules import Place, ServerRules, VmtaRules
from mta.runtime.house import House
from mta.runtime.license import banner_of, hold_of
from mta.runtime.messages import Entitled, of_supervisor
from mta.spool.words import FreeSpace

KEY = QueueKey("one.example", "default")
PLACE = Place("licence", "3 connections")


class Disk:
    """A file system with this much of 100 bytes left."""

    free = 50

    def free_space(self) -> FreeSpace:
        return FreeSpace(self.free, 100, 50, 100)


def a_house(entitlement: Entitlement) -> tuple[House, Disk]:
    disk = Disk()
    house = House(spool=disk, min_free=0.1, memory=IntakeMemory(1000), records_behind=lambda: False)
    house.look_at_disk()
    house.entitle(entitlement)
    return house, disk


@pytest.mark.parametrize(
    ("injection", "says"),
    [
        (Injection.OPEN, None),
        (Injection.UNTIL_FULL, None),
        (Injection.REFUSED, (451, "4.7.0")),
        (Injection.STANDBY, (421, "4.3.2")),
    ],
)
def test_the_door_answers_as_the_licence_says(
    injection: Injection, says: tuple[int, str] | None
) -> None:
    house, _ = a_house(Entitlement(State.VALID, injection))
    reply = house.refusal()
    assert (None if reply is None else (reply.code, reply.enhanced)) == says


def test_over_its_limit_mail_is_taken_until_the_spool_is_full_and_then_refused_with_452() -> None:
    house, disk = a_house(Entitlement(State.OVER_LIMIT, Injection.UNTIL_FULL, deliver=False))
    assert house.refusal() is None
    disk.free = 5
    house.look_at_disk()
    reply = house.refusal()
    assert reply is not None
    assert (reply.code, reply.enhanced) == (452, "4.3.1")


@pytest.mark.parametrize("state", list(State))
def test_every_hold_says_why_and_what_to_do(state: State) -> None:
    assert hold_of(Entitlement(state)) == ""
    says = hold_of(Entitlement(state, deliver=False, reason="a reason"))
    assert says.startswith("a reason")
    assert hold_of(Entitlement(state, deliver=False))


def test_the_greeting_names_lab_mode_no_licence_and_development() -> None:
    assert banner_of(UNLICENSED, lab=True) == "ESMTP Sluice LAB"
    assert banner_of(UNLICENSED, lab=False) == "ESMTP Sluice UNLICENSED"
    assert banner_of(Entitlement(State.VALID), lab=False) == "ESMTP Sluice"
    stamp = Stamp("X-Sluice-License: development", ())
    assert banner_of(Entitlement(State.VALID, stamp=stamp), lab=False).endswith("DEVELOPMENT")


def test_an_entitlement_reaches_a_worker_as_it_is() -> None:
    sent = Entitlement(
        State.GRACE,
        Injection.UNTIL_FULL,
        deliver=False,
        max_connections=3,
        is_metered=True,
        reason="why",
        until=1.5,
        stamp=Stamp("X: y", ("@example.test",)),
        remarks=(Remark("vol80", "80 %"),),
    )
    taken = of_supervisor.decode(msgspec.msgpack.encode(Entitled(sent)))
    assert taken.entitlement == sent


def a_book(total: int | None = 10) -> Book:
    server = ServerRules("mta.example", "/spool", total_connections=total)
    return Book(server=server, vmtas=[VmtaRules("default")])


def test_every_connection_of_a_licensed_server_holds_the_licence_key_and_shares_it_with_the_unproven() -> (
    None
):
    book = a_book().licensed(3, PLACE)
    assert dict(book.demand(KEY, "one.example", True))[LICENCE_KEY] == 3
    assert dict(book.demand(KEY, "one.example", True))[f"{LICENCE_KEY}|unproven"] == 1
    assert dict(book.demand(KEY, "one.example", False))["server"] == 10, "all limits apply"
    assert book.limit_places(KEY, "one.example")[LICENCE_KEY] is PLACE


def test_without_a_limit_connections_are_counted_all_the_same_and_in_lab_mode_not() -> None:
    demand = dict(a_book().licensed(None, PLACE).demand(KEY, "one.example", True))
    assert demand[LICENCE_KEY] == UNLIMITED
    assert f"{LICENCE_KEY}|unproven" not in demand
    assert LICENCE_KEY not in dict(a_book().demand(KEY, "one.example", True))
