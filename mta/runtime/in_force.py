"""What is in force: the configuration, the operator's orders over it, the states of his virtual MTAs.

A reload and an order change it for all workers or for none. What is read only at the start refuses the reload.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import structlog

from mta.config.load import Settings, load
from mta.config.show import show
from mta.io.clock import Clock
from mta.model.errors import ConfigError, Problem
from mta.policy.orders import Order
from mta.runtime.calls import CallFailed
from mta.runtime.license import check_reporting
from mta.runtime.orders import StandingOrders
from mta.runtime.process import log_as_told
from mta.runtime.vmta_states import VmtaState, VmtaStates, describe_vmtas

logger = structlog.get_logger()

# What is read once, at the start. All other settings change with a reload.
FIXED = (
    "spool_dir",
    "workers",
    "control_socket",
    "lab",
    "hostname",
    "intake_memory",
    "body_cache",
    "max_event_bytes",
    "dns_servers",
    "dns_timeout",
    "dns_cache_entries",
)


class InForce:
    """`settings` are those of this moment, orders included."""

    def __init__(
        self,
        file: Path,
        settings: Settings,
        clock: Clock,
        *,
        kinds: Callable[[], Awaitable[Collection[str]]],
        reload_workers: Callable[[Settings], Awaitable[None]],
    ) -> None:
        """`kinds` of the licences that are installed; `reload_workers` has all workers follow settings, or raises."""
        spool_dir = Path(settings.server.spool_dir)
        self.settings = settings
        self._file = file
        self._kinds = kinds
        self._reload_workers = reload_workers
        self._orders = StandingOrders(spool_dir, clock, self._carry_out)
        self._states = VmtaStates(spool_dir)
        self._states_lock = asyncio.Lock()  # two writers would share one temporary name

    def begin(self) -> None:
        """Read the orders that an earlier life was given. Blocks; for the start."""
        self.settings = self._orders.begin(self.settings)

    async def watch(self) -> None:
        """End orders when their time is over; until cancelled."""
        await self._orders.watch()

    # -- the configuration ----------------------------------------------------------------------

    async def reload(self) -> list[str]:
        """Read the configuration again. Raises ConfigError and changes nothing if it is wrong."""
        settings = await asyncio.to_thread(load, self._file)
        check_reporting(settings, await self._kinds())
        fixed = _fixed_changes(self.settings, settings)
        if fixed:
            raise ConfigError(fixed)
        try:
            await self._orders.use(settings)
        except (OSError, CallFailed) as error:
            text = f"a worker cannot take it, so no worker does: {error}"
            raise ConfigError([Problem(settings.file, "", text)]) from error
        logger.info("configuration reloaded")
        return [str(warning) for warning in settings.warnings]

    async def _carry_out(self, settings: Settings) -> None:
        """All workers follow these settings, or none does: raises OSError or CallFailed."""
        await self._reload_workers(settings)
        if settings.logging != self.settings.logging:
            log_as_told(settings)
        self.settings = settings

    def configuration(self) -> dict[str, dict[str, str]]:
        """The configuration that runs, as `config show` shows one, without the operator's orders."""
        return show(self._orders.plain)

    # -- orders ---------------------------------------------------------------------------------

    def orders(self) -> list[Order]:
        """The operator's orders in force."""
        return self._orders.all

    async def give_orders(self, orders: Sequence[Order]) -> None:
        """From now on these hold, over restarts too. Raises OSError or ValueError, and changes nothing."""
        try:
            await self._orders.give(orders)
        except CallFailed as error:
            raise OSError(f"a worker cannot take it: {error}") from error

    async def recall_orders(self, subjects: Sequence[tuple[str, str, str]]) -> int:
        """These hold no longer; how many of them there were. Raises OSError."""
        try:
            return await self._orders.recall(subjects)
        except CallFailed as error:
            raise OSError(f"a worker cannot take it: {error}") from error

    # -- virtual MTAs ---------------------------------------------------------------------------

    def vmta_rows(self) -> list[dict[str, Any]]:
        """The virtual MTAs of the configuration."""
        return describe_vmtas(self.settings)

    def pool_names(self) -> list[str]:
        """The pools of the configuration."""
        return list(self.settings.pools)

    async def put_vmta_state(self, name: str, state: str, by: str) -> None:
        """Keep what the operator wants of a virtual MTA. Raises OSError."""
        async with self._states_lock:
            await asyncio.to_thread(self._states.put, name, VmtaState(state), by)


def _fixed_changes(old: Settings, new: Settings) -> list[Problem]:
    """What a reload cannot change: it needs a restart, and saying so beats doing half of it."""
    changed = [name for name in FIXED if getattr(old.server, name) != getattr(new.server, name)]
    keys = [f"dns.{name[4:]}" if name.startswith("dns_") else f"server.{name}" for name in changed]
    if old.license != new.license:
        keys.append("license")
    if old.metrics != new.metrics:
        keys.append("metrics.address")
    if [each.address for each in old.listeners] != [each.address for each in new.listeners]:
        keys.append("listener.address")
    if old.accounting != new.accounting:
        keys.append("accounting")
    text = "takes effect only at a restart; take the change back, or restart"
    return [Problem(new.file, key, text) for key in keys]
