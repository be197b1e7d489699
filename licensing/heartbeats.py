"""The daily reports of server licences beside the one that the ledger reports under: every licence in force is heard of.

They count no Emails, so a small file a licence is all their book: number, token, and the report under way, written whole before a
byte leaves, as the ledger does. The rules are the reporter's; a file that is lost begins a new epoch, as a lost ledger does.
"""

import random
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import msgspec

from licensing.books import AckedFigures, Books, Times
from licensing.circumstances import circumstances
from licensing.envelope import decode_closed
from licensing.errors import LicenseError
from licensing.files import make_private_folder, read_private, write_atomically
from licensing.installation import Installation
from licensing.ledger import Outgoing
from licensing.ledger_file import LedgerError
from licensing.model.activation import Activation
from licensing.model.usage import Notice, UsageAck
from licensing.reporter import Outcome, Reporter, open_reporter
from licensing.seats import Seats
from licensing.selection import Installed

MAX_BYTES = 512 * 1024


class _Kept(msgspec.Struct, kw_only=True):
    """A file: the books of one licence, the report under way, the last acknowledgement."""

    books: Books
    report: bytes | None = None
    sha256: str = ""
    ack: bytes | None = None


class HeartbeatFile:
    """The keeper of one licence's reports: what the reporter asks of a ledger, in a file. Only the ledger's thread calls it."""

    def __init__(self, path: Path, head: Callable[[], str]) -> None:
        """`head` is the ledger's: a report names it, whatever it reports under."""
        self._path, self._head = path, head
        self._kept = self._read()

    @property
    def books(self) -> Books:
        """As they were stored."""
        return self._kept.books

    def outgoing(self) -> Outgoing | None:
        """The report under way, if there is one."""
        kept = self._kept
        if kept.report is None:
            return None
        return Outgoing(kept.books.seq, kept.report, kept.sha256)

    def put_report(
        self, books: Books, times: Times, build: Callable[[str], tuple[bytes, str]]
    ) -> Outgoing:
        """As `Ledger.put_report`. Raises LedgerError."""
        data, sha256 = build(self._head())
        self._write(_Kept(books=books, report=data, sha256=sha256, ack=self._kept.ack))
        return Outgoing(books.seq, data, sha256)

    def settle(self, books: Books, answer: bytes) -> None:
        """As `Ledger.settle`. Raises LedgerError."""
        self._write(_Kept(books=books, ack=answer))

    def open_epoch(self, books: Books, reason: str, times: Times) -> str:
        """As `Ledger.open_epoch`. Raises LedgerError."""
        self._write(_Kept(books=books, ack=self._kept.ack))
        return self._head()

    def last_ack(self) -> bytes | None:
        """The last acknowledgement as it came (A27)."""
        return self._kept.ack

    def _read(self) -> _Kept:
        try:
            return decode_closed(read_private(self._path, MAX_BYTES), _Kept)
        except (LicenseError, OSError):
            return _Kept(books=Books())  # the vendor grants a new epoch

    def _write(self, kept: _Kept) -> None:
        try:
            make_private_folder(self._path.parent)
            write_atomically(self._path, msgspec.json.encode(kept))
        except OSError as error:
            raise LedgerError(f"{self._path} cannot be written: {error}") from error
        self._kept = kept


class Heartbeats:
    """One reporter for each of these licences. `acked` is told of every acknowledgement."""

    def __init__(
        self,
        home: Installation,
        seats: Seats,
        *,
        version: str,
        chance: random.Random,
        told: Callable[[str, str], None],
        acked: Callable[[UsageAck], Awaitable[None]],
    ) -> None:
        self._home, self._seats, self._version = home, seats, version
        self._chance, self._told, self._acked = chance, told, acked
        self._installed: tuple[Installed, ...] = ()
        self._reporters: dict[str, tuple[Reporter, Books]] = {}
        self._notices: dict[str, tuple[Notice, ...]] = {}

    def serve(self, others: Iterable[Installed]) -> None:
        """These are in force beside the main one. A renewal may name other endpoints: its reporter is made anew."""
        found = tuple(others)
        known = {each.opened.sha256 for each in self._installed}
        for each in found:
            if each.opened.sha256 not in known:
                self._reporters.pop(each.license_id, None)
        self._installed = found

    @property
    def notices(self) -> tuple[Notice, ...]:
        """What the vendor wants to be known, of all of them."""
        names = [each.license_id for each in self._installed]
        return tuple(notice for name in names for notice in self._notices.get(name, ()))

    async def turn(self, *, now_please: bool = False) -> None:
        """Report under each licence whose report is due. Nothing that a network or a server can cause is raised."""
        for each in self._installed:
            held = self._seats.activations.get(each.license_id)
            if held is None:
                continue
            try:
                await self._report(each, held, now_please)
            except LedgerError as error:
                self._told("heartbeat_not_kept", str(error))

    def note_peak(self) -> None:
        """The most connections there were is forgotten when the main licence has reported it: not before the others have it."""
        for _, books in self._reporters.values():
            books.conn_peak = max(books.conn_peak, self._home.books.conn_peak)

    def forget(self, license_id: str) -> None:
        """Its seat is given back."""
        self._reporters.pop(license_id, None)
        self._notices.pop(license_id, None)
        self._path(license_id).unlink(missing_ok=True)

    def forget_all(self) -> None:
        """This is another node now."""
        for each in self._installed:
            self.forget(each.license_id)

    # -- within ---------------------------------------------------------------------------------------

    async def _report(self, each: Installed, held: Activation, now_please: bool) -> None:
        reporter, _ = await self._open(each, held)
        before = reporter.failure
        here = circumstances(self._home, each.license, held, version=self._version)
        outcome = await reporter.turn(here, now_please=now_please)
        if reporter.failure and not before:
            self._told("report_failed", f"{each.license_id}: {reporter.failure}")
        if outcome is Outcome.ACKED and reporter.acked is not None:
            ack = reporter.acked[0]
            self._seats.extend(each.license_id, float(ack.activation_until))
            self._notices[each.license_id] = ack.notices
            await self._acked(ack)
        elif outcome is Outcome.UNKNOWN:
            await self._seats.ask_anew(each)

    async def _open(self, each: Installed, held: Activation) -> tuple[Reporter, Books]:
        name, home = each.license_id, self._home
        found = self._reporters.get(name)
        if found is not None and found[1].activation_id == held.activation_id:
            return found
        keeper = await home.thread.run(HeartbeatFile, self._path(name), home.ledger.head)
        books = keeper.books.copy()
        if books.activation_id != held.activation_id:
            books = Books(
                license_id=name,
                activation_id=held.activation_id,
                epoch=held.epoch,
                token=held.token,
                acked=AckedFigures(epoch=held.epoch),
                role=held.role,
            )
            await home.thread.run(keeper.open_epoch, books.copy(), "activation", home.times())
        books.conn_peak = max(books.conn_peak, home.books.conn_peak)
        reporter = await open_reporter(
            home,
            books,
            keeper,
            wire=self._seats.wire(each.license),
            allowance=None,
            chance=self._chance,
            told=self._told,
        )
        self._reporters[name] = reporter, books
        return reporter, books

    def _path(self, license_id: str) -> Path:
        return self._home.state_dir / "heartbeats" / f"{license_id}.json"
