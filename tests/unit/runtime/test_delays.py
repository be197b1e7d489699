"""The look for mail that waits for long: each recipient is found once, when its time has come, over any restart."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mta.model.envelope import Draft, Entry, Message, QueueKey
from mta.policy.book import Book
from mta.policy.notices import NoticeBook
from mta.policy.rules import BUILT_IN, ServerRules, VmtaRules
from mta.runtime import delays
from mta.runtime.delays import SPAN_S, DelaySweep
from mta.spool.store import Spool, open_spool
from tests.support.spools import BOOT, FakeClock

KEY = QueueKey("example.net", "default")
AFTER = 100.0


class Stage:
    """One spool, its clock, and a sweep that a test may start anew."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.clock = FakeClock()
        self.rules: dict[str, Any] = {"notices": "send", "delay_notice_after": AFTER}
        self.told = 0
        self.open()

    def open(self) -> None:
        self.spool: Spool = open_spool(
            self.place,
            clock=self.clock,
            post=asyncio.get_running_loop().call_soon_threadsafe,
            on_broken=lambda error: None,
            on_report=lambda text: None,
            boot=BOOT,
        )
        self.start()

    def start(self) -> None:
        server = ServerRules("mta.example.com", "spool", **self.rules)
        book = Book(server=server, server_place=BUILT_IN, vmtas=[VmtaRules("default")])
        self.sweep = DelaySweep(
            self.spool,
            clock=self.clock,
            book=lambda: book,
            notice_book=lambda: NoticeBook(server),
            site_of=lambda domain: domain,
            on_owed=self.note,
        )

    def note(self) -> None:
        self.told += 1

    async def accept(self, *notify: str, release_in: float = 0.0) -> Message:
        """A message with a recipient for each of these wishes."""
        now = self.clock.now()
        message = Message(0, 0, "me@example.com", 10, now, "default")
        message.release_at = now + release_in if release_in else 0.0
        entries = [
            Entry(message, KEY, f"r{n}@example.net", notify=each, due=now)
            for n, each in enumerate(notify)
        ]
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.spool.accept(Draft(message, entries, b"", b"Subject: a\r\n\r\nb\r\n"), done.set_result)
        assert await done is None
        return message

    async def owed(self) -> list[str]:
        """The recipients that are owed a notice, by message."""
        numbers, _ = await asyncio.wrap_future(self.spool.owed_notices(1e12, 100))
        found = [
            await asyncio.wrap_future(self.spool.owed_notice(number, 10_000, 100))
            for number in numbers
        ]
        return [
            f"{each.attempt.message}:{each.attempt.recipient[:2]}"
            for owed in found
            if owed is not None
            for each in owed.told
        ]

    async def pass_on(self, seconds: float) -> int:
        self.clock.time += seconds
        return await self.sweep.look()


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    await stage.spool.close()


async def test_what_waits_is_told_of_once_when_its_time_has_come(stage: Stage) -> None:
    first = await stage.accept("", "DELAY", "FAILURE", "NEVER")
    assert await stage.pass_on(AFTER - 1) == 0
    second = await stage.accept("")
    assert await stage.pass_on(61) == 2
    assert stage.told == 1
    assert await stage.owed() == [f"{first.number}:r0", f"{first.number}:r1"]
    assert await stage.pass_on(61) == 1
    assert (await stage.owed())[2:] == [f"{second.number}:r0"]
    assert await stage.pass_on(10 * AFTER) == 0


async def test_a_restart_tells_nobody_again(stage: Stage) -> None:
    await stage.accept("")
    assert await stage.pass_on(AFTER) == 1
    await stage.spool.close()
    stage.open()
    assert await stage.pass_on(AFTER) == 0


async def test_without_a_time_of_their_own_only_those_hear_who_ask(stage: Stage) -> None:
    stage.rules["delay_notice_after"] = 0.0
    stage.start()
    await stage.accept("", "DELAY")
    assert await stage.pass_on(14_399) == 0
    assert await stage.pass_on(61) == 1
    assert [each[-2:] for each in await stage.owed()] == ["r1"]


async def test_where_nobody_is_told_nothing_is_looked_at(stage: Stage) -> None:
    stage.rules["notices"] = "never"
    stage.start()
    await stage.accept("DELAY")
    assert await stage.pass_on(1e6) == 0
    assert stage.spool.seen.entry == 0


async def test_a_time_of_delivery_counts_from_then_over_a_restart(stage: Stage) -> None:
    at_once = await stage.accept("")
    scheduled = await stage.accept("", release_in=5000.0)
    between = await stage.accept("")
    assert await stage.pass_on(AFTER) == 2
    assert {each.split(":")[0] for each in await stage.owed()} == {
        str(at_once.number),
        str(between.number),
    }
    await stage.spool.close()
    stage.open()
    assert await stage.pass_on(4999.0) == 0
    assert await stage.pass_on(AFTER + SPAN_S) == 1
    assert f"{scheduled.number}:r0" in await stage.owed()
    assert stage.spool.seen.later == {}
    assert await stage.pass_on(AFTER + SPAN_S) == 0


async def test_many_are_looked_at_in_pieces_each_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delays, "CHUNK", 3)
    for _ in range(4):
        await stage.accept("", "")
        await stage.accept("", release_in=1000.0)
    assert await stage.pass_on(AFTER) == 8
    assert await stage.pass_on(1000.0 + SPAN_S) == 4
    assert len(set(await stage.owed())) == 12


async def test_a_delay_says_why_and_until_when(stage: Stage) -> None:
    message = await stage.accept("")
    await stage.pass_on(AFTER)
    owed = await asyncio.wrap_future(stage.spool.owed_notice(message.number, 10, 100))
    assert owed is not None
    (told,) = owed.told
    assert told.attempt.text == "not delivered for 1m40s"
    assert told.until == message.received_at + 388_800.0  # `expire_after`
