"""The header that a proxy puts before a client's first byte: the PROXY protocol, versions 1 and 2.

Read without touching what follows it: `HeaderReader` says how many bytes may be taken, and never
more than the header can still have. What it holds is believed by nobody here; who may send one is
the listener's rule (`proxy_from`).

haproxy.org, "The PROXY protocol", versions 1 and 2.
"""

import re
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

from mta.model.errors import ProtocolError

SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"  # §2.2: no other protocol begins so
MAX_V1 = 107  # §2.1: the longest line, CRLF included
# §2.2 asks to take 216 bytes at least; what a proxy adds of its own (TLS, names) stays within a few hundred.
MAX_V2 = 4096

_FIXED = len(SIGNATURE) + 4  # of version 2: signature, version and command, family, length
_V1 = re.compile(
    rb"PROXY (?:(TCP4|TCP6) ([0-9A-Fa-f:.]{3,39}) ([0-9A-Fa-f:.]{3,39}) ([0-9]{1,5}) ([0-9]{1,5})|UNKNOWN[ -~]*)\r\n"
)
_MAX_PORT = 65_535


class Proxied(NamedTuple):
    """Who is behind the proxy: the client's address and the one it connected to.

    Both are empty where the proxy speaks for itself (LOCAL, its health checks) or does not know.
    """

    client: str
    local: str


NOBODY = Proxied("", "")


class HeaderReader:
    """One header, in whatever pieces it comes."""

    def __init__(self) -> None:
        self._data = b""

    @property
    def wanted(self) -> int:
        """How many bytes more may belong to the header; 0: it is whole."""
        data = self._data
        if not SIGNATURE.startswith(data[: len(SIGNATURE)]):
            return 0 if data.endswith(b"\n") else MAX_V1 - len(data)
        if len(data) < _FIXED:
            return _FIXED - len(data)
        return _FIXED + _length(data) - len(data)

    def count(self, waiting: bytes) -> int:
        """How many of the bytes that wait to be read belong to the header."""
        wanted = self.wanted
        if self._data[:1] == b"\r" or (not self._data and waiting[:1] == b"\r"):
            return min(len(waiting), wanted)
        end = waiting.find(b"\n", 0, wanted) + 1
        return end or min(len(waiting), wanted)

    def feed(self, data: bytes) -> None:
        """Add what was read, as many bytes as `count` said. Raises ProtocolError once it is no header."""
        self._data += data
        data = self._data
        if SIGNATURE.startswith(data[: len(SIGNATURE)]):
            if len(data) >= _FIXED and _length(data) > MAX_V2 - _FIXED:
                raise ProtocolError(f"a PROXY header over {MAX_V2} bytes")
        elif not b"PROXY ".startswith(data[:6]) or (
            len(data) >= MAX_V1 and not data.endswith(b"\n")
        ):
            raise ProtocolError("no PROXY header")

    def header(self) -> Proxied:
        """What the whole header says. Raises ProtocolError."""
        assert not self.wanted, "the header is not whole"
        data = self._data
        return _read_v2(data) if data.startswith(SIGNATURE) else _read_v1(data)


def _length(data: bytes) -> int:
    """Of version 2: how many bytes follow the fixed part."""
    length: int = struct.unpack_from("!H", data, _FIXED - 2)[0]
    return length


def _read_v1(line: bytes) -> Proxied:
    found = _V1.fullmatch(line)
    if found is None:
        raise ProtocolError("a PROXY header of version 1 that is none")
    family, *texts = (group.decode("ascii") if group else "" for group in found.groups())
    if not family:
        return NOBODY
    read = IPv4Address if family == "TCP4" else IPv6Address
    try:
        client, local = read(texts[0]), read(texts[1])
    except ValueError:
        raise ProtocolError("a PROXY header with an address that is none") from None
    if max(int(texts[2]), int(texts[3])) > _MAX_PORT:
        raise ProtocolError("a PROXY header with a port that is none")
    return Proxied(str(client), str(local))


def _read_v2(data: bytes) -> Proxied:
    version_and_command, family = data[len(SIGNATURE)], data[len(SIGNATURE) + 1]
    if version_and_command == 0x20:  # LOCAL: nothing else in it counts
        return NOBODY
    if version_and_command != 0x21:
        raise ProtocolError("a PROXY header of an unknown version or command")
    body = data[_FIXED:]
    if family == 0x11:  # TCP over IPv4: two addresses, two ports
        if len(body) < 12:
            raise ProtocolError("a PROXY header that is cut short")
        return Proxied(str(IPv4Address(body[:4])), str(IPv4Address(body[4:8])))
    if family == 0x21:  # TCP over IPv6
        if len(body) < 36:
            raise ProtocolError("a PROXY header that is cut short")
        return Proxied(str(IPv6Address(body[:16])), str(IPv6Address(body[16:32])))
    return NOBODY  # a Unix socket, or unspecified: §2.2 wants it taken, and its addresses ignored
