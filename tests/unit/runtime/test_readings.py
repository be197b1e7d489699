"""The numbers of a real worker: all that the catalogue names, plain data, and the spool is not counted without end."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from mta.config.load import load
from mta.io.clock import Clock
from mta.metrics.catalogue import WORKER_METRICS
from mta.metrics.render import render
from mta.runtime.front import WorkerFront
from mta.runtime.governor import Governor
from mta.runtime.worker import Worker

CONFIG = """
[server]
hostname = "mta.test.example"
spool_dir = "spool"
lab = true
min_free = "1M"
[dns]
servers = ["127.0.0.1:9"]
"""


@asynccontextmanager
async def a_worker(place: Path) -> AsyncIterator[Worker]:
    (place / "sluice.toml").write_text(CONFIG)
    loop, clock = asyncio.get_running_loop(), Clock()
    governor = Governor(
        clock=clock,
        post=loop.call_soon,
        call_at=lambda at, work: loop.call_at(clock.to_loop_time(at), work),
    )
    worker = Worker(load(place / "sluice.toml"), number=2, governor=governor, clock=clock)
    worker.start()
    try:
        yield worker
    finally:
        await worker.stop(1.0)
        await worker.close_spools()


async def test_a_worker_has_every_number_of_the_catalogue_and_nothing_else(tmp_path: Path) -> None:
    async with a_worker(tmp_path) as worker:
        worker.counts.bounces_by_category["bad-mailbox"] = 2
        told = await WorkerFront(worker).metrics()
        assert set(told) == {each.name for each in WORKER_METRICS}
        assert [name for name, value in told.items() if value is None] == []
        assert json.loads(json.dumps(told)) == told
        assert told["memory_bytes"] > 10_000_000
        assert told["intake_open"] == 1
        assert told["queued_recipients"] == 0
        page = render({}, {worker.number: told}).decode()
        assert 'sluice_bounces_by_category_total{category="bad-mailbox",worker="2"} 2.0' in page
        # A snapshot stays what it was.
        worker.counts.bounces_by_category["bad-mailbox"] = 3
        assert told["bounces_by_category"] == {"bad-mailbox": 2}
