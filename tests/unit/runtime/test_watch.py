"""A loop that stands still is told of while it does: where every thread is, and which queues have work."""

import asyncio
import time
from typing import cast

import pytest

from mta.model.envelope import QueueKey
from mta.queue.scheduler import Scheduler
from mta.runtime.watch import Watch


class Busy:
    """The one question that the watch asks a scheduler. (Of the compiled one nothing can be inherited here.)"""

    def busiest(self, limit: int) -> list[tuple[QueueKey, int, int, int]]:
        return [(QueueKey("stuck.example", "default"), 7, 2, 1)][:limit]


def stand_still() -> None:
    time.sleep(2.6)


async def test_stacks_and_queues_are_written_once_while_the_loop_stands_still(
    capfd: pytest.CaptureFixture[str],
) -> None:
    scheduler = cast(Scheduler, Busy())
    watch = Watch(asyncio.get_running_loop(), scheduler, watchdog_s=1.0)
    watch.start()
    await asyncio.sleep(0)
    stand_still()
    watch.stop()
    out, err = capfd.readouterr()
    assert "in stand_still" in err, "the stack of the thread that hangs"
    assert out.count("the event loop stands still") + err.count("the event loop stands still") == 1
    assert "stuck.example/default" in out + err or "stuck.example" in out + err


async def test_a_loop_that_turns_is_left_alone(capfd: pytest.CaptureFixture[str]) -> None:
    watch = Watch(asyncio.get_running_loop(), cast(Scheduler, Busy()), watchdog_s=2.0)
    watch.start()
    await asyncio.sleep(2.2)
    watch.stop()
    out, err = capfd.readouterr()
    assert "stands still" not in out + err
