"""Which virtual MTAs are in service, in one worker: looked at once a second, and when the operator or a reload changes something.

Out of service is one that the operator paused, and one whose source addresses this machine has no longer. Its queues wait, with
the reason (`Scheduler.stop`), and pools pass it over; a drained one is passed over, too, and delivers what it has. Who comes back
is in its pools again, and its queues are woken on disk. All that changes is logged.

An address is here if a socket can be bound to it: the same question as a connection asks later, with the same answer where the
kernel is told to bind foreign addresses. Of a virtual MTA that has lost some of its addresses only, the others are used.
"""

import socket
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import structlog

from mta.config.load import Settings
from mta.io.clock import Clock
from mta.policy.pools import Pools
from mta.policy.rules import VmtaRules
from mta.queue.answers import VMTA_PAUSED, Wait
from mta.queue.scheduler import Scheduler
from mta.runtime.vmta_states import VmtaState, VmtaStates

logger = structlog.get_logger()

ADDRESSES_A_LOOK = 100  # 10 µs each; with more, a look finds what is gone a second later or two
RATE_LOOKS = 60  # looks over which `delivered_last_minute` is counted
RATE_STEP = 10


class ParkingSpool(Protocol):
    """What is needed of a spool."""

    def wake_parked(self, vmtas: Collection[str] | None, done: Callable[[], None]) -> None: ...


class Sources(Protocol):
    """Who opens connections from source addresses."""

    missing_sources: frozenset[str]


class VmtaWatch:
    """The virtual MTAs of one worker. `use` a configuration, then `look` every second."""

    def __init__(
        self,
        *,
        spool_dir: Path,
        scheduler: Scheduler,
        spools: Iterable[ParkingSpool],
        sources: Sources,
        delivered: Mapping[str, int],
        clock: Clock,
        on_change: Callable[[], None],
        is_here: Callable[[str], bool] | None = None,
    ) -> None:
        """`delivered`: recipients by virtual MTA, ever. `on_change`: there may be something to do. `is_here`: for tests."""
        self.pools = Pools()
        self.stops: dict[str, Wait] = {}
        self._rules: dict[str, VmtaRules] = {}
        self._states = VmtaStates(spool_dir)
        self._scheduler = scheduler
        self._spools = list(spools)
        self._sources = sources
        self._delivered = delivered
        self._clock = clock
        self._on_change = on_change
        self._is_here = is_here or is_local_address
        self._missing: set[str] = set()
        self._running: frozenset[str] | None = None  # None: nothing was woken yet
        self._out: frozenset[str] = frozenset()
        self._next_address = 0
        self._looks = 0
        self._history: deque[dict[str, int]] = deque(maxlen=RATE_LOOKS // RATE_STEP)

    def use(self, settings: Settings) -> Pools:
        """Another configuration: its pools, each at the begin of its round, without who is out of service."""
        self._rules = dict(settings.vmtas)
        self.pools = Pools(settings.vmtas.values(), settings.pools.values())
        addresses = _addresses(self._rules.values())
        self._missing = {address for address in addresses if not self._is_here(address)}
        self.decide()
        return self.pools

    def look(self) -> None:
        """Once a second: what the operator said, and the next of the addresses."""
        if self._looks % RATE_STEP == 0:
            self._history.append(dict(self._delivered))
        self._looks += 1
        addresses = _addresses(self._rules.values())
        first = self._next_address if self._next_address < len(addresses) else 0
        self._next_address = first + ADDRESSES_A_LOOK
        for address in addresses[first : self._next_address]:
            if self._is_here(address):
                self._missing.discard(address)
            else:
                self._missing.add(address)
        self.decide()

    def state(self, name: str) -> str:
        """`running`, `paused`, `drained`, or `no address`."""
        said = self._states.of(name)
        if said is VmtaState.RUNNING and name in self.stops:
            return "no address"
        return str(said)

    def out(self) -> dict[str, str]:
        """Who is out of service, and why."""
        return {
            name: self.stops[name].what if name in self.stops else "virtual MTA drained"
            for name in sorted(self._out)
        }

    def gauge(self) -> dict[str, int]:
        """For the metrics page."""
        return {name: int(name in self._out) for name in self._rules}

    def rows(self, counts: Mapping[str, tuple[int, int]]) -> list[dict[str, Any]]:
        """The virtual MTAs that there are or that have mail; `counts`: their recipients and queues in the spools."""
        connections = self._scheduler.connections_by_vmta()
        before = self._history[0] if self._history else {}
        rows = []
        for name in sorted({*self._rules, *counts}):
            stop = self._scheduler.stop_of(name)
            recipients, queues = counts.get(name, (0, 0))
            delivered = self._delivered.get(name, 0)
            rows.append(
                {
                    "vmta": name,
                    "state": self.state(name) if name in self._rules else "gone",
                    "reason": "" if stop is None else f"{stop.what} ({stop.detail})",
                    "recipients": recipients,
                    "queues": queues,
                    "connections": connections.get(name, 0),
                    "delivered": delivered,
                    "delivered_last_minute": delivered - before.get(name, 0),
                }
            )
        return rows

    def decide(self) -> None:
        """Weigh what is known now, and tell whom a change concerns."""
        self._states.read()
        stops = {name: stop for name, rules in self._rules.items() if (stop := self._stop(rules))}
        drained = {n for n in self._rules if self._states.of(n) is VmtaState.DRAINED}
        out = frozenset(stops) | drained
        self._sources.missing_sources = frozenset(self._missing)
        self.pools.leave_out(out)
        if out != self._out:
            self._tell(out, stops)
            self._out = out
        if stops != self.stops:
            self.stops = stops
            self._scheduler.stop(stops)
            self._on_change()
        running = frozenset(self._rules) - stops.keys()
        if running != self._running:
            # At the start all are woken: parked queues that are empty by now go with it.
            back = None if self._running is None else running - self._running
            self._running = running
            if back is None or back:
                self._wake(back)

    # -- within -----------------------------------------------------------------------------------

    def _stop(self, rules: VmtaRules) -> Wait | None:
        if self._states.of(rules.name) is VmtaState.PAUSED:
            by = self._states.by(rules.name) or "the operator"
            detail = f"by {by}; sluice vmta resume {rules.name} ends it"
            return Wait(VMTA_PAUSED, detail, 0.0, rules.place)
        sources = (*rules.source_v4, *rules.source_v6)
        if sources and self._missing.issuperset(sources):
            detail = (
                f"this machine has no address {', '.join(sources)}: give it back, or set another"
            )
            return Wait("virtual MTA without its source address", detail, 0.0, rules.place)
        return None

    def _tell(self, out: frozenset[str], stops: Mapping[str, Wait]) -> None:
        for name in sorted(out - self._out):
            stop = stops.get(name)
            why = "virtual MTA drained" if stop is None else f"{stop.what} ({stop.detail})"
            logger.warning("a virtual MTA is out of service", vmta=name, why=why)
        for name in sorted((self._out - out) & self._rules.keys()):
            logger.info("a virtual MTA is in service again", vmta=name)

    def _wake(self, names: frozenset[str] | None) -> None:
        def woken() -> None:
            self._scheduler.look_for_due(self._clock.now())
            self._on_change()

        for spool in self._spools:
            spool.wake_parked(names, woken)


def is_local_address(address: str) -> bool:
    """Whether a socket may be bound to it now. A want of descriptors says nothing against the address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            try:
                sock.bind((address, 0))
            except OSError:
                return False
    except OSError:
        return True
    return True


def _addresses(vmtas: Iterable[VmtaRules]) -> list[str]:
    return sorted({each for rules in vmtas for each in (*rules.source_v4, *rules.source_v6)})
