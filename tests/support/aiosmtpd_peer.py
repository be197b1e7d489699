"""An aiosmtpd of a test's own, in a thread: an implementation that shares no line with ours."""

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from mta.lab.certificate import make_server_context
from tests.support.daemon import free_port

DOMAIN = "aiosmtpd.example"


class Aiosmtpd:
    """One running server; also aiosmtpd's handler."""

    def __init__(self, port: int) -> None:
        self.domain = DOMAIN
        self.port = port
        self._mail: list[bytes] = []

    @property
    def log(self) -> str:
        """What is known of it: how much it took."""
        return f"{len(self._mail)} messages"

    def mail(self) -> list[bytes]:
        """The messages it took."""
        return list(self._mail)

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        """Called by aiosmtpd when a message is complete."""
        self._mail.append(envelope.original_content or b"")
        return "250 2.0.0 taken"


class _Controller(Controller):  # type: ignore[misc, unused-ignore]
    """aiosmtpd's controller, which also ends the connections that are open when it stops."""

    def __init__(self, peer: Aiosmtpd, context: ssl.SSLContext) -> None:
        super().__init__(peer, "127.0.0.1", peer.port, tls_context=context, enable_SMTPUTF8=True)
        self._sessions: list[SMTP] = []

    def factory(self) -> SMTP:
        """Called by aiosmtpd for each connection."""
        session = super().factory()
        self._sessions.append(session)
        return session

    def end(self) -> None:
        """Close the port and every connection."""
        cutting = asyncio.run_coroutine_threadsafe(self._cut(), self.loop)
        cutting.result(10)
        self.stop()

    async def _cut(self) -> None:
        for session in self._sessions:
            if session.transport is not None:
                session.transport.abort()
        await asyncio.sleep(0)  # connection_lost runs in the next turn


@contextmanager
def an_aiosmtpd() -> Iterator[Aiosmtpd]:
    """A running server that offers STARTTLS."""
    peer = Aiosmtpd(free_port())
    controller = _Controller(peer, make_server_context(DOMAIN))
    controller.start()
    try:
        yield peer
    finally:
        controller.end()
