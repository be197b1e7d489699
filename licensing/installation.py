"""What lies on this machine: the node key, the licences, the ledger, the trusted clock. Opened once, by one process (A32).

The state directory belongs to whoever holds `license.lock` in it. A ledger that is gone while something beside it says that there
was one is a finding (A15), as is one that does not hold (A16): mail goes on, the vendor is told, and the damaged file is kept.
`anchor.json` is the last acknowledgement, outside of the ledger.
"""

import contextlib
import fcntl
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from licensing.books import AckedFigures, Books, Times
from licensing.chain import genesis
from licensing.clock import Reading, TrustedClock
from licensing.envelope import decode_closed, decode_envelope
from licensing.errors import LicenseError
from licensing.files import make_private_folder, read_private, write_atomically
from licensing.fingerprint import Machine, read_machine
from licensing.ledger import Ledger, LedgerThread
from licensing.ledger_file import DAMAGED, LedgerError
from licensing.model.fields import USAGE_ACK
from licensing.model.usage import UsageAck
from licensing.nodekey import NodeKey
from licensing.selection import Group
from licensing.store import LicenseStore
from licensing.trust import MAX_ROOT_BYTES, Trust

LEDGER_MISSING, LEDGER_CHAIN = "ledger_missing", "ledger_chain"
EPHEMERAL = "state_ephemeral"
MAX_ANCHOR_BYTES = 512 * 1024

Told = Callable[[str, str], None]


class AlreadyRunning(LicenseError):
    """Another process holds the state directory; `pid` is its id, 0 when it does not say (C7, A32)."""

    def __init__(self, folder: Path, pid: int) -> None:
        who = f"process {pid}" if pid else "another process"
        super().__init__(
            "running",
            f"{who} uses {folder} already: one copy runs on a server. Stop that one, or give this one a directory of its own",
        )
        self.pid = pid


class Lock:
    """Held until `release`, or until the process ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        """Raises AlreadyRunning, OSError."""
        self._fd = os.open(folder / "license.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            text = os.pread(self._fd, 20, 0).strip()
            os.close(self._fd)
            raise AlreadyRunning(folder, int(text) if text.isdigit() else 0) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let the next one in. The file stays: two owners could lock two files of one name."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, 0)
        os.close(self._fd)


class Anchor(msgspec.Struct, frozen=True, kw_only=True):
    """`anchor.json`: what survives the ledger. `ack`: the envelope of the last acknowledgement, as JSON text."""

    v: int = 1
    license_id: str
    activation_id: str
    epoch: int
    seq: int
    cum: int
    ack: str


@dataclass(slots=True)
class Installation:
    """Everything opened. `books` belong to the loop, `ledger` to `thread` alone.

    `is_ephemeral`: the next start will find an empty state directory, and nobody said that this is meant.
    """

    state_dir: Path
    lock: Lock
    key: NodeKey
    machine: Machine
    store: LicenseStore
    ledger: Ledger
    thread: LedgerThread
    books: Books
    clock: TrustedClock
    read_clocks: Callable[[], Reading]
    is_ephemeral: bool = False

    def times(self) -> Times:
        """This moment, as records have it."""
        reading = self.read_clocks()
        return Times(reading.wall, reading.boottime, self.clock.now())

    def signed_time(self, server_time: float, asked_at: float) -> float:
        """Tell the clock what the vendor signed, in answer to what was asked at `asked_at`; the trusted time then."""
        self.clock.signed(float(server_time), asked_at=asked_at)
        return self.clock.now()

    async def save(self) -> None:
        """The books, now. Raises LedgerError."""
        self.books.clock = self.clock.state
        await self.thread.run(self.ledger.save, self.books.copy())

    async def record(self, kind: str) -> None:
        """The books, with a record of their own. Raises LedgerError."""
        self.books.clock = self.clock.state
        await self.thread.run(self.ledger.record, self.books.copy(), kind, self.times())

    def close(self) -> None:
        """Blocking: the thread comes to its end first."""
        self.thread.close()
        self.ledger.close()
        self.lock.release()


def load_trust(root_file: Path | None) -> Trust:
    """The root built in, or the one of this file, which opens Development licences only. Raises LicenseError, OSError."""
    if root_file is None:
        return Trust.built_in()
    data = root_file.read_bytes()
    if len(data) > MAX_ROOT_BYTES:
        raise LicenseError("too_large", f"{root_file} is too large for a root")
    return Trust.load(data, is_named=True)


def open_installation(
    license_dir: Path,
    state_dir: Path,
    *,
    trust: Trust,
    read_clocks: Callable[[], Reading],
    told: Told,
    machine: Machine | None = None,
    thread: LedgerThread,
    persists: Callable[[Path], bool],
    allow_ephemeral: bool = False,
) -> Installation:
    """Open it all; blocking. Raises AlreadyRunning, LicenseError, OSError."""
    make_private_folder(state_dir)
    lock = Lock(state_dir)
    try:
        credentials = os.environ.get("CREDENTIALS_DIRECTORY")
        given = Path(credentials) if credentials else None
        is_ephemeral = not allow_ephemeral and not persists(state_dir)
        store = LicenseStore(license_dir, state_dir, trust)
        if is_ephemeral and not NodeKey.is_there(state_dir, given):
            _refuse_another_seat(store, state_dir, read_clocks().wall)
        key = NodeKey.of(state_dir, given)
        ledger, books = open_books(state_dir, key.public, store.trust, told)
        clock = TrustedClock(read_clocks, books.clock, told=told)
    except BaseException:  # whatever it was, the lock is free again
        lock.release()
        raise
    return Installation(
        state_dir,
        lock,
        key,
        machine or read_machine(),
        store,
        ledger,
        thread,
        books,
        clock,
        read_clocks,
        is_ephemeral,
    )


def _refuse_another_seat(store: LicenseStore, state_dir: Path, now: float) -> None:
    """A key made here is gone at the next start: under a server licence each start would take another seat. Raises LicenseError.

    Without a licence yet, and under Volume, which any number of nodes may use, it is only a finding.
    """
    for each in store.read(now).chosen:
        if each.group in (Group.SERVER, Group.STANDBY):
            raise LicenseError(
                EPHEMERAL,
                f"{state_dir} does not outlast this {read_machine().machine_class}, and the {each.license.kind} licence"
                f" {each.license_id} would need another seat at each start: mount a lasting volume there, or give"
                " the node key as a credential; `[license] allow_ephemeral = true` goes on without",
            )


def open_books(state_dir: Path, node_public: str, trust: Trust, told: Told) -> tuple[Ledger, Books]:
    """The ledger and what it says, whatever became of it. Raises LedgerError where none can be written at all."""
    path = state_dir / "ledger.db"
    was_there = path.exists()
    try:
        ledger = _open(path, node_public)
        books, found = ledger.books(), ledger.verify()
    except LedgerError as error:
        # Only what is damaged is put aside: a full disk or a missing right is no reason to begin anew.
        if error.code != DAMAGED:
            raise
        _put_aside(path)
        told(LEDGER_CHAIN, f"{error}. It was put aside, and a new one begun")
        ledger = _open(path, node_public)
        books = _from_anchor(state_dir, trust, LEDGER_CHAIN)
        books.findings = {LEDGER_CHAIN: 0.0}
        ledger.save(books)
        return ledger, books
    if not was_there:
        books = _from_anchor(state_dir, trust, LEDGER_MISSING)
        if books.findings:
            told(
                LEDGER_MISSING, f"{path} is gone: the vendor's figures count, and a new one begins"
            )
        ledger.save(books)
    elif found is not None:
        told(LEDGER_CHAIN, f"{path} was changed at record {found.seq}: {found.why}")
        books.findings.setdefault(LEDGER_CHAIN, 0.0)
        ledger.mend(books, found, Times(0.0, 0.0, 0.0))
    return ledger, books


def write_anchor(state_dir: Path, books: Books, ack: bytes) -> None:
    """Keep the last acknowledgement where the ledger's deletion leaves it. Raises OSError."""
    anchor = Anchor(
        license_id=books.license_id,
        activation_id=books.activation_id,
        epoch=books.acked.epoch,
        seq=books.acked.seq,
        cum=books.acked.cum,
        ack=ack.decode(),
    )
    write_atomically(state_dir / "anchor.json", msgspec.json.encode(anchor))


def forget_anchor(state_dir: Path) -> None:
    """What the vendor acknowledged was another node's. Raises OSError."""
    (state_dir / "anchor.json").unlink(missing_ok=True)


def _open(path: Path, node_public: str) -> Ledger:
    return Ledger(path, genesis_hash=genesis("", node_public, "first start"))


def _put_aside(path: Path) -> None:
    number = 1
    while (aside := path.with_name(f"{path.name}.broken-{number}")).exists():
        number += 1
    path.rename(aside)
    for end in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + end).unlink()


def _from_anchor(state_dir: Path, trust: Trust, why: str) -> Books:
    """Books of a ledger that is lost: the vendor's pool and token, no lease, no count. A new epoch will be granted (A15)."""
    try:
        anchor = decode_closed(read_private(state_dir / "anchor.json", MAX_ANCHOR_BYTES), Anchor)
        opened = trust.open(decode_envelope(anchor.ack.encode()), USAGE_ACK)
        ack = decode_closed(opened.payload, UsageAck)
    except FileNotFoundError:
        is_known = any((state_dir / "activations").glob("*.json"))
        return Books(findings={why: 0.0} if is_known else {})
    except (LicenseError, OSError):
        # What cannot be read says at least that there was something.
        return Books(findings={why: 0.0})
    return Books(
        license_id=anchor.license_id,
        activation_id=anchor.activation_id,
        epoch=ack.ack.epoch,
        token=ack.token,
        acked=AckedFigures(epoch=ack.ack.epoch, head=ack.ack.head, at=float(ack.server_time)),
        pool=ack.pool,
        contact_at=float(ack.server_time),
        activation_until=float(ack.activation_until),
        role=ack.role,
        findings={why: 0.0},
    )
