"""The daemon's end of the control socket: who may ask, one request at a time, each with a deadline.

The socket is 0660 from the moment its name exists (the umask is set before bind), and who connects
is checked once more by SO_PEERCRED: root, our own user, or a member of the socket's group. What
changes something is logged with the asker's uid and pid. A slow or silent client costs a
connection, never the daemon: connections, line lengths and all waits are bounded.
"""

import asyncio
import contextlib
import errno
import os
import socket
import stat
import struct
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import msgspec
import structlog

from mta.control.asker import ASKER, user_name
from mta.control.protocol import (
    MAX_ANSWER,
    MAX_REQUEST,
    Answer,
    ControlError,
    ErrorBody,
    Request,
    decode_request,
    encode_line,
)
from mta.control.registry import Registry, Verb

SOCKET_UMASK = 0o117  # 0777 & ~0117 = 0660
MAX_CONNECTIONS = 32
IDLE_TIMEOUT_S = 300.0
WRITE_TIMEOUT_S = 30.0
MAX_LOGGED = 200  # characters of an argument: a whole licence says no more to a reader of the log
MAX_PATH_BYTES = 107  # sun_path holds 108 with its final zero
SO_PEERGROUPS = 59  # <asm-generic/socket.h>; the socket module has no name for it
_UCRED = struct.Struct("3i")  # pid, uid, gid

log = structlog.get_logger()


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


class _HangUp(Exception):
    """The client does not take its answer."""


class ControlServer:
    """Answers requests on the control socket. Lives on one event loop."""

    def __init__(self, path: Path, registry: Registry, *, group: int | None = None) -> None:
        self.path = path
        self._registry = registry
        self._group = group
        self._server: asyncio.Server | None = None
        self._inode = 0
        self._gid = -1
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Open the socket and listen; raises ControlError."""
        listening = open_socket(self.path, self._group)
        status = self.path.stat()
        self._inode, self._gid = status.st_ino, status.st_gid
        self._server = await asyncio.start_unix_server(
            self._serve, sock=listening, limit=MAX_REQUEST
        )

    async def close(self) -> None:
        """Stop listening, remove the socket if it is still ours, end what is under way."""
        if self._server is not None:
            self._server.close()
        with contextlib.suppress(OSError):
            if self.path.stat().st_ino == self._inode:
                self.path.unlink()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._tasks.add(task)
        try:
            peer = read_peer(writer.get_extra_info("socket"))
            refusal = self._refusal(peer)
            if refusal is not None:
                await _send(writer, _error_line(refusal))
            else:
                await self._converse(reader, writer, peer)
        except (OSError, asyncio.IncompleteReadError, _HangUp):
            pass  # the client has gone, or was too slow
        except Exception:  # a task border: one connection
            log.exception("control connection failed")
        finally:
            self._tasks.discard(task)
            writer.close()

    def _refusal(self, peer: Peer) -> ControlError | None:
        if not may_control(peer, os.geteuid(), self._gid):
            log.warning("control connection refused", uid=peer.uid, pid=peer.pid)
            return ControlError(
                "you may not control this daemon",
                f"become root, or a member of the group of {self.path}",
            )
        if len(self._tasks) > MAX_CONNECTIONS:
            return ControlError("too many control connections", "try again in a moment")
        return None

    async def _converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: Peer
    ) -> None:
        while True:
            async with asyncio.timeout(IDLE_TIMEOUT_S):
                try:
                    line = await reader.readuntil(b"\n")
                except asyncio.LimitOverrunError:
                    too_long = ControlError(f"a request has at most {MAX_REQUEST} bytes")
                    await _send(writer, _error_line(too_long))
                    return
            await self._answer(line, writer, peer)

    async def _answer(self, line: bytes, writer: asyncio.StreamWriter, peer: Peer) -> None:
        """Carry out one request and send its last line; what goes wrong is an answer too."""
        try:
            request = _parse(line)
            verb = self._registry.find(request.verb)
            args = self._registry.parse_args(verb, request.args)
            ASKER.set(user_name(peer.uid))
            if verb.changes:
                told = _shortened(request.args)
                log.info("control", verb=verb.name, uid=peer.uid, pid=peer.pid, args=told)
            async with asyncio.timeout(verb.deadline_s):
                last = _bounded(encode_line(Answer(ok=await _run(verb, args, writer))))
        except ControlError as error:
            last = _error_line(error)
        except _HangUp:
            raise
        except TimeoutError:
            text = f"{verb.name} took longer than {verb.deadline_s:g} s"
            last = _error_line(ControlError(text, "it may still go on; look at the status"))
        except Exception as error:  # a task border: the operator hears of it
            log.exception("control verb failed", verb=request.verb)
            last = _error_line(
                ControlError(
                    f"a fault of ours: {type(error).__name__}: {error}", "the log has the details"
                )
            )
        await _send(writer, last)


async def _run(verb: Verb, args: Any, writer: asyncio.StreamWriter) -> object:
    """The verb's answer; None after a stream, whose items were sent on the way."""
    result = verb.run(args)
    if not isinstance(result, AsyncIterator):
        return await result
    items: list[object] = []
    async with contextlib.aclosing(cast(Any, result)):
        async for item in result:
            items.append(item)
            if len(items) >= verb.items_per_line:
                await _send(writer, _bounded(encode_line(Answer(items=items))))
                items = []
    if items:
        await _send(writer, _bounded(encode_line(Answer(items=items))))
    return None


async def _send(writer: asyncio.StreamWriter, line: bytes) -> None:
    writer.write(line)
    try:
        async with asyncio.timeout(WRITE_TIMEOUT_S):
            await writer.drain()
    except OSError as error:  # TimeoutError is one: the client does not read
        raise _HangUp from error


def _parse(line: bytes) -> Request:
    try:
        return decode_request(line)
    except msgspec.DecodeError as error:
        raise ControlError(f"no request: {error}", 'send {"verb": …, "args": {…}}') from error


def _shortened(args: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments as the log has them."""
    return {name: _short(value) for name, value in args.items()}


def _short(value: Any) -> Any:
    if isinstance(value, str) and len(value) > MAX_LOGGED:
        return f"{value[:MAX_LOGGED]}… ({len(value)} characters)"
    if isinstance(value, list | dict) and value:
        return f"({len(value)} values)"
    return value


def _bounded(line: bytes) -> bytes:
    if len(line) > MAX_ANSWER:
        raise ControlError(f"the answer has {len(line)} bytes", "ask for less: use a filter")
    return line


def _error_line(error: ControlError) -> bytes:
    return encode_line(Answer(error=ErrorBody(error.text, error.hint)))
