"""Takes the PROXY header off an accepted socket, to its last byte and not one further: what follows may be a TLS handshake.

So it looks before it reads (MSG_PEEK), and reads what belongs to the header. The form is `mta.smtp.proxy`'s.
"""

import asyncio
import socket

from mta.model.errors import ProtocolError
from mta.smtp.proxy import HeaderReader, Proxied


async def read_proxy_header(sock: socket.socket, within_s: float) -> Proxied:
    """The header that a proxy has put in front. Raises ProtocolError, TimeoutError or OSError; closing is the caller's."""
    reader = HeaderReader()
    async with asyncio.timeout(within_s):
        while wanted := reader.wanted:
            try:
                waiting = sock.recv(wanted, socket.MSG_PEEK)
            except BlockingIOError:
                await _readable(sock)
                continue
            if not waiting:
                raise ProtocolError("hung up before the end of the PROXY header")
            reader.feed(sock.recv(reader.count(waiting)))
    return reader.header()


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def tell() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(sock.fileno(), tell)
    try:
        await ready
    finally:
        loop.remove_reader(sock.fileno())
