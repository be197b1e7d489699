"""What can be seen on the wire of loopback: when connections begin and end, packet by packet, as the sender's kernel sends them.

A raw packet socket (needs root) with a filter in the kernel: only TCP segments with SYN, FIN or RST, so that nothing is lost
under load. A connection counts from its client's SYN to its client's FIN, or to a RST of either side.
"""

import ctypes
import select
import socket
import struct
import threading
from collections.abc import Collection
from typing import Self

PACKET_OUTGOING = 4  # packet(7): as sent; each packet of loopback is seen a second time as received
ETH_P_IP = 0x0800
SO_ATTACH_FILTER = 26
SO_RCVBUFFORCE = 33
BUFFER = 32 << 20
LOOK_S = 0.1
FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10

# Classic BPF over the IP header: protocol 6, and one of FIN, SYN, RST in the TCP header behind it.
_PROGRAM = (
    (0x30, 0, 0, 9),  # ldb [9]: the protocol
    (0x15, 0, 4, 6),  # jeq TCP
    (0xB1, 0, 0, 0),  # ldxb 4*([0]&0xf): the length of the IP header
    (0x50, 0, 0, 13),  # ldb [x+13]: the flags
    (0x45, 0, 1, FIN | SYN | RST),  # jset
    (0x06, 0, 0, 0xFFFF),  # take it
    (0x06, 0, 0, 0),  # drop it
)

Ends = tuple[bytes, int, bytes, int]


class Recorder:
    """Connections to some ports, from `with` to its end: how many there are, and the most there ever were at once."""

    def __init__(self, ports: Collection[int]) -> None:
        self._ports = frozenset(ports)
        self._open: set[Ends] = set()
        self.peak = 0
        self.seen = 0  # connections begun
        self._sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP))
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="packets", daemon=True)

    def __enter__(self) -> Self:
        _filter(self._sock)
        self._sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        self._sock.bind(("lo", 0x0003))  # ETH_P_ALL: what is sent is seen only so
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(10.0)
        self._sock.close()

    @property
    def open_now(self) -> int:
        """Connections begun and not ended."""
        return len(self._open)

    def _run(self) -> None:
        while True:
            is_last = self._stopping.is_set()
            ready, _, _ = select.select([self._sock], [], [], 0.0 if is_last else LOOK_S)
            if ready:
                data, (_, _, kind, _, _) = self._sock.recvfrom(128)
                if kind == PACKET_OUTGOING:
                    self._take(data)
            elif is_last:
                return

    def _take(self, data: bytes) -> None:
        start = (data[0] & 0x0F) * 4
        source, target = data[12:16], data[16:20]
        from_port, to_port = struct.unpack_from("!HH", data, start)
        flags = data[start + 13]
        if to_port in self._ports:
            ends = (source, from_port, target, to_port)
            if flags & SYN:
                # A repeated SYN is the same connection.
                self.seen += ends not in self._open
                self._open.add(ends)
                self.peak = max(self.peak, len(self._open))
            else:
                self._open.discard(ends)
        elif from_port in self._ports and flags & RST:
            self._open.discard((target, to_port, source, from_port))


def _filter(sock: socket.socket) -> None:
    program = b"".join(struct.pack("HBBI", *each) for each in _PROGRAM)
    held = ctypes.create_string_buffer(program)
    sock.setsockopt(
        socket.SOL_SOCKET,
        SO_ATTACH_FILTER,
        struct.pack("HL", len(_PROGRAM), ctypes.addressof(held)),
    )
