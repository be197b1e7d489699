"""Our own bug while a host speaks: what runs is deferred, told once, and the connection is gone. Nothing bounces or hangs."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import mta
from mta.egress.session import Manners, OutboundSession
from mta.egress.tracer import Tap, Tracer
from mta.egress.transaction import Transaction
from mta.io.deadlines import Deadlines
from mta.model.envelope import Entry, Message, QueueKey
from mta.model.outcome import Deferred, Delivered, Extent, Failed, Outcome
from mta.policy.rules import Tls
from mta.queue.actions import Candidate

KEY = QueueKey("one.example", "a")
READY = b"220 hello\r\n250-mx\r\n250 PIPELINING\r\n"


class Transport:
    """As much of a transport as a session uses."""

    def __init__(self, session: OutboundSession) -> None:
        self.session = session
        self.written = bytearray()
        self.is_open = True

    def get_extra_info(self, name: str) -> Any:
        return ("192.0.2.1", 1) if name == "sockname" else None

    def write(self, data: bytes) -> None:
        self.written += data

    def writelines(self, pieces: list[bytes]) -> None:
        self.written += b"".join(pieces)

    def abort(self) -> None:
        if self.is_open:
            self.is_open = False
            asyncio.get_running_loop().call_soon(self.session.connection_lost, None)


class Faulty(Tap):
    """A tap with a bug, for each direction: it stands for any code that the session calls, compiled or not."""

    __slots__ = ()

    def __init__(self, session: OutboundSession) -> None:
        super().__init__(Tracer(lambda: 0.0), KEY, session)

    def sent(self, data: bytes) -> None:
        raise KeyError("a bug")

    def received(self, data: bytes) -> None:
        raise KeyError("a bug")


class World:
    """The dispatcher's side; `fail_on` says at which outcomes it has a bug."""

    def __init__(
        self, fail_on: Callable[[Entry, Outcome], bool] = lambda entry, outcome: False
    ) -> None:
        self.fail_on = fail_on
        self.outcomes: list[tuple[str, Outcome]] = []
        self.faults: list[Exception] = []
        self.lost: list[Deferred | None] = []
        manners = Manners("mta.example", Tls.NONE, {}, None)
        deadlines = Deadlines(asyncio.get_running_loop())
        host = Candidate("mx.one.example", "192.0.2.7", 25)
        self.session = OutboundSession(1, self, host, manners, deadlines, site="one.example")
        self.transport = Transport(self.session)
        self.session.connection_made(self.transport)

    def session_ready(self, session: OutboundSession) -> None:
        pass

    def session_free(self, session: OutboundSession) -> None:
        pass

    def session_next(self, session: OutboundSession) -> Transaction | None:
        return None

    def session_outcome(self, session: OutboundSession, entry: Entry, outcome: Outcome) -> None:
        if self.fail_on(entry, outcome):
            raise KeyError("a bug")
        self.outcomes.append((entry.address, outcome))

    def session_refused(self, session: OutboundSession, outcome: Deferred | Failed) -> None:
        raise AssertionError(outcome)

    def session_lost(self, session: OutboundSession, why: Deferred | None) -> None:
        self.lost.append(why)

    def session_fault(self, session: OutboundSession, error: Exception) -> None:
        self.faults.append(error)

    def hear(self, data: bytes) -> None:
        self.session.data_received(data)

    def deliver(self, *addresses: str) -> None:
        message = Message(0, 17, "s@x.example", 10, 0.0, "a")
        entries = [Entry(message, KEY, each, number=n) for n, each in enumerate(addresses, 1)]
        self.session.deliver(Transaction(entries, b"", b"A: b\r\n\r\nc\r\n", is_checked=True))


def greeted(world: World) -> World:
    for line in READY.splitlines(keepends=True):
        world.hear(line)
    assert world.session.is_idle
    return world


async def settled(world: World) -> None:
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert world.session.is_lost
    assert len(world.lost) == 1


async def test_a_bug_before_the_message_is_sent_defers_its_recipients_with_the_connection() -> None:
    world = greeted(World())
    world.deliver("x@one.example", "y@one.example")
    world.session.tap = Faulty(world.session)
    world.hear(b"250 ok\r\n")
    await settled(world)
    assert len(world.faults) == 1
    assert [address for address, _ in world.outcomes] == ["x@one.example", "y@one.example"]
    for _, outcome in world.outcomes:
        assert isinstance(outcome, Deferred)
        assert (outcome.reply.code, outcome.extent, outcome.local) == (451, Extent.CONNECTION, True)
        assert not outcome.may_repeat


async def test_a_bug_in_telling_of_a_delivery_defers_the_untold_alone_which_may_repeat() -> None:
    def fail_on(entry: Entry, outcome: Outcome) -> bool:
        return entry.address.startswith("y") and isinstance(outcome, Delivered)

    world = greeted(World(fail_on))
    world.deliver("x@one.example", "y@one.example", "z@one.example")
    world.hear(b"250 ok\r\n" * 4 + b"354 go on\r\n")
    world.hear(b"250 2.0.0 taken\r\n")
    await settled(world)
    assert len(world.faults) == 1
    (first, delivered), *others = world.outcomes
    assert (first, type(delivered)) == ("x@one.example", Delivered)
    assert [address for address, _ in others] == ["y@one.example", "z@one.example"]
    for _, outcome in others:
        assert isinstance(outcome, Deferred)
        assert outcome.may_repeat
        assert (
            outcome.extent is Extent.MESSAGE
        )  # it counts against the message: it cannot come for ever


async def test_a_bug_that_hits_every_word_of_one_recipient_keeps_no_other_and_no_lease() -> None:
    world = greeted(World(lambda entry, outcome: entry.address.startswith("y")))
    world.deliver("x@one.example", "y@one.example", "z@one.example")
    world.hear(b"250 ok\r\n" * 4 + b"354 go on\r\n" + b"250 2.0.0 taken\r\n")
    await settled(world)
    assert [address for address, _ in world.outcomes] == ["x@one.example", "z@one.example"]
    assert len(world.faults) == 2


async def test_a_bug_in_beginning_a_transaction_defers_it() -> None:
    world = greeted(World())
    world.session.tap = Faulty(world.session)
    world.deliver("x@one.example")
    await settled(world)
    ((_, outcome),) = world.outcomes
    assert isinstance(outcome, Deferred)
    assert len(world.faults) == 1


async def test_a_bug_while_the_connection_is_opened_ends_it() -> None:
    world = World()
    world.hear(b"220 hello\r\n")
    world.session.tap = Faulty(world.session)
    world.hear(b"250 mx\r\n")
    await settled(world)
    assert len(world.faults) == 1
    assert world.lost[0] is not None


class Mistaken(str):
    """An address whose text has a bug of ours behind it: a ValueError, which is not the message's fault."""

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        raise ValueError("a bug")


@pytest.mark.skipif(mta.form() == "compiled", reason="compiled code asks no child of str")
async def test_a_value_error_of_ours_while_a_transaction_begins_bounces_nothing() -> None:
    world = greeted(World())
    world.deliver(Mistaken("x@one.example"))
    await settled(world)
    ((_, outcome),) = world.outcomes
    assert isinstance(outcome, Deferred)


@pytest.mark.parametrize("pipelining", [True, False])
async def test_an_address_that_cannot_be_said_fails_alone(pipelining: bool) -> None:
    world = World()
    for line in (
        b"220 hello\r\n",
        b"250-mx\r\n",
        b"250 PIPELINING\r\n" if pipelining else b"250 SIZE\r\n",
    ):
        world.hear(line)
    world.deliver("x@one.example", "y>\r\nRSET@one.example", "z@one.example")
    for _ in range(3):
        world.hear(b"250 ok\r\n")
    world.hear(b"354 go\r\n")
    world.hear(b"250 taken\r\n")
    assert b"RSET" not in world.transport.written
    assert world.transport.written.count(b"RCPT TO:") == 2
    outcomes = dict(world.outcomes)
    assert isinstance(outcomes["x@one.example"], Delivered)
    assert isinstance(outcomes["z@one.example"], Delivered)
    failed = outcomes["y>\r\nRSET@one.example"]
    assert isinstance(failed, Failed)
    assert failed.extent is Extent.RECIPIENT


async def test_a_message_none_of_whose_addresses_can_be_said_is_not_begun() -> None:
    world = greeted(World())
    before = bytes(world.transport.written)
    world.deliver("no address")
    ((_, outcome),) = world.outcomes
    assert isinstance(outcome, Failed)
    assert world.transport.written == before
    await asyncio.sleep(0)
    world.deliver("x@one.example")
    assert b"RCPT TO:<x@one.example>" in world.transport.written
