"""The nursery: a small process from which all others are forked, so that a worker starts in milliseconds and shares what it
imported with its siblings.

It is forked from the supervisor before that has a loop, a thread or a database, and never gets any: a fork of a process that has
them is not safe. It does two things: fork when told to, and say who ended. When the supervisor is gone, it ends; its children see
their own links end and do the same.

(The other way, a new interpreter for each worker, took 0.6 s of CPU and 40 MB each.)
"""

import asyncio
import contextlib
import gc
import os
import pickle
import selectors
import signal
import socket
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

MAX_NOTE = 4096

# What a child does with its two inherited sockets (link, door) until it ends; its exit code.
Life = Callable[[socket.socket, socket.socket, int], int]


@dataclass(frozen=True, slots=True)
class _Order:
    """To the nursery: fork one of these."""

    ticket: int
    kind: str
    number: int


@dataclass(frozen=True, slots=True)
class Born:
    """From the nursery: the child of this ticket runs."""

    ticket: int
    pid: int


@dataclass(frozen=True, slots=True)
class Died:
    """From the nursery: a child ended; `status` is its exit code, or minus the signal."""

    pid: int
    status: int


class Nursery:
    """The supervisor's handle on it."""

    def __init__(self, sock: socket.socket, pid: int) -> None:
        self._sock = sock
        self._next = 1
        self._born: dict[int, asyncio.Future[int]] = {}
        self._on_death: dict[int, Callable[[int], None]] = {}
        self._died_early: dict[int, int] = {}
        self.pid = pid
        self.on_lost: Callable[[], None] = lambda: None

    def attach(self) -> None:
        """Begin to listen to it, on the running loop."""
        asyncio.get_running_loop().add_reader(self._sock.fileno(), self._read)

    async def bear(
        self,
        kind: str,
        number: int,
        sockets: tuple[socket.socket, socket.socket],
        on_death: Callable[[int], None],
        timeout_s: float = 10.0,
    ) -> int:
        """Fork a child of this kind with these sockets, which are closed here; its pid. Raises OSError, TimeoutError.

        `on_death(status)` is called once, whenever it ends.
        """
        ticket, self._next = self._next, self._next + 1
        future = self._born[ticket] = asyncio.get_running_loop().create_future()
        note = pickle.dumps(_Order(ticket, kind, number))
        try:
            socket.send_fds(self._sock, [note], [each.fileno() for each in sockets])
            async with asyncio.timeout(timeout_s):
                pid: int = await future
        finally:
            self._born.pop(ticket, None)
            for each in sockets:
                each.close()
        if pid in self._died_early:
            on_death(self._died_early.pop(pid))
        else:
            self._on_death[pid] = on_death
        return pid

    def close(self) -> None:
        """It ends; children that still run end with their links."""
        if self._sock.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._sock.fileno())
            self._sock.close()

    def _read(self) -> None:
        try:
            note = self._sock.recv(MAX_NOTE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            note = b""
        if not note:
            self.close()
            for future in self._born.values():
                future.set_exception(OSError("the process that starts the others is gone"))
            self.on_lost()
            return
        match pickle.loads(note):
            case Born(ticket, pid) if ticket in self._born:
                self._born[ticket].set_result(pid)
            case Died(pid, status) if pid in self._on_death:
                self._on_death.pop(pid)(status)
            case Died(pid, status):
                self._died_early[pid] = status


def open_nursery(lives: Mapping[str, Life], *, not_theirs: Sequence[socket.socket] = ()) -> Nursery:
    """Fork it; to be called before there is a loop or a thread. `lives`: what each kind of child does.

    `not_theirs`: sockets that no child may keep open, or clients would be held by a process that never accepts them.
    """
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    gc.collect()
    gc.freeze()  # what is shared stays shared: the collector would write to every page
    pid = os.fork()
    if pid == 0:
        for each in (ours, *not_theirs):
            each.close()
        _live_and_exit(lambda: _tend(its, lives))
    its.close()
    ours.setblocking(False)
    return Nursery(ours, pid)


def _live_and_exit(life: Callable[[], int]) -> None:
    """The whole rest of a forked process; what its parent set up to run at exit is not ours to run."""
    code = 70  # EX_SOFTWARE
    try:
        code = life()
    except BaseException:  # the process's border
        traceback.print_exc()
    finally:
        os._exit(code)


def _tend(sock: socket.socket, lives: Mapping[str, Life]) -> int:
    """The nursery's own life: until the supervisor closes its end."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # meant for the supervisor; it tells whom it concerns
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    sock.setblocking(False)
    watch = selectors.DefaultSelector()
    watch.register(sock, selectors.EVENT_READ)
    watch.register(woken, selectors.EVENT_READ)
    own = (watch, woken, wake)
    while True:
        watch.select()
        with suppress(BlockingIOError):
            os.read(woken, 4096)
        try:
            note, fds, _, _ = socket.recv_fds(sock, MAX_NOTE, 2)
        except (BlockingIOError, InterruptedError):
            note, fds = None, []
        if note == b"":
            return 0
        if note is not None:
            _fork(sock, pickle.loads(note), fds, lives, own)
        _bury(sock)


def _fork(
    sock: socket.socket,
    order: _Order,
    fds: list[int],
    lives: Mapping[str, Life],
    own: tuple[selectors.BaseSelector, int, int],
) -> None:
    pid = os.fork()
    if pid == 0:
        _live_and_exit(lambda: _begin(sock, order, fds, lives, own))
    for fd in fds:
        os.close(fd)
    _say(sock, Born(order.ticket, pid))


def _begin(
    sock: socket.socket,
    order: _Order,
    fds: list[int],
    lives: Mapping[str, Life],
    own: tuple[selectors.BaseSelector, int, int],
) -> int:
    """The first breath of a child: give back what is the nursery's."""
    watch, woken, wake = own
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    watch.close()
    sock.close()
    os.close(woken)
    os.close(wake)
    link, door = (socket.socket(fileno=fd) for fd in fds)
    return lives[order.kind](link, door, order.number)


def _bury(sock: socket.socket) -> None:
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            _say(sock, Died(pid, os.waitstatus_to_exitcode(status)))


def _say(sock: socket.socket, word: Born | Died) -> None:
    with suppress(OSError):  # a full or closed socket: the supervisor is ending
        sock.send(pickle.dumps(word))
