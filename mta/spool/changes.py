"""Hold, release, delete and retry by filter: 500 entries a transaction, everything else in between.

Each chunk is searched in the spool's thread, *claimed* on the loop – whoever has the entries in memory lets go of them and says
which it cannot, because they are being delivered – and then written. So no entry is deleted and delivered at once.

While a chunk is written the next is searched: waiting for each commit, as a first version did, took 0.1 s a chunk on a busy
machine, most of it for others' batches.
"""

from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING

from mta.model.envelope import Entry
from mta.model.event import local_attempt
from mta.spool.words import Filter, Listed, Settlement

if TYPE_CHECKING:
    from mta.spool.store import Spool

CHUNK = 500  # entries: their events cost the loop 4 ms
MAX_UNWRITTEN = 2  # chunks: with no room on the disk nothing more is searched

Claim = Callable[[list[Entry]], list[Entry]]
Written = Callable[[list[Entry]], None]
# Writes a chunk; calls back when it is on disk.
WriteChunk = Callable[[list[Entry], Callable[[], None]], None]


class Change:
    """One mass change under way. Lives on the loop."""

    def __init__(
        self,
        spool: "Spool",
        wanted: Filter,
        write: WriteChunk,
        *,
        claim: Claim | None = None,
        written: Written | None = None,
        takes_marked: bool = False,
    ) -> None:
        """`takes_marked`: what is being delivered is changed as well; `written` is told each chunk once it is on disk."""
        self._spool = spool
        self._wanted = wanted
        self._write = write
        self._claim = claim
        self._written = written
        self._takes_marked = takes_marked
        self._changed = 0
        self._unwritten = 0
        self._next: int | None = 0  # where to search on; None: all was searched
        self._is_searching = False
        self.future: Future[int] = Future()

    def start(self) -> None:
        """Search the first chunk; the rest follows by itself."""
        self._go_on()

    def _go_on(self) -> None:
        """Search on, or end, or wait for what is being written or searched."""
        if self._is_searching or self.future.done():
            return
        if self._next is None or self.future.cancelled():
            if not self._unwritten and not self.future.cancelled():
                self.future.set_result(self._changed)
            return
        if self._unwritten >= MAX_UNWRITTEN:
            return
        self._is_searching = True
        beyond, now = self._next, self._spool.clock.now()
        self._spool.read(
            lambda queries: queries.search(self._wanted, CHUNK, beyond, now),
            self._found,
            self._failed,
        )

    def _found(self, result: tuple[list[Listed], int | None]) -> None:
        listed, self._next = result
        self._is_searching = False
        self._take([one.entry for one in listed])
        self._go_on()

    def _failed(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)

    def _take(self, entries: list[Entry]) -> None:
        if not self._takes_marked:
            entries = [entry for entry in entries if not self._spool.is_marked(entry)]
        if entries and self._claim is not None:
            entries = self._claim(entries)
        if not entries:
            return
        self._unwritten += 1

        def done() -> None:
            self._unwritten -= 1
            self._changed += len(entries)
            if self._written is not None:
                self._written(entries)
            self._go_on()

        self._write(entries, done)


def removed_by_administrator(entry: Entry, now: float) -> Settlement:
    """The end of an entry that an operator deletes, with its event."""
    text, by = "deleted by the administrator", "administrator"
    event = local_attempt(entry, "b", now, code=550, enhanced="5.0.0", text=text, by=by)
    return Settlement(entry, None, event)
