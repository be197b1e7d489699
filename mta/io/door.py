"""A door: passes open descriptors to another of our processes (SCM_RIGHTS), each with a short note.

A socket pair of its own, SOCK_SEQPACKET: a note and its descriptor arrive together or not at all, and a full door is seen at
once (`pass_on` answers False), so the sender can choose another process. uvloop's streams cannot carry descriptors.
"""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress

MAX_NOTE = 256
TAKEN_A_TURN = 64

Took = Callable[[bytes, socket.socket], None]


def door_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends, closed by exec, non-blocking."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setblocking(False)
    return ends


def pass_on(door: socket.socket, note: bytes, fd: int) -> bool:
    """Hand over a copy of `fd`; the caller closes its own. False: the other side is full or gone."""
    try:
        socket.send_fds(door, [note], [fd])
    except OSError:  # BlockingIOError: full; the others: nobody is there
        return False
    return True


class Door:
    """The receiving end: each note and its socket go to `took`."""

    def __init__(self, end: socket.socket, took: Took) -> None:
        self._end = end
        self._took = took
        self._loop = asyncio.get_running_loop()
        end.setblocking(False)
        self._loop.add_reader(end.fileno(), self._read)

    def close(self) -> None:
        """Take nothing more. What was passed and not taken goes back as a reset."""
        if self._end.fileno() >= 0:
            self._loop.remove_reader(self._end.fileno())
            self._end.close()

    def _read(self) -> None:
        for _ in range(TAKEN_A_TURN):
            try:
                note, fds, _, _ = socket.recv_fds(self._end, MAX_NOTE, 4)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                note, fds = b"", []
            if not note:  # the other end is closed
                self.close()
                return
            for fd in fds:
                sock = _socket_of(fd)
                if sock is not None:
                    self._took(note, sock)


def _socket_of(fd: int) -> socket.socket | None:
    try:
        sock = socket.socket(fileno=fd)
    except OSError:  # reset before it came through
        with suppress(OSError):
            socket.close(fd)
        return None
    sock.set_inheritable(False)
    sock.setblocking(False)
    return sock
