"""Hold, release and delete by filter: 1,000 entries a transaction, everything else in between.

Each chunk is searched in the spool's thread, *claimed* on the loop – whoever has the entries in memory lets go of them and says
which it cannot, because they are being delivered – and then written. So no entry is deleted and delivered at once.
"""

from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING

from mta.model.envelope import Entry
from mta.model.event import Attempt
from mta.spool.words import Filter, Listed, Settlement

if TYPE_CHECKING:
    from mta.spool.store import Spool

CHUNK = 1000

Claim = Callable[[list[Entry]], list[Entry]]
# Writes a chunk; calls back when it is on disk.
WriteChunk = Callable[[list[Entry], Callable[[], None]], None]


class Change:
    """One mass change under way. Lives on the loop."""

    def __init__(
        self, spool: "Spool", wanted: Filter, claim: Claim | None, write: WriteChunk
    ) -> None:
        self._spool = spool
        self._wanted = wanted
        self._claim = claim
        self._write = write
        self._changed = 0
        self.future: Future[int] = Future()

    def next(self, after: int | None) -> None:
        """Search the next chunk, beyond entry number `after`."""
        if after is None or self.future.cancelled():
            if not self.future.cancelled():
                self.future.set_result(self._changed)
            return
        beyond = after

        def found(result: tuple[list[Listed], int | None]) -> None:
            listed, go_on = result
            self._take([one.entry for one in listed], go_on)

        now = self._spool.clock.now()
        self._spool.read(
            lambda queries: queries.search(self._wanted, CHUNK, beyond, now),
            found,
            self.future.set_exception,
        )

    def _take(self, entries: list[Entry], go_on: int | None) -> None:
        free = [entry for entry in entries if not self._spool.is_marked(entry)]
        if free and self._claim is not None:
            free = self._claim(free)
        if not free:
            self.next(go_on)
            return
        self._changed += len(free)
        self._write(free, lambda: self.next(go_on))


def removed_by_administrator(entry: Entry, now: float) -> Settlement:
    """The end of an entry that an operator deletes, with its event."""
    message = entry.message
    event = Attempt(
        kind="b",
        at=now,
        message=message.number,
        entry=entry.number,
        sender=message.sender,
        recipient=entry.address,
        orcpt=entry.orcpt,
        domain=entry.key.domain,
        vmta=entry.key.vmta,
        job=message.job,
        envid=message.envid,
        size=message.size,
        queued_at=message.received_at,
        first_attempt=entry.first_attempt,
        attempts=entry.attempts,
        code=550,
        enhanced="5.0.0",
        text="deleted by the administrator",
        local=True,
        category="other",
        source_kind=message.source_kind,
        source_name=message.source_name,
        source_feeder_ip=message.source_ip,
        user=message.user,
        may_repeat=entry.may_repeat,
        by="administrator",
    )
    return Settlement(entry, None, event)
