"""The PROXY header: what is one, what is none, and that never a byte behind it is taken (reliability S13)."""

import struct
from ipaddress import ip_address
from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.model.errors import ProtocolError
from mta.smtp.proxy import MAX_V2, NOBODY, SIGNATURE, HeaderReader, Proxied

BEHIND = b"EHLO client.example\r\n\x16\x03\x01"


def v2(body: bytes, *, command: int = 0x21, family: int = 0x11) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(body)) + body


IPV4 = ip_address("192.0.2.7").packed + ip_address("198.51.100.1").packed + b"\xd4\x31\0\x19"
IPV6 = ip_address("2001:db8::7").packed + ip_address("2001:db8::1").packed + b"\xd4\x31\0\x19"
GOOD = [
    (b"PROXY TCP4 192.0.2.7 198.51.100.1 54321 25\r\n", Proxied("192.0.2.7", "198.51.100.1")),
    (b"PROXY TCP6 2001:DB8::7 ::1 54321 25\r\n", Proxied("2001:db8::7", "::1")),
    (b"PROXY UNKNOWN\r\n", NOBODY),
    (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", NOBODY),
    (v2(IPV4), Proxied("192.0.2.7", "198.51.100.1")),
    (v2(IPV4 + b"\x04\0\x02ab"), Proxied("192.0.2.7", "198.51.100.1")),  # a TLV behind
    (v2(IPV6, family=0x21), Proxied("2001:db8::7", "2001:db8::1")),
    (v2(b"", command=0x20, family=0x00), NOBODY),  # LOCAL
    (v2(IPV4, command=0x20), NOBODY),
    (v2(b"\0" * 216, family=0x31), NOBODY),  # a Unix socket
    (v2(b"\0" * (MAX_V2 - 16), family=0x00), NOBODY),
]


def read(stream: bytes, cuts: list[int]) -> tuple[Proxied, bytes]:
    """What the header says when its bytes come in these portions, and what is left behind it."""
    reader = HeaderReader()
    sizes = cycle(cuts)
    here = 0
    while reader.wanted:
        here = max(here, 0) + next(sizes)
        waiting = stream[:here][: reader.wanted]
        if not waiting:
            raise AssertionError("it wants more than there is")
        taken = reader.count(waiting)
        reader.feed(stream[:taken])
        stream, here = stream[taken:], here - taken
    return reader.header(), stream


@pytest.mark.parametrize(("header", "said"), GOOD)
@given(cuts=st.lists(st.integers(1, 60), min_size=1, max_size=10))
def test_however_a_header_comes_it_says_the_same_and_nothing_behind_it_is_taken(
    header: bytes, said: Proxied, cuts: list[int]
) -> None:
    assert read(header + BEHIND, cuts) == (said, BEHIND)
    assert read(header + BEHIND, [10_000]) == (said, BEHIND)


@pytest.mark.parametrize(
    "header",
    [
        b"EHLO client.example\r\n" * 6,
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" * 10,
        b"PROXY TCP4 192.0.2.7 198.51.100.1 54321\r\n",
        b"PROXY TCP4 192.0.2.7  198.51.100.1 54321 25\r\n",
        b"PROXY TCP4 192.0.2.256 198.51.100.1 54321 25\r\n",
        b"PROXY TCP4 2001:db8::7 ::1 54321 25\r\n",
        b"PROXY TCP6 192.0.2.7 198.51.100.1 54321 25\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 25\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 54321 25\n",
        b"PROXY UDP4 192.0.2.7 198.51.100.1 54321 25\r\n",
        b"PROXY UNKNOWN " + b"x" * 200 + b"\r\n",
        b"proxy UNKNOWN\r\n" + BEHIND,
        v2(IPV4[:-1]),
        v2(IPV4, family=0x21),
        v2(IPV4, command=0x22),
        v2(IPV4, command=0x11),
        v2(b"\0" * (MAX_V2 - 15)),
        SIGNATURE[:-1] + b"X" + b"\0" * 100,
    ],
)
@pytest.mark.parametrize("cut", [1, 7, 10_000])
def test_what_is_no_header_is_refused(header: bytes, cut: int) -> None:
    with pytest.raises(ProtocolError):
        read(header, [cut])
