"""Puts the licence server together and runs it: books, desk, two faces, the sweep. Only here are the others built."""

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import structlog
from aiohttp import web

from licensing.errors import LicenseError
from licensing.server.activating import SeatClerk
from licensing.server.admin import AdminFace
from licensing.server.app import Face, Limiters
from licensing.server.book import Book
from licensing.server.commit import Busy, Committer, NotCommitted
from licensing.server.db_open import open_books
from licensing.server.db_sqlite import KEPT_EVIDENCE_DAYS, SqliteStore
from licensing.server.desk import Desk, note
from licensing.server.doors import Doors, Entrance
from licensing.server.incidents import Incidents
from licensing.server.keyring import KeyRing
from licensing.server.letters import LetterClerk
from licensing.server.numbers import Numbers
from licensing.server.pool import day_at
from licensing.server.post import Post, Smarthost
from licensing.server.roles import EVERYBODY, Roles
from licensing.server.seats import MOVES_WINDOW_S
from licensing.server.signer import Signer
from licensing.trust import Trust

FENCE_JUMP = 1 << 20  # more leases than a backup can be behind (A27)
SWEEP_S = 60.0
LETTERS_S = 60.0
LICENSES_AT_ONCE = 50  # some milliseconds of the committer
STOP_S = 10.0  # for requests under way
BACKLOG = 1_024
KEEPALIVE_S = 75.0  # a node that reports each minute keeps its connection
EXIT_DISK = 75  # EX_TEMPFAIL: only a fresh start may trust the disk again

log = structlog.get_logger("sluice.license_server")


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What to serve, and where. `admin_listen` None: no admin face. `recover`: the books come from a backup.

    `smarthost` None: no mail; `copies` are the vendor's own addresses, to which every letter goes, too.
    """

    database: Path
    listen: tuple[str, int]
    tls: ssl.SSLContext | None
    admin_listen: tuple[str, int] | None = None
    admin_tls: ssl.SSLContext | None = None
    latest_version: str = ""
    recover: bool = False
    roles: Roles = EVERYBODY
    smarthost: Smarthost | None = None
    copies: tuple[str, ...] = ()


def tls_context(certificate: Path, key: Path, client_ca: Path | None = None) -> ssl.SSLContext:
    """TLS 1.2 or later; with `client_ca`, only for clients with a certificate of that authority. Raises LicenseError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
        if client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(client_ca)
    except (OSError, ssl.SSLError) as error:
        raise LicenseError(
            "tls", f"the certificate {certificate} or its key {key} cannot be used: {error}"
        ) from error
    return context


class Running:
    """A server that answers. `port` and `admin_port` are those the kernel gave, for a listen port of 0."""

    def __init__(self, desk: Desk, committer: Committer, port: int, admin_port: int | None) -> None:
        self.desk = desk
        self.committer = committer
        self.port = port
        self.admin_port = admin_port


@asynccontextmanager
async def serving(
    options: ServeOptions,
    signer: Signer,
    trust: Trust,
    *,
    now: Callable[[], float] = time.time,
    limiters: Limiters | None = None,
) -> AsyncIterator[Running]:
    """The server, from its first answer to its last. Raises LicenseError when it cannot begin."""
    lock = _own(options.database)
    try:
        store = SqliteStore(open_books(options.database))
        desk = Desk(
            Book.load(store.licenses(), store.revocations()), signer, trust, options.latest_version
        )
        if options.recover:
            _recover(store, now())
        keys = KeyRing(store.node_keys())
        committer = Committer(store)
        try:
            async with _faces(options, desk, committer, keys, now, limiters) as ports:
                yield Running(desk, committer, *ports)
        finally:
            await committer.close()
    finally:
        os.close(lock)


@asynccontextmanager
async def _faces(
    options: ServeOptions,
    desk: Desk,
    committer: Committer,
    keys: KeyRing,
    now: Callable[[], float],
    limiters: Limiters | None,
) -> AsyncIterator[tuple[int, int | None]]:
    incidents, numbers = Incidents(), Numbers()
    doors = Doors(now)
    _watch(numbers, desk, committer, keys, now)
    numbers.watch(
        "sluice_license_server_turned_away",
        "Connections of addresses that flooded the server, closed before TLS",
        lambda: doors.turned_away,
    )
    face = Face(
        desk,
        committer,
        keys,
        now=now,
        limiters=limiters or Limiters(),
        incidents=incidents,
        numbers=numbers,
        doors=doors,
    )
    admin = AdminFace(desk, committer, incidents, now=now, roles=options.roles)
    async with contextlib.AsyncExitStack() as stack:
        port = await stack.enter_async_context(
            listening(face.application(), options.listen, options.tls, doors)
        )
        admin_port = None
        if options.admin_listen is not None:
            admin_port = await stack.enter_async_context(
                listening(admin.application(), options.admin_listen, options.admin_tls)
            )
        tasks = [asyncio.create_task(_sweep(desk, committer, incidents, now))]
        if options.smarthost is not None:
            clerk = LetterClerk(desk, options.copies)
            tasks.append(asyncio.create_task(_write_letters(clerk, committer, now)))
            tasks.append(asyncio.create_task(Post(committer, options.smarthost, now=now).run()))
        try:
            yield port, admin_port
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


def _watch(
    numbers: Numbers, desk: Desk, committer: Committer, keys: KeyRing, now: Callable[[], float]
) -> None:
    numbers.watch(
        "sluice_license_server_waiting",
        "How full the waiting line is, 0 to 1",
        lambda: committer.load,
    )
    numbers.watch(
        "sluice_license_server_commits", "Commits since the start", lambda: committer.commits
    )
    numbers.watch("sluice_license_server_nodes", "Nodes known by their keys", lambda: len(keys))
    numbers.watch(
        "sluice_license_server_key_valid_seconds",
        "Until the delegation of the server-online key ends",
        lambda: desk.signer.valid_until - now(),
    )


def _without_addresses() -> logging.Logger:
    """Where aiohttp tells of requests that failed: it names the client's address, and a log would keep it for too long (C29)."""
    logger = logging.getLogger("sluice.license_server.http")
    if not logger.filters:
        logger.addFilter(_strip_address)
    return logger


def _strip_address(record: logging.LogRecord) -> bool:
    record.msg, record.args = str(record.msg).partition(" from ")[0], ()
    return True


@asynccontextmanager
async def listening(
    app: web.Application,
    address: tuple[str, int],
    tls: ssl.SSLContext | None,
    doors: Doors | None = None,
) -> AsyncIterator[int]:
    """Answer requests at this address, of those the doors let in; the port. Raises LicenseError."""
    runner = web.AppRunner(
        app,
        access_log=None,
        logger=_without_addresses(),
        keepalive_timeout=KEEPALIVE_S,
        shutdown_timeout=STOP_S,
    )
    await runner.setup()
    assert runner.server is not None
    try:
        is_ipv6 = ":" in address[0]
        bound = socket.create_server(
            address,
            family=socket.AF_INET6 if is_ipv6 else socket.AF_INET,
            backlog=BACKLOG,
            dualstack_ipv6=is_ipv6 and address[0] == "::",
        )
        bound.setblocking(False)
        with bound:
            entering = Entrance(bound, runner.server, tls, doors or Doors(time.monotonic))
            entrance = asyncio.create_task(entering.run())
            try:
                yield bound.getsockname()[1]
            finally:
                entrance.cancel()
                await asyncio.wait([entrance])
    except OSError as error:
        raise LicenseError(
            "listen", f"{address[0]} port {address[1]} cannot be listened on: {error}"
        ) from error
    finally:
        await runner.cleanup()


async def _sweep(
    desk: Desk, committer: Committer, incidents: Incidents, now: Callable[[], float]
) -> None:
    """Each minute: seats that lapsed, rewinds that had no twin, and what may not be kept any longer."""
    clerk = SeatClerk(desk)
    while True:
        await asyncio.sleep(SWEEP_S)
        at = int(now())
        oldest = (day_at(at) - timedelta(days=KEPT_EVIDENCE_DAYS)).isoformat()
        incidents.forget(at)
        try:
            await committer.run(lambda store, at=at: clerk.sweep(store, at))  # type: ignore[misc]
            await committer.run(
                lambda store, day=oldest, at=at: store.forget_before(day, at - MOVES_WINDOW_S)  # type: ignore[misc]
            )
        except (Busy, NotCommitted) as error:
            log.warning("sweep_put_off", why=str(error))


async def _write_letters(
    clerk: LetterClerk, committer: Committer, now: Callable[[], float]
) -> None:
    """Each minute, a few licences at a time: reports wait for none of it."""
    while True:
        for some in _in_parts(clerk.licenses(), LICENSES_AT_ONCE):
            try:
                await committer.run(
                    lambda store, some=some: clerk.write(store, some, int(now()))  # type: ignore[misc]
                )
            except (Busy, NotCommitted) as error:
                log.warning("letters_put_off", why=str(error))
        await asyncio.sleep(LETTERS_S)


def _in_parts(names: list[str], size: int) -> Iterator[list[str]]:
    return (names[at : at + size] for at in range(0, len(names), size))


def _recover(store: SqliteStore, now: float) -> None:
    """Books from a backup: no fence that was given since may come again; nodes show the rest themselves (A27)."""
    store.begin()
    store.raise_fences(FENCE_JUMP)
    note(store, now, "server", "recover", fences_raised_by=FENCE_JUMP)
    store.commit()


def _own(database: Path) -> int:
    """One process a database: the lock goes with the descriptor."""
    path = database.with_name(database.name + ".lock")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LicenseError("database", f"{path} cannot be made: {error}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise LicenseError("database", f"{database} is served by another process") from None
    return descriptor


# -- a process ----------------------------------------------------------------------------------------


async def run(options: ServeOptions, signer: Signer, trust: Trust) -> int:
    """Serve until SIGTERM or SIGINT; the exit status. Raises LicenseError when it cannot begin."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with serving(options, signer, trust) as server:
        log.info("serving", port=server.port, admin_port=server.admin_port)
        _notify("READY=1")
        stopped = asyncio.create_task(stop.wait())
        failed = asyncio.create_task(server.committer.failed.wait())
        beat = asyncio.create_task(_beat())
        await asyncio.wait([stopped, failed], return_when=asyncio.FIRST_COMPLETED)
        _notify("STOPPING=1")
        for task in (stopped, failed, beat):
            task.cancel()
        has_failed = server.committer.failed.is_set()
    if has_failed:
        log.error("database_failed", todo="look at the disk; the service starts again by itself")
    return EXIT_DISK if has_failed else 0


async def _beat() -> None:
    """Say to systemd that the loop still turns, twice in its watchdog's time."""
    microseconds = int(os.environ.get("WATCHDOG_USEC", "0") or 0)
    while microseconds:
        await asyncio.sleep(microseconds / 2_000_000)
        _notify("WATCHDOG=1")


def _notify(state: str) -> None:
    """sd_notify(3); nothing when systemd did not start us."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out, contextlib.suppress(OSError):
        out.connect("\0" + address[1:] if address.startswith("@") else address)
        out.send(state.encode())
