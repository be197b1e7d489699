"""Many jobs, one commit; nobody hears of what is not on disk."""

import asyncio
from collections.abc import Callable

import apsw
import pytest

from licensing.server.commit import MAX_BATCH, MAX_WAITING, Busy, Committer, NotCommitted
from licensing.server.db_open import open_books
from licensing.server.db_sqlite import SqliteStore
from licensing.server.store import Store


class FailingStore(SqliteStore):
    """A store whose commits fail as the test says."""

    error: apsw.Error | None = None

    def commit(self) -> None:
        if self.error is not None:
            raise self.error
        super().commit()


def a_store() -> FailingStore:
    return FailingStore(open_books(":memory:"))


def move(license_id: str) -> Callable[[Store], None]:
    return lambda store: store.put_move(license_id, 5)


def moves(license_id: str) -> Callable[[Store], int]:
    return lambda store: store.moves_since(license_id, 0)


async def test_jobs_that_come_together_share_a_commit() -> None:
    committer = Committer(a_store())
    await asyncio.gather(*(committer.run(move("L1")) for _ in range(20)))
    assert committer.commits <= 2
    assert await committer.run(moves("L1")) == 20
    await committer.close()


async def test_a_job_that_raises_is_undone_alone() -> None:
    def half_done(store: Store) -> None:
        store.put_move("L2", 5)
        raise ValueError("a bug")

    committer = Committer(a_store())
    outcomes = await asyncio.gather(
        committer.run(move("L1")),
        committer.run(half_done),
        committer.run(move("L1")),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [type(None), ValueError, type(None)]
    assert await committer.run(moves("L1")) == 2
    assert await committer.run(moves("L2")) == 0
    await committer.close()


async def test_a_full_disk_fails_the_batch_and_not_the_server() -> None:
    store = a_store()
    committer = Committer(store)
    store.error = apsw.FullError("disk full")
    with pytest.raises(NotCommitted, match="disk full"):
        await committer.run(move("L1"))
    store.error = None
    assert await committer.run(moves("L1")) == 0
    assert not committer.failed.is_set()
    await committer.close()


async def test_after_a_sync_that_failed_nothing_more_is_promised() -> None:
    store = a_store()
    committer = Committer(store)
    store.error = apsw.IOError("fsync")
    with pytest.raises(NotCommitted):
        await committer.run(move("L1"))
    store.error = None
    assert committer.failed.is_set()
    with pytest.raises(Busy):
        await committer.run(move("L1"))
    await committer.close()


async def test_a_full_waiting_line_refuses_and_closing_finishes_what_waits() -> None:
    committer = Committer(a_store())
    tasks = [asyncio.create_task(committer.run(move("L1"))) for _ in range(MAX_WAITING)]
    await asyncio.sleep(0)  # each has come into the line
    assert committer.load > 0.9
    with pytest.raises(Busy):
        await asyncio.gather(*(committer.run(move("L1")) for _ in range(MAX_BATCH + 1)))
    await committer.close()
    assert not [task for task in tasks if task.exception() is not None]
