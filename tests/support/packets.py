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
from ipaddress import ip_address
from typing import Self

PACKET_OUTGOING = 4  # packet(7): as sent; each packet of loopback is seen a second time as received
ETH_P_IP, ETH_P_IPV6 = 0x0800, 0x86DD
IPPROTO_ICMP, IPPROTO_ICMPV6 = 1, 58
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
        self._choose()
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

    def _choose(self) -> None:
        _filter(self._sock)

    def _run(self) -> None:
        while True:
            is_last = self._stopping.is_set()
            ready, _, _ = select.select([self._sock], [], [], 0.0 if is_last else LOOK_S)
            if ready:
                data, (_, protocol, kind, _, _) = self._sock.recvfrom(128)
                if kind == PACKET_OUTGOING:
                    self._take(data, protocol)
            elif is_last:
                return

    def _take(self, data: bytes, protocol: int) -> None:
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


class Targets(Recorder):
    """Whom anybody on this loopback speaks to first: where TCP connections go, datagrams, and whatever else there is.

    For a network of its own (`tests.support.own_network`), where all that happens is ours.
    """

    def __init__(self) -> None:
        super().__init__(())
        self.seen_by: set[tuple[str, str, int]] = set()  # (protocol, address, port)

    def _choose(self) -> None:
        """Everything is of interest."""

    def _take(self, data: bytes, protocol: int) -> None:
        if protocol == ETH_P_IP:
            start, kind, target = (data[0] & 0x0F) * 4, data[9], data[16:20]
        elif protocol == ETH_P_IPV6:
            start, kind, target = 40, data[6], data[24:40]
        else:
            self.seen_by.add((f"ethertype {protocol:#x}", "", 0))
            return
        if kind in (IPPROTO_ICMP, IPPROTO_ICMPV6):
            return  # the kernel's own: a port is closed, a neighbour is looked for
        port = struct.unpack_from("!H", data, start + 2)[0]
        if kind == socket.IPPROTO_TCP:
            if data[start + 13] & (SYN | ACK) == SYN:
                self.seen_by.add(("tcp", str(ip_address(target)), port))
        else:
            name = "udp" if kind == socket.IPPROTO_UDP else f"protocol {kind}"
            self.seen_by.add((name, str(ip_address(target)), port))


def _filter(sock: socket.socket) -> None:
    program = b"".join(struct.pack("HBBI", *each) for each in _PROGRAM)
    held = ctypes.create_string_buffer(program)
    sock.setsockopt(
        socket.SOL_SOCKET,
        SO_ATTACH_FILTER,
        struct.pack("HL", len(_PROGRAM), ctypes.addressof(held)),
    )
