"""What we read of a DNS answer is what dnspython reads of it, and bytes that are none never do more than say so."""

import contextlib
import struct

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.dns.wire import HEADER, MalformedAnswer, Message, Record, read_answer

LABEL = st.one_of(
    st.sampled_from([b"a", b"MX", b"mail-1", b"_dmarc", b"example"]),
    st.binary(min_size=1, max_size=63),
)
NAME = st.lists(LABEL, max_size=4).filter(lambda labels: sum(len(x) + 1 for x in labels) < 255)
TTL = st.integers(0, 2**31 - 1)


def name_of(labels: list[bytes]) -> dns.name.Name:
    return dns.name.Name([*labels, b""])


RECORD = st.one_of(
    st.tuples(st.just("A"), st.ip_addresses(v=4).map(str)),
    st.tuples(st.just("AAAA"), st.ip_addresses(v=6).map(str)),
    st.tuples(
        st.just("MX"),
        st.tuples(st.integers(0, 65535), NAME).map(lambda x: f"{x[0]} {name_of(x[1])}"),
    ),
    st.tuples(st.just("CNAME"), NAME.map(lambda labels: str(name_of(labels)))),
    st.tuples(st.just("NS"), NAME.map(lambda labels: str(name_of(labels)))),
    st.tuples(st.just("TXT"), st.sampled_from(['"v=spf1 -all"', '"a" "b\\255"', '""'])),
    st.tuples(
        st.just("SOA"), st.tuples(NAME, TTL).map(lambda x: f"{name_of(x[0])} . 1 2 3 4 {x[1]}")
    ),
)


@st.composite
def messages(draw: st.DrawFn) -> dns.message.QueryMessage:
    query = dns.message.make_query(name_of(draw(NAME)), draw(st.sampled_from(["MX", "A", "TXT"])))
    if draw(st.booleans()):
        query.use_edns(0)
    response = dns.message.make_response(query)
    assert isinstance(response, dns.message.QueryMessage)
    response.flags |= draw(st.sampled_from([0, dns.flags.AA, dns.flags.RA, dns.flags.AD]))
    response.set_rcode(
        draw(st.sampled_from([dns.rcode.NOERROR, dns.rcode.NXDOMAIN, dns.rcode.SERVFAIL]))
    )
    names = [query.question[0].name, *(name_of(draw(NAME)) for _ in range(2))]
    for section in (response.answer, response.authority):
        for kind, text in draw(st.lists(RECORD, max_size=4)):
            name = draw(st.sampled_from(names))
            section.append(dns.rrset.from_text(name, draw(TTL), "IN", kind, text))
    return response


def as_text(name: dns.name.Name) -> str:
    """As `wire` writes a name, from the labels that dnspython found."""
    safe = b"abcdefghijklmnopqrstuvwxyz0123456789-_"
    labels = [label.lower() for label in name.labels if label]
    return ".".join(
        "".join(chr(b) if b in safe else f"\\{b:03d}" for b in label) for label in labels
    )


def as_record(name: dns.name.Name, ttl_s: int, rdata: dns.rdata.Rdata) -> Record | None:
    data: str | tuple[int, str] | bytes
    match rdata.rdtype:
        case dns.rdatatype.A | dns.rdatatype.AAAA:
            data = rdata.address  # type: ignore[attr-defined]
        case dns.rdatatype.MX:
            data = rdata.preference, as_text(rdata.exchange)  # type: ignore[attr-defined]
        case dns.rdatatype.CNAME:
            data = as_text(rdata.target)  # type: ignore[attr-defined]
        case dns.rdatatype.TXT:
            data = b"".join(rdata.strings)  # type: ignore[attr-defined]
        case _:
            return None
    return Record(as_text(name), int(rdata.rdtype), ttl_s, data)


def as_dnspython_reads(data: bytes) -> Message:
    """Raises DNSException."""
    message = dns.message.from_wire(data, ignore_trailing=True, one_rr_per_rrset=True)
    records = [as_record(s.name, s.ttl, s[0]) for s in message.answer]
    soas = [s for s in message.authority if s.rdtype == dns.rdatatype.SOA]
    return Message(
        as_text(message.question[0].name),
        message.flags,
        int(message.rcode()),
        tuple(record for record in records if record is not None),
        min((min(s.ttl, s[0].minimum) for s in soas), default=None),
    )


@settings(max_examples=150)
@given(messages())
def test_a_message_reads_as_dnspython_reads_it(message: dns.message.QueryMessage) -> None:
    wire = message.to_wire(max_size=65535)
    assert read_answer(wire) == as_dnspython_reads(wire)


@settings(max_examples=150)
@given(messages(), st.data())
def test_a_damaged_message_reads_as_dnspython_reads_it_or_not_at_all(
    message: dns.message.QueryMessage, data: st.DataObject
) -> None:
    wire = bytearray(message.to_wire(max_size=65535))
    for _ in range(data.draw(st.integers(1, 3))):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(wire[: data.draw(st.integers(len(wire) // 2, len(wire)))])
    try:
        read = read_answer(damaged)
    except MalformedAnswer:
        return
    try:
        expected = as_dnspython_reads(damaged)
    except (dns.exception.DNSException, ValueError, AttributeError, IndexError, struct.error):
        return  # it looks at more than we need: types nobody asked for, the additional section
    assert read.name == expected.name
    assert read.rcode == expected.rcode
    assert set(expected.answer) <= set(read.answer)


@settings(max_examples=150)
@given(st.binary(max_size=200), st.integers(0, 4), st.integers(0, 4), st.integers(0, 4))
def test_garbage_is_malformed_or_a_message_and_nothing_else(
    garbage: bytes, answers: int, authorities: int, additionals: int
) -> None:
    header = HEADER.pack(1, 0x8180, 1, answers, authorities, additionals)
    with contextlib.suppress(MalformedAnswer):
        read_answer(header + garbage)


def test_a_chain_of_pointers_as_long_as_a_message_ends_soon() -> None:
    chain = b"\0" + b"".join(struct.pack("!H", 0xC000 | (12 + 2 * n)) for n in range(2000))
    record = struct.pack("!HHHIH", 0xC000 | (12 + 3998), 1, 1, 0, 4) + b"\x7f\0\0\1"
    header = HEADER.pack(1, 0x8180, 1, 50, 0, 0)
    try:
        read_answer(header + chain + b"\0\0\1\0\1" + record * 50)
    except MalformedAnswer:
        return
    raise AssertionError("it was read")
