"""A32: two daemons are started on one host. The second is told by whom the place is taken; a dead one leaves it free (C7)."""

import asyncio
import sys
from pathlib import Path

import pytest

from licensing.installation import AlreadyRunning
from tests.support.machine_time import MachineTime
from tests.support.node import a_guard
from tests.support.vendor import Vendor

HOLDER = """
import sys, time
from pathlib import Path
from licensing.installation import Lock
lock = Lock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


async def test_a32_the_second_is_told_the_pid_of_the_first_and_may_start_when_that_is_dead(
    tmp_path: Path,
) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    first = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        HOLDER,
        str(state),
        cwd=Path(__file__).parents[2],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert first.stdout is not None
    await asyncio.wait_for(first.stdout.readline(), 30)
    second = a_guard(tmp_path, Vendor(), MachineTime())
    with pytest.raises(AlreadyRunning) as caught:
        await second.open()
    assert caught.value.pid == first.pid
    assert str(first.pid) in str(caught.value)
    assert not (state / "node.key").exists(), "nothing was touched"
    first.kill()
    await first.wait()
    third = a_guard(tmp_path, Vendor(), MachineTime())
    await third.open()
    await third.stop()
