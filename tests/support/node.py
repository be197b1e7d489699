"""A guard on a machine of its own: clocks that a test turns, a vendor it trusts, files in a directory of the test."""

import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from licensing.fingerprint import Machine
from licensing.guard import Guard, GuardOptions, Surroundings
from tests.support.machine_time import MachineTime
from tests.support.vendor import Vendor

# Of a licence that is in force at `MachineTime`'s moment.
EARLY = {
    "not_before": datetime(2026, 11, 1, tzinfo=UTC),
    "issued_at": datetime(2026, 10, 1, tzinfo=UTC),
}
MACHINE = Machine("vm", {"machine_id": "aa", "product_uuid": "bb", "rootfs_uuid": "cc"})


def a_guard(
    folder: Path,
    vendor: Vendor,
    time: MachineTime,
    *,
    endpoint: str | None = None,
    machine: Machine = MACHINE,
    persists: Callable[[Path], bool] = lambda folder: True,
    **options: object,
) -> Guard:
    """Not started. Its licences lie in `folder`/license.d, its state in `folder`/state."""
    return Guard(
        GuardOptions(
            license_dir=folder / "license.d",
            state_dir=folder / "state",
            endpoint=endpoint,
            **options,  # type: ignore[arg-type]
        ),
        Surroundings(
            read_clocks=time.read,
            elapsed=lambda: time.true,
            chance=random.Random(7),
            trust=vendor.trust,
            machine=machine,
            persists=persists,
            flush_every=0,
        ),
    )


async def passes(guard: Guard, time: MachineTime, seconds: float, *, talk: bool = True) -> None:
    """So much time goes by; the guard looks at the end of it, and talks if something is due."""
    time.passes(seconds)
    await guard.tick()
    if talk:
        await guard.talk()
        await guard.tick()
