"""A28: kill -9 and torn writes at every step. The count is what stands in the journal, and no report number comes twice."""

import asyncio
import random
import shutil
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from licensing.books import AckedFigures, Books, Times
from licensing.chain import genesis
from licensing.ledger import Ledger
from licensing.meter import Delivered, Meter
from licensing.model.license import Kind
from tests.support.counting_node import Journal, a_counting_guard, catch_up
from tests.support.licence_server import LicenceServer
from tests.support.machine_time import MOMENT
from tests.support.node import EARLY
from tests.support.vendor import Vendor

KILLS = 4
START = genesis("A", "key", "first start")
TIMES = Times(MOMENT, 0.0, MOMENT)


async def _run_and_kill(folder: Path, server: LicenceServer, chance: random.Random) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.counting_node",
        str(folder),
        server.url,
        "100000",
        cwd=Path(__file__).parents[2],
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    for _ in range(chance.randint(2, 12)):
        assert await asyncio.wait_for(process.stdout.readline(), 30)
    # Anywhere within the next batch or report.
    await asyncio.sleep(chance.random() * 0.02)
    process.kill()
    await process.stdout.read()
    await process.wait()


async def _count_after_kills(folder: Path, kills: int) -> None:
    vendor, chance = Vendor(), random.Random(28)
    (folder / "root.json").write_bytes(vendor.root_bytes)
    async with LicenceServer(vendor, quota=10**9, block=100_000) as server:
        server.now = lambda: MOMENT + time.monotonic()
        first = a_counting_guard(folder, server.url)
        await first.open()
        await first.install(vendor.file(Kind.VOLUME, **EARLY))
        await first.activate()
        await first.stop()
        for _ in range(kills):
            await _run_and_kill(folder, server, chance)
        journal = Journal(folder / "journal.db")
        guard = a_counting_guard(folder, server.url)
        await guard.open()
        await catch_up(guard, journal)
        assert (await guard.usage())["counted"] == journal.end() > 0
        assert (await guard.report_now())["outcome"] == "acknowledged"
        assert server.total == journal.end()
        # Every report that was counted has a number of its own, rising, in one epoch: nothing was refused.
        numbers = [report.seq for report in server.reports]
        assert numbers == sorted(set(numbers))
        assert {report.epoch for report in server.reports} == {1}
        assert guard._home is not None
        assert await guard._home.thread.run(guard._home.ledger.verify) is None
        await guard.stop()
        journal.close()


async def test_a28_killed_at_any_moment_the_count_is_that_of_the_journal(tmp_path: Path) -> None:
    await _count_after_kills(tmp_path, KILLS)


@pytest.mark.soak
async def test_a28_a_hundred_kills(tmp_path: Path) -> None:
    await _count_after_kills(tmp_path, 100)


def test_a28_a_log_torn_at_any_place_leaves_a_count_with_its_cursor(tmp_path: Path) -> None:
    whole = Ledger(tmp_path / "ledger.db", genesis_hash=START)
    books = Books()
    for step in range(1, 9):
        books.cum = books.cursors["spool"] = step * 10
        books.days["2026-11-18"] = step * 10
        books.seq = step
        if step % 3:
            whole.save(books)
        else:
            whole.record(books, "minute", TIMES)
    log = tmp_path / "ledger.db-wal"
    size = log.stat().st_size
    found = []
    for cut in [*range(0, size, size // 60), size]:
        folder = tmp_path / f"cut-{cut}"
        folder.mkdir()
        shutil.copy(tmp_path / "ledger.db", folder)
        (folder / "ledger.db-wal").write_bytes(log.read_bytes()[:cut])
        torn = Ledger(folder / "ledger.db", genesis_hash=START)
        kept = torn.books()
        assert kept.cum == kept.cursors.get("spool", 0) == kept.seq * 10
        assert torn.verify() is None
        found.append(kept.cum)
        torn.close()
    whole.close()
    assert found == sorted(found) and found[0] == 0 and found[-1] == 80


def test_a28_a_log_with_a_rotten_byte_at_any_place_is_cut_there(tmp_path: Path) -> None:
    whole = Ledger(tmp_path / "ledger.db", genesis_hash=START)
    books = Books()
    for step in range(1, 6):
        books.cum = books.cursors["spool"] = step * 10
        whole.save(books)
    data = (tmp_path / "ledger.db-wal").read_bytes()
    for place in range(0, len(data), len(data) // 40):
        folder = tmp_path / f"rot-{place}"
        folder.mkdir()
        shutil.copy(tmp_path / "ledger.db", folder)
        rotten = bytearray(data)
        rotten[place] ^= 0xFF
        (folder / "ledger.db-wal").write_bytes(rotten)
        torn = Ledger(folder / "ledger.db", genesis_hash=START)
        kept = torn.books()
        assert kept.cum == kept.cursors.get("spool", 0)
        torn.close()
    whole.close()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("deliver"), st.integers(1, 20)),
        st.tuples(st.just("fold"), st.integers(0, 0)),
        st.tuples(st.just("flush"), st.integers(0, 0)),
        st.tuples(st.just("report"), st.integers(0, 0)),
        st.tuples(st.just("kill"), st.integers(0, 0)),
    ),
    max_size=25,
)


@settings(max_examples=25)
@given(steps=STEPS)
async def test_a28_any_order_of_deliveries_commits_and_kills_gives_the_exact_count(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    path = tmp_path_factory.mktemp("node") / "ledger.db"
    journal, numbers = 0, []

    def start() -> tuple[Ledger, Books, Meter]:
        ledger = Ledger(path, genesis_hash=START)
        books = ledger.books()

        async def store(copy: Books) -> None:
            ledger.save(copy)

        return ledger, books, Meter(books, store, now=lambda: MOMENT, flush_every=0)

    ledger, books, meter = start()

    def told() -> list[Delivered]:
        since = books.cursors.get("spool", 0)
        return [Delivered("spool", since, journal, journal - since)]

    for step, emails in steps:
        if step == "deliver":
            journal += emails
        elif step == "fold":
            meter.fold(told())
        elif step == "flush":
            await meter.delivered(told())
        elif step == "report" and ledger.outgoing() is None:
            books.seq += 1
            out = ledger.put_report(books.copy(), TIMES, lambda head: (b"report", head))
            numbers.append(out.seq)
        elif step == "kill":
            ledger.close()  # nothing is said, nothing saved: memory is gone
            ledger, books, meter = start()
            if (waiting := ledger.outgoing()) is not None:
                books.acked = AckedFigures(seq=waiting.seq, head=waiting.sha256)
                ledger.settle(books, b"ack")
    ledger.close()
    ledger, books, meter = start()
    await meter.delivered(told())
    assert ledger.books().cum == journal == sum(ledger.books().days.values())
    assert numbers == sorted(set(numbers))
    assert ledger.verify() is None
    ledger.close()
