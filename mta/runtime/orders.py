"""The operator's standing orders at the supervisor: kept in a file, carried out by all workers, ended when their time is over.

They are part of the settings that workers get, as a configuration is: a worker that starts again has them from the first moment.
The file is written before an order is carried out.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import structlog

from mta.config.load import Settings
from mta.io.clock import Clock
from mta.io.files import write_atomically
from mta.policy.orders import MAX_ORDERS, Order, ordered_book

logger = structlog.get_logger()

FILE = "orders.json"
LOOK_S = 1.0  # how often it is looked whether one has ended

Carry = Callable[[Settings], Awaitable[None]]


class StandingOrders:
    """One order for each subject and setting."""

    def __init__(self, spool_dir: Path, clock: Clock, carry_out: Carry) -> None:
        """`carry_out`: let all workers have these settings, or raise and change nothing."""
        self._path = spool_dir / FILE
        self._clock = clock
        self._carry_out = carry_out
        self._orders: dict[tuple[str, str, str], Order] = {}
        self._plain: Settings | None = None
        self._lock = asyncio.Lock()

    @property
    def all(self) -> list[Order]:
        """Those in force."""
        return list(self._orders.values())

    @property
    def plain(self) -> Settings:
        """The configuration without any order."""
        assert self._plain is not None
        return self._plain

    def begin(self, plain: Settings) -> Settings:
        """Read the file; the settings with what it orders. Blocks; for the start."""
        self._plain = plain
        try:
            found = msgspec.json.decode(self._path.read_bytes(), type=list[Order])
        except FileNotFoundError:
            found = []
        except (OSError, msgspec.DecodeError) as error:
            logger.error(
                "the operator's orders cannot be read: nothing is paused or limited by them",
                file=str(self._path),
                reason=str(error),
            )
            found = []
        now = self._clock.now()
        self._orders = {each.subject: each for each in found if not _is_over(each, now)}
        return self._ordered(plain, self._orders)

    async def use(self, plain: Settings) -> Settings:
        """Carry the orders out over another configuration; the settings with them. Raises what carrying out raises."""
        async with self._lock:
            settings = self._ordered(plain, self._orders)
            await self._carry_out(settings)
            self._plain = plain
            return settings

    async def give(self, orders: Sequence[Order]) -> None:
        """From now on these hold. Raises OSError if they cannot be kept, ValueError if they are too many."""
        async with self._lock:
            wanted = self._orders | {each.subject: each for each in orders}
            if len(wanted) > MAX_ORDERS:
                raise ValueError(f"there are {MAX_ORDERS} orders already")
            await self._change(wanted)

    async def recall(self, subjects: Sequence[tuple[str, str, str]]) -> int:
        """These hold no longer; how many of them there were."""
        async with self._lock:
            wanted = {name: each for name, each in self._orders.items() if name not in subjects}
            gone = len(self._orders) - len(wanted)
            if gone:
                await self._change(wanted)
            return gone

    async def watch(self) -> None:
        """End orders when their time is over; until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            now = self._clock.now()
            over = [each for each in self._orders.values() if _is_over(each, now)]
            if not over:
                continue
            try:
                await self.recall([each.subject for each in over])
                logger.info("orders of the operator have ended", orders=[str(o) for o in over])
            except Exception:  # a task border: what fails once may work the next time
                logger.exception("an order of the operator could not be ended")

    async def _change(self, wanted: dict[tuple[str, str, str], Order]) -> None:
        assert self._plain is not None
        await self._write(wanted)
        try:
            await self._carry_out(self._ordered(self._plain, wanted))
        except BaseException:  # raised again: the file must say what holds
            await self._write(self._orders)
            raise
        self._orders = wanted

    async def _write(self, orders: dict[tuple[str, str, str], Order]) -> None:
        data = msgspec.json.format(msgspec.json.encode(list(orders.values())))
        await asyncio.to_thread(write_atomically, self._path, data)

    @staticmethod
    def _ordered(plain: Settings, orders: dict[tuple[str, str, str], Order]) -> Settings:
        held = tuple(orders.values())
        return replace(plain, orders=held, book=ordered_book(plain.book, held))


def _is_over(order: Order, now: float) -> bool:
    return order.until is not None and order.until <= now
