"""The daemon's end of the control socket: one request at a time, each with a deadline.

What changes something is logged with the asker's uid and pid. A slow or silent client costs a
connection, never the daemon: connections, line lengths and all waits are bounded.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, cast

import msgspec
import structlog

from mta.control.access import Peer, may_control, open_socket, read_peer
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

MAX_CONNECTIONS = 32
IDLE_TIMEOUT_S = 300.0
WRITE_TIMEOUT_S = 30.0
MAX_LOGGED = 200  # characters of an argument: a whole licence says no more to a reader of the log

log = structlog.get_logger()


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
            self._connected, sock=listening, limit=MAX_REQUEST
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

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of ours: of one that asyncio makes itself, it logs our cancelling it as a fault.
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
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
