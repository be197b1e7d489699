"""A link: messages between two of our own processes, over a socket pair that both inherited.

A frame is its length and a msgpack value. What is sent within one turn of the loop goes out in one write (a busy worker's
governor calls and heartbeats share it), in the order in which it was sent. Frames are bounded, and so is what waits for a peer
that does not read: beyond that the link is lost, as if the peer had died. Whoever is at the other end is one of us; what it
sends is still decoded by type, so that a mistake is found at the border.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any, cast

import msgspec
import structlog

logger = structlog.get_logger()

MAX_FRAME = 64 << 20  # a reload carries the whole configuration, keys and users included
MAX_WAITING = 128 << 20  # bytes for a peer that does not read
_LENGTH = struct.Struct("<I")

_encoder = msgspec.msgpack.Encoder()


class Link(asyncio.Protocol):
    """One end. Every message is given to `on_message`, in order; after the last, `on_lost` is called once."""

    def __init__(
        self,
        decoder: "msgspec.msgpack.Decoder[Any]",
        on_message: Callable[[Any], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._decoder = decoder
        self._on_message = on_message
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._frames: list[bytes] = []
        self._received = b""
        self._is_lost = False

    async def open(self, sock: socket.socket) -> None:
        """Speak over this socket from now on."""
        sock.setblocking(False)
        await self._loop.create_unix_connection(lambda: self, sock=sock)

    @property
    def is_lost(self) -> bool:
        return self._is_lost

    @property
    def waiting(self) -> int:
        """Bytes that the peer has not taken yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def send(self, message: object) -> None:
        """Send at the end of this turn of the loop, or once the link is open; nothing happens if the peer is gone."""
        if self._is_lost:
            return
        if not self._frames:
            self._loop.call_soon(self._flush)
        data = _encoder.encode(message)
        self._frames += (_LENGTH.pack(len(data)), data)

    def close(self) -> None:
        """Send what waits, then hang up."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def _flush(self) -> None:
        if self._transport is None or not self._frames:
            return  # not open yet: `connection_made` sends what is here by then
        frames, self._frames = self._frames, []
        self._transport.write(b"".join(frames))
        if self._transport.get_write_buffer_size() > MAX_WAITING:
            logger.error("a process of ours does not read; its link is cut")
            self._transport.abort()

    # -- asyncio.Protocol -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        # MAX_WAITING is the bound; the transport's own marks would only call back for nothing.
        self._transport.set_write_buffer_limits(high=MAX_WAITING)
        self._flush()

    def data_received(self, data: bytes) -> None:
        buffer = self._received + data if self._received else data
        at, end = 0, len(buffer)
        while end - at >= 4:
            (length,) = _LENGTH.unpack_from(buffer, at)
            if length > MAX_FRAME:
                logger.error("a frame is too long; the link is cut", bytes=length)
                self._abort()
                return
            if end - at - 4 < length:
                break
            frame = memoryview(buffer)[at + 4 : at + 4 + length]
            at += 4 + length
            self._take(frame)
        self._received = buffer[at:]

    def _take(self, frame: memoryview) -> None:
        try:
            self._on_message(self._decoder.decode(frame))
        except Exception:  # a border between processes: one message's fault must not end the link
            logger.exception("a fault of ours in a message between processes")

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        self._frames = []
        self._transport = None
        self._on_lost()
