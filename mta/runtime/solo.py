"""One worker in the supervisor's own process: what `workers = 1` means, and what tests use. The same face as `Crew`.

There is nobody to start it again: when its spool fails, the process ends (exit code 75) and the service manager does.
"""

import asyncio
import socket
from collections.abc import Callable

from mta.config.load import Settings
from mta.io.clock import Clock
from mta.runtime.crew import share_spools
from mta.runtime.emails import NearEmails
from mta.runtime.front import WorkerFront
from mta.runtime.governor import Governor
from mta.runtime.license_office import LicenseOffice
from mta.runtime.process import cores
from mta.runtime.watch import Watch
from mta.runtime.worker import Worker

BROKEN_STOP_S = 1.0  # nothing that is still said can be kept


class Solo:
    """A crew of one, on this loop."""

    def __init__(
        self, settings: Settings, *, governor: Governor, clock: Clock, office: LicenseOffice
    ) -> None:
        """Opens the spools: raises SpoolError."""
        own, *adopted = share_spools(settings.server.spool_dir, 1)[0]
        self.worker = Worker(
            settings,
            number=own,
            governor=governor,
            clock=clock,
            adopted=adopted,
            owns_core=cores() == 1,
            entitlement=office.entitlement,
            emails=None if office.till is None else NearEmails(office.till, own),
        )
        office.on_change = self.worker.entitle
        if office.till is not None:
            spools = self.worker.spools.values()
            office.till.serves(own, {each.uuid: each.start.last_event for each in spools})
        self.broken = self.worker.broken
        self.fronts = [WorkerFront(self.worker)]
        self.on_room: Callable[[], None] = lambda: None
        self._watch = Watch(
            asyncio.get_running_loop(), self.worker.scheduler, settings.server.watchdog_timeout
        )
        self._is_stopped = False

    async def start(self) -> None:
        """Begin to deliver."""
        self.worker.start()
        self._watch.start()

    def adopt(self, sock: socket.socket, listener: int) -> bool:
        """Serve an accepted connection."""
        self.worker.adopt(sock, listener)
        return True

    def spools(self) -> list[str]:
        """The UUIDs of all spools."""
        return [each.uuid for each in self.worker.spools.values()]

    def processes(self) -> dict[str, int]:
        """None but the supervisor's own."""
        return {}

    async def reload(self, settings: Settings) -> None:
        """Swap in a new configuration, or raise and change nothing."""
        self.worker.prepare(settings)
        self.worker.commit()

    async def drain(self, within_s: float) -> None:
        """Take no more, deliver what is due."""
        await self.worker.drain(within_s, lambda: not self._is_stopped)

    async def stop(self, within_s: float) -> None:
        """End all sessions; the spool stays open for the followers."""
        self._is_stopped = True
        await self.worker.stop(BROKEN_STOP_S if self.broken.done() else within_s)

    async def end(self) -> None:
        """Close the spools."""
        self._watch.stop()
        await self.worker.close_spools()
