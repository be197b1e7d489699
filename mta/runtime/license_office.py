"""The licence at the supervisor: one guard, and all who are told by it or tell it something.

Told: the crew (every worker), the governor (how many connections there may be), the log. Telling: the volume follower (what was
delivered), the till (Emails that workers take), the governor (how many connections there are). Without a guard this is lab mode:
everything is allowed, nothing is counted, and only loopback is reached.

A fault within licensing stops no mail: what was allowed last holds, and the log has an event (A37).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Protocol

import structlog

from mta.config.load import Settings
from mta.control.protocol import ControlError
from mta.io.clock import Clock
from mta.policy.book import LICENCE_KEY, UNLIMITED
from mta.runtime.counting import NearCounting
from mta.runtime.emails import Till
from mta.runtime.license import (
    LAB,
    UNLICENSED,
    AlreadyRunning,
    Entitlement,
    Guard,
    LicenseError,
    State,
    hold_of,
    open_guard,
)

logger = structlog.get_logger()

LOOK_S = 1.0
RETRY_S = 10.0  # after a start that failed
STATUS_S = 2.0  # the operator's other answers do not wait longer for licensing


class Connections(Protocol):
    """What is asked of the governor."""

    def limits(self, limits: dict[str, int]) -> None: ...

    def used(self, key: str) -> int: ...

    def watch(self, key: str) -> None: ...

    def take_peak(self) -> int: ...


class LicenseOffice:
    """Holds what is allowed now. `guard` is None in lab mode."""

    def __init__(self, guard: Guard | None, governor: Connections, clock: Clock) -> None:
        self.entitlement: Entitlement = LAB
        self.till: Till | None = None
        self.counting: NearCounting | None = None
        if guard is not None:
            self.till = Till(guard, clock)
            self.counting = NearCounting(guard, self.till)
        self.on_change: Callable[[Entitlement], None] = lambda _: None
        self._guard = guard
        self._governor = governor
        self._peak = 0
        self._has_begun = False
        self._spools: tuple[str, ...] = ()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_lab(self) -> bool:
        """Whether no licence is needed here."""
        return self._guard is None

    async def start(self) -> None:
        """Learn what is allowed. Raises AlreadyRunning; whatever else is wrong means no licence, and is tried again."""
        if self._guard is None:
            return
        self._governor.watch(LICENCE_KEY)
        await self._begin(self._guard, self._guard.start)
        self._task = asyncio.get_running_loop().create_task(self._run(self._guard))

    async def look_in(self) -> None:
        """As `start`, for one look: nothing goes on by itself, and nobody is called."""
        if self._guard is not None:
            await self._begin(self._guard, self._guard.open)

    async def _begin(self, guard: Guard, begin: Callable[[], Awaitable[None]]) -> None:
        try:
            await begin()
        except AlreadyRunning:
            raise
        except (LicenseError, OSError) as error:
            self._told(replace(UNLICENSED, reason=f"licensing cannot start: {error}"))
            return
        self._has_begun = True
        guard.subscribe(self._told)
        self._told(guard.entitlement)
        if self._spools:
            guard.spools(self._spools)

    async def _run(self, guard: Guard) -> None:
        while not self._has_begun:
            await asyncio.sleep(RETRY_S)
            try:
                await self._begin(guard, guard.start)
            except AlreadyRunning as error:
                self._told(replace(UNLICENSED, reason=str(error)))
        await self._look(guard)

    def spools(self, present: Collection[str]) -> None:
        """All spools of this server, by UUID."""
        self._spools = tuple(present)
        if self._guard is None or not self._has_begun:
            return
        try:
            self._guard.spools(self._spools)
        except Exception:  # the border to licensing: its fault stops no mail (A37)
            logger.exception("licensing failed when told of the spools")

    async def stop(self) -> None:
        """Nothing changes any more; what was counted is kept."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._guard is not None:
            try:
                await self._guard.stop()
            except Exception:  # the border to licensing: its fault must not stop our stop
                logger.exception("licensing failed at its stop")

    def _told(self, entitlement: Entitlement) -> None:
        before, self.entitlement = self.entitlement, entitlement
        most = entitlement.max_connections
        self._governor.limits({LICENCE_KEY: UNLIMITED if most is None else most})
        if (entitlement.state, entitlement.deliver) != (before.state, before.deliver) or (
            before is LAB
        ):
            self._say(entitlement)
        self.on_change(entitlement)

    def _say(self, entitlement: Entitlement) -> None:
        tell = logger.info if entitlement.state is State.VALID else logger.warning
        tell(
            "the licence",
            state=str(entitlement.state),
            injection=str(entitlement.injection),
            delivery=entitlement.deliver,
            reason=hold_of(entitlement) or entitlement.reason,
        )

    async def _look(self, guard: Guard) -> None:
        is_failing = False
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                guard.connections(self._governor.used(LICENCE_KEY), self.take_peak())
                is_failing = False
            except Exception:  # the border to licensing: its fault stops no mail (A37)
                if not is_failing:
                    logger.exception("licensing failed when connections were told")
                is_failing = True

    def take_peak(self) -> int:
        """The most connections there were at once since the last time."""
        found = self._governor.take_peak()
        self._peak = max(self._peak, found)
        return found

    # -- the operator -----------------------------------------------------------------------------

    async def status(self) -> dict[str, Any]:
        """What the licence is, allows and counts; never raises."""
        mine = self._own_status()
        if self._guard is None:
            return mine
        try:
            async with asyncio.timeout(STATUS_S):
                return {**await self._guard.status(), **mine}
        except (
            Exception
        ) as error:  # the border to licensing: the rest of the status is shown all the same
            logger.exception("licensing failed when asked for its status")
            return {**mine, "trouble": f"{type(error).__name__}: {error}"}

    async def ask(self, what: str, **arguments: Any) -> Any:
        """A verb of the guard's. Raises ControlError with why not."""
        if self._guard is None:
            text = "this server runs in lab mode and needs no licence"
            raise ControlError(text, "take `lab` out of [server] to run under one")
        if not self._has_begun:
            raise ControlError(self.entitlement.reason, "the log says more")
        try:
            return await getattr(self._guard, what)(**arguments)
        except LicenseError as error:
            raise ControlError(str(error), f"code: {error.code}") from error

    async def kinds(self) -> frozenset[str]:
        """The kinds of the licences in force."""
        licenses = (await self.status()).get("licenses", ())
        return frozenset(each["kind"] for each in licenses)

    def _own_status(self) -> dict[str, Any]:
        entitlement = self.entitlement
        in_use = self._governor.used(LICENCE_KEY)
        self._peak = max(self._peak, in_use)
        return {
            "lab": self.is_lab,
            "state": str(entitlement.state),
            "injection": str(entitlement.injection),
            "deliver": entitlement.deliver,
            "reason": entitlement.reason,
            "hold": hold_of(entitlement),
            "exit_code": entitlement.exit_code,
            "metered": entitlement.is_metered,
            "development": entitlement.stamp is not None,
            "remarks": [{"code": each.code, "text": each.text} for each in entitlement.remarks],
            "connections": {
                "in_use": in_use,
                "limit": entitlement.max_connections,
                "peak": self._peak,
            },
        }


@asynccontextmanager
async def alone(settings: Settings) -> AsyncIterator[LicenseOffice]:
    """An office without a server, for a command of the operator's. Raises AlreadyRunning; nobody is told of anything."""
    guard = None if settings.server.lab else open_guard(settings)
    office = LicenseOffice(guard, _NoConnections(), Clock())
    await office.look_in()
    try:
        yield office
    finally:
        await office.stop()


class _NoConnections:
    """A governor without any."""

    def limits(self, limits: dict[str, int]) -> None:
        """See `Connections`."""

    def used(self, key: str) -> int:
        """See `Connections`."""
        return 0

    def watch(self, key: str) -> None:
        """See `Connections`."""

    def take_peak(self) -> int:
        """See `Connections`."""
        return 0
