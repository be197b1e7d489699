"""Who may control the server: how its socket is opened, and who is at the other end of a connection.

The socket is 0660 from the moment its name exists (the umask is set before bind), and who connects
is checked once more by SO_PEERCRED: root, our own user, or a member of the socket's group.
"""

import contextlib
import errno
import os
import socket
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

from mta.control.protocol import ControlError

SOCKET_UMASK = 0o117  # 0777 & ~0117 = 0660
MAX_PATH_BYTES = 107  # sun_path holds 108 with its final zero
SO_PEERGROUPS = 59  # <asm-generic/socket.h>; the socket module has no name for it
_UCRED = struct.Struct("3i")  # pid, uid, gid


@dataclass(frozen=True, slots=True)
class Peer:
    """Who connected, as the kernel says it."""

    pid: int
    uid: int
    gids: frozenset[int]


def may_control(peer: Peer, own_uid: int, socket_gid: int) -> bool:
    """Root, the daemon's own user, or a member of the socket's group."""
    return peer.uid in (0, own_uid) or socket_gid in peer.gids


def read_peer(connection: socket.socket) -> Peer:
    """The peer's credentials at the time it connected."""
    pid, uid, gid = _UCRED.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    )
    return Peer(pid, uid, frozenset((gid, *_read_groups(connection))))


def _read_groups(connection: socket.socket) -> tuple[int, ...]:
    # 65,536 groups are the kernel's limit; nobody near 256 runs a mail server by hand.
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, 1024)
    except OSError:
        return ()
    return struct.unpack(f"{len(raw) // 4}I", raw)


def open_socket(path: Path, group: int | None = None) -> socket.socket:
    """A listening socket at `path`, 0660, for `group` (a gid) or our own.

    Takes the place of a socket that nobody answers. Raises ControlError when a daemon answers
    there, when something else has that name, or when the place cannot be used.
    """
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise ControlError(
            f"the control socket's path is too long: {path}",
            f"choose a control_socket of at most {MAX_PATH_BYTES} bytes",
        )
    _remove_stale(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Set before bind: with chmod after it, anybody could connect in between.
    before = os.umask(SOCKET_UMASK)
    try:
        listening.bind(str(path))
        if group is not None:
            os.chown(path, -1, group)
        listening.listen(64)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise ControlError(
            f"cannot open the control socket {path}: {error.strerror}",
            "its directory must exist and be writable for the daemon's user",
        ) from error
    finally:
        os.umask(before)
    return listening


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise ControlError(f"cannot look at {path}: {error.strerror}") from error
    if not stat.S_ISSOCK(mode):
        raise ControlError(f"{path} is no socket", "move it away, or change control_socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        result = probe.connect_ex(str(path))
    if result in (errno.ECONNREFUSED, errno.ENOENT):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
    else:  # it answers, or its queue is full: somebody is there
        raise ControlError(
            f"another daemon answers on {path}",
            "stop it first, or give this one a control_socket of its own",
        )
