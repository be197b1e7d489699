"""A real Sluice whose licence a test writes: `python -m tests.support.licensed run --config FILE`, and the test's side of it.

`FileGuard` keeps the contract of `mta.runtime.license.Guard` with two files beside the configuration: what is allowed is read
from `licence.json` whenever it changes, what was counted is written to `counted.json`, durably and together with the cursors, as
a ledger would. Faults are asked for by the name of the call that is to fail. Only the judging of a licence is not here.
"""

import asyncio
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from mta.config.load import Settings
from mta.io.files import write_atomically
from mta.runtime.license import UNLICENSED, Delivered, Entitlement, State
from mta.runtime.supervisor import run
from tests.support.daemon import Daemon, serving

LOOK_S = 0.02
ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "tests.support.licensed")


class Licence(msgspec.Struct):
    """What the test says: what is allowed, how many Emails there are in all (None: any), which calls fail."""

    entitlement: Entitlement = UNLICENSED
    emails: int | None = None
    fails: tuple[str, ...] = ()


class Counted(msgspec.Struct):
    """What the guard has counted, and up to which events; the most connections it was told of."""

    emails: int = 0
    cursors: dict[str, int] = {}
    told: int = 0  # calls of `delivered`
    peak: int = 0


class FileGuard:
    """A `Guard` ruled by files."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._licence = Licence()
        self._counted = _read(place / "counted.json", Counted)
        self._taken = self._counted.emails
        self._told: Callable[[Entitlement], None] = lambda _: None
        self._task: asyncio.Task[None] | None = None

    @property
    def entitlement(self) -> Entitlement:
        return self._licence.entitlement

    def subscribe(self, told: Callable[[Entitlement], None]) -> None:
        self._told = told

    async def start(self) -> None:
        self._licence = _read(self._place / "licence.json", Licence)
        self._task = asyncio.get_running_loop().create_task(self._watch())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def take(self, count: int) -> int:
        self._fail("take")
        if self._licence.emails is None:
            return count
        given = max(0, min(count, self._licence.emails - self._taken))
        self._taken += given
        return given

    def refund(self, count: int) -> None:
        self._fail("refund")
        self._taken -= count

    async def cursors(self) -> dict[str, int]:
        self._fail("cursors")
        return dict(self._counted.cursors)

    async def delivered(self, counts: Sequence[Delivered]) -> None:
        self._fail("delivered")
        counted = self._counted
        cursors = dict(counted.cursors)
        emails = counted.emails
        for each in counts:
            known = cursors.get(each.spool, 0)
            if each.since != known or each.upto <= known:
                raise OSError(f"counted to {known}, told of {each.since} to {each.upto}")
            cursors[each.spool] = each.upto
            emails += each.emails
        self._keep(Counted(emails, cursors, counted.told + 1, counted.peak))

    def spools(self, present: Iterable[str]) -> None:
        self._fail("spools")

    def connections(self, in_use: int, peak: int) -> None:
        self._fail("connections")
        if peak > self._counted.peak:
            self._counted.peak = peak
            self._keep(self._counted)

    async def status(self) -> dict[str, Any]:
        self._fail("status")
        left = None if self._licence.emails is None else self._licence.emails - self._taken
        kind = "volume" if self._licence.entitlement.is_metered else "enterprise_server"
        return {"licenses": [{"kind": kind}], "volume": {"left": left}}

    def _fail(self, call: str) -> None:
        if call in self._licence.fails:
            raise RuntimeError(f"a fault was asked for in {call}")

    def _keep(self, counted: Counted) -> None:
        write_atomically(self._place / "counted.json", msgspec.json.encode(counted))
        self._counted = counted
        # What a life before this one had taken, and is counted only now.
        self._taken = max(self._taken, counted.emails)

    async def _watch(self) -> None:
        seen = b""
        while True:
            data = (self._place / "licence.json").read_bytes()
            if data != seen:
                seen, before = data, self._licence
                self._licence = msgspec.json.decode(data, type=Licence)
                if self._licence.entitlement != before.entitlement:
                    self._told(self._licence.entitlement)
            await asyncio.sleep(LOOK_S)


def _read(path: Path, kind: type[Any]) -> Any:
    return msgspec.json.decode(path.read_bytes(), type=kind) if path.exists() else kind()


class Licensed:
    """The test's side: writes the licence, reads what was counted."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.licence = Licence()

    def allow(self, entitlement: Entitlement, **more: Any) -> None:
        """From now on this; read within a few hundredths of a second."""
        self.licence = Licence(entitlement, **more)
        write_atomically(self.place / "licence.json", msgspec.json.encode(self.licence))

    @property
    def counted(self) -> Counted:
        """What is counted, on disk."""
        found: Counted = _read(self.place / "counted.json", Counted)
        return found


def an_entitlement(state: State = State.VALID, **more: Any) -> Entitlement:
    """A good licence, but for what is said."""
    return Entitlement(state, **more)


def licensed_daemon(place: Path, **settings: Any) -> Daemon:
    """A server that is not in lab mode, under the licence that stands in `place`; not started."""
    environment = {"PYTHONPATH": str(ROOT)}
    return Daemon(place, lab=False, command=COMMAND, environment=environment, **settings)


@contextmanager
def licensed(
    place: Path, entitlement: Entitlement, *, faults_meant: bool = False, **settings: Any
) -> Iterator[tuple[Daemon, Licensed]]:
    """A started server under this licence. It had no fault of its own and is stopped at the end, whatever happens."""
    guard = Licensed(place)
    asked = {name: settings.pop(name) for name in ("emails", "fails") if name in settings}
    guard.allow(entitlement, **asked)
    with serving(licensed_daemon(place, **settings), faults_meant=faults_meant) as daemon:
        yield daemon, guard


def main() -> int:
    """What the command does: `run --config FILE`."""
    config = Path(sys.argv[sys.argv.index("--config") + 1])

    def open_guard(settings: Settings, _send_mail: object) -> FileGuard:
        return FileGuard(Path(settings.file).parent)

    return run(config, open_guard)


if __name__ == "__main__":
    os.chdir(Path(sys.argv[sys.argv.index("--config") + 1]).parent)
    sys.exit(main())
