"""The meter: an event counts once, and is on disk when the call returns."""

import asyncio

import pytest

from licensing.books import Books
from licensing.errors import LicenseError
from licensing.ledger_file import LedgerError
from licensing.meter import FLUSH_AT, Delivered, Meter

MOMENT = 1_795_000_000.0  # 2026-11-18 10:26:40 UTC


class Disk:
    """Keeps copies of books; may be full, may be slow."""

    def __init__(self) -> None:
        self.stored: list[Books] = []
        self.is_full = False
        self.door = asyncio.Event()
        self.door.set()

    async def store(self, books: Books) -> None:
        await self.door.wait()
        if self.is_full:
            raise LedgerError("no space left")
        self.stored.append(books)


def a_meter(books: Books, disk: Disk, now: float = MOMENT) -> Meter:
    return Meter(books, disk.store, now=lambda: now, flush_every=0)


async def test_emails_are_counted_by_utc_day_and_stored_with_their_cursor() -> None:
    books, disk = Books(), Disk()
    await a_meter(books, disk).delivered([Delivered("a", 0, 10, 4), Delivered("b", 0, 7, 2)])
    (stored,) = disk.stored
    assert stored.cum == 6
    assert stored.days == {"2026-11-18": 6}
    assert stored.cursors == {"a": 10, "b": 7}


async def test_the_same_told_twice_counts_once() -> None:
    books, disk = Books(), Disk()
    meter = a_meter(books, disk)
    for _ in range(3):
        await meter.delivered([Delivered("a", 0, 10, 4)])
    await meter.delivered([Delivered("a", 0, 9, 3)])
    assert books.cum == 4


async def test_a_day_ends_at_midnight_utc() -> None:
    books, disk = Books(), Disk()
    midnight = 1_795_046_400.0
    a_meter(books, disk, midnight - 1).fold([Delivered("a", 0, 1, 1)])
    a_meter(books, disk, midnight).fold([Delivered("a", 1, 2, 1)])
    assert books.days == {"2026-11-18": 1, "2026-11-19": 1}


async def test_only_the_last_days_are_kept_in_memory_and_the_sum_is_of_all() -> None:
    books, disk = Books(), Disk()
    for day in range(500):
        a_meter(books, disk, MOMENT + day * 86_400).fold([Delivered("a", day, day + 1, 1)])
    assert len(books.days) == 62 and books.cum == 500


async def test_a_range_counted_in_part_is_refused_with_the_place_to_go_on_from() -> None:
    books, disk = Books(), Disk()
    meter = a_meter(books, disk)
    await meter.delivered([Delivered("a", 0, 10, 4)])
    with pytest.raises(LicenseError, match="up to 10 are counted") as caught:
        await meter.delivered([Delivered("a", 5, 20, 9)])
    assert caught.value.code == "overlap"
    assert books.cum == 4


async def test_events_that_were_gone_before_the_follower_came_are_told() -> None:
    books, disk = Books(cursors={"a": 10}), Disk()
    gaps: list[tuple[str, int, int]] = []
    meter = Meter(
        books, disk.store, now=lambda: MOMENT, gap=lambda *gap: gaps.append(gap), flush_every=0
    )
    await meter.delivered([Delivered("a", 15, 20, 1)])
    await meter.delivered([Delivered("a", 20, 30, 1)])
    assert gaps == [("a", 10, 15)]
    assert books.cum == 2


async def test_many_calls_share_a_commit() -> None:
    books, disk = Books(), Disk()
    disk.door.clear()
    meter = a_meter(books, disk)
    calls = [asyncio.create_task(meter.delivered([Delivered("a", n, n + 1, 1)])) for n in range(50)]
    for _ in range(5):
        await asyncio.sleep(0)
    disk.door.set()
    await asyncio.gather(*calls)
    assert disk.stored[-1].cum == 50
    assert len(disk.stored) <= 2


async def test_a_call_during_a_commit_waits_for_the_next_one() -> None:
    books, disk = Books(), Disk()
    meter = a_meter(books, disk)
    disk.door.clear()
    first = asyncio.create_task(meter.delivered([Delivered("a", 0, 1, 1)]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    second = asyncio.create_task(meter.delivered([Delivered("a", 1, 2, 1)]))
    await asyncio.sleep(0)
    disk.door.set()
    await second
    assert first.done() and [books.cum for books in disk.stored] == [1, 2]


async def test_a_full_disk_is_told_to_the_caller_and_the_same_counts_once_afterwards() -> None:
    books, disk = Books(), Disk()
    meter = a_meter(books, disk)
    disk.is_full = True
    for _ in range(2):
        with pytest.raises(LedgerError):
            await meter.delivered([Delivered("a", 0, 10, 4)])
    assert books.cum == 4 and meter.failing_since == MOMENT
    disk.is_full = False
    await meter.delivered([Delivered("a", 0, 10, 4)])
    assert disk.stored[-1].cum == 4 and meter.failing_since is None


async def test_ten_thousand_emails_do_not_wait_for_the_pace() -> None:
    books, disk = Books(), Disk()
    meter = Meter(books, disk.store, now=lambda: MOMENT, flush_every=3_600)
    await meter.delivered([Delivered("a", 0, 1, 1)])
    slow = asyncio.create_task(meter.delivered([Delivered("a", 1, 2, 1)]))
    await asyncio.sleep(0)
    await asyncio.wait_for(meter.delivered([Delivered("a", 2, 9, FLUSH_AT)]), 5)
    await slow
    assert disk.stored[-1].cum == FLUSH_AT + 2
