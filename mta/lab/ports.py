"""Loopback addresses for the lab's hosts: one port, free on every one of 127.0.0.2, 127.0.0.3, …

MX records carry no port, so all receiving servers of the simulated internet share one; the sockets stay bound from the
moment it is chosen, also those of hosts that play dead, so that nobody else can take it.
"""

import socket

ATTEMPTS = 50


def bind_hosts(count: int, first: int = 2) -> tuple[int, list[socket.socket]]:
    """A port and `count` bound sockets on 127.0.0.`first` and the addresses after it. Raises OSError."""
    if not 2 <= first <= first + count <= 255:
        raise ValueError("the lab's hosts fit into 127.0.0.2 to 127.0.0.254")
    for _ in range(ATTEMPTS):
        sockets: list[socket.socket] = []
        port = 0
        try:
            for number in range(first, first + count):
                # Without the protocol asyncio leaves Nagle's algorithm on: 44 ms a pipelined reply.
                sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
                sockets.append(sock)
                sock.setblocking(False)
                sock.bind((f"127.0.0.{number}", port))
                port = sock.getsockname()[1]
        except OSError:
            for sock in sockets:
                sock.close()
            continue
        return port, sockets
    raise OSError(f"no port is free on 127.0.0.{first} to 127.0.0.{first + count - 1}")
