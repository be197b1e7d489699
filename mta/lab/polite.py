"""Polite receiving servers, played by aiosmtpd: an independent implementation keeps ours honest."""

import asyncio
import socket
import ssl
from collections import Counter
from typing import cast

from aiosmtpd.smtp import SMTP, Envelope, Session

from mta.lab.mailbox import Mailbox

MAX_SIZE = 52_428_800


class PoliteReceiver:
    """An aiosmtpd server of one host name that takes everything; `sock` is bound and not listening."""

    def __init__(
        self,
        name: str,
        sock: socket.socket,
        mailbox: Mailbox,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.name = name
        self.mailbox = mailbox
        self.context = context
        self.counts: Counter[str] = Counter()
        self.open_now = 0
        self.peak = 0
        self.address: str = sock.getsockname()[0]
        self.port: int = sock.getsockname()[1]
        self._sock = sock
        self._server: asyncio.Server | None = None
        self._connections: set[_CountedSmtp] = set()

    async def start(self) -> None:
        """Listen."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _CountedSmtp(self), sock=self._sock, backlog=1024
        )

    async def stop(self) -> None:
        """Close the port and every connection."""
        if self._server is not None:
            self._server.close()
        self._sock.close()
        for connection in tuple(self._connections):
            transport = cast(asyncio.WriteTransport | None, connection.transport)
            if transport is not None:
                transport.abort()
        await asyncio.sleep(0)  # connection_lost runs in the next turn

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        """Called by aiosmtpd when a message is complete."""
        data = envelope.original_content or b""
        self.mailbox.take(
            self.name,
            envelope.mail_from or "",
            list(envelope.rcpt_tos),
            data,
            tls=session.ssl is not None,
        )
        return "250 2.0.0 taken"


class _CountedSmtp(SMTP):  # type: ignore[misc, unused-ignore]
    """aiosmtpd's protocol, counting its connections."""

    def __init__(self, owner: PoliteReceiver) -> None:
        self._owner = owner
        super().__init__(
            owner,
            data_size_limit=MAX_SIZE,
            hostname=owner.name,
            ident="ESMTP lab",
            tls_context=owner.context,
            loop=asyncio.get_running_loop(),
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self not in self._owner._connections:  # aiosmtpd calls it again after the TLS handshake
            owner = self._owner
            owner._connections.add(self)
            owner.counts["connections"] += 1
            owner.open_now += 1
            owner.peak = max(owner.peak, owner.open_now)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        if self in self._owner._connections:
            self._owner._connections.discard(self)
            self._owner.open_now -= 1
        super().connection_lost(error)
