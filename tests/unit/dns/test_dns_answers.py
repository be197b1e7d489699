import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from mta.dns.answers import (
    MAX_NEGATIVE_TTL,
    MAX_TTL,
    MIN_TTL,
    Addresses,
    Answer,
    Found,
    MxHost,
    NoAddress,
    NoMx,
    NoSuchDomain,
    NullMx,
    Reading,
    Temporary,
    Texts,
    is_askable,
    read_message,
)
from mta.dns.wire import Message, read_answer

MX, A, TXT = dns.rdatatype.MX, dns.rdatatype.A, dns.rdatatype.TXT
SOA = ". 60 IN SOA ns. host. 1 3600 600 86400 {minimum}"


def a_message(
    *records: str,
    rdtype: dns.rdatatype.RdataType = MX,
    rcode: dns.rcode.Rcode = dns.rcode.NOERROR,
    minimum: int | None = 60,
    flags: int = 0,
) -> Message:
    response = dns.message.make_response(dns.message.make_query("d.example", rdtype))
    response.set_rcode(rcode)
    response.flags |= flags
    for record in records:
        name, ttl, _, kind, rest = record.split(maxsplit=4)
        section = response.find_rrset(
            response.answer, dns.name.from_text(name), 1, dns.rdatatype.from_text(kind), create=True
        )
        section.update(dns.rrset.from_text(name, int(ttl), "IN", kind, rest))
    if minimum is not None and not any(f" {dns.rdatatype.to_text(rdtype)} " in r for r in records):
        response.authority.append(
            dns.rrset.from_text(".", 3600, "IN", "SOA", f"ns. host. 1 3600 600 86400 {minimum}")
        )
    return read_answer(response.to_wire())


def read_mx(*records: str, minimum: int | None = 60) -> Reading:
    return read_message(a_message(*records, minimum=minimum), MX)


def test_mx_hosts_come_best_first_in_lower_case_without_final_dot() -> None:
    reading = read_mx("d.example. 300 IN MX 20 B.example.", "d.example. 300 IN MX 10 a.Example.")
    assert reading.answer == Found((MxHost(10, "a.example"), MxHost(20, "b.example")), 300.0)


def test_a_lone_dot_is_a_null_mx() -> None:
    assert read_mx("d.example. 300 IN MX 0 .").answer == NullMx()


def test_a_dot_beside_other_hosts_is_left_out() -> None:
    reading = read_mx("d.example. 300 IN MX 0 .", "d.example. 300 IN MX 10 a.example.")
    assert reading.answer == Found((MxHost(10, "a.example"),), 300.0)


def test_mx_hosts_with_bytes_no_host_name_has_are_left_out() -> None:
    reading = read_mx(
        "d.example. 300 IN MX 1 a\\013\\010b.example.", "d.example. 300 IN MX 10 a.example."
    )
    assert reading.answer == Found((MxHost(10, "a.example"),), 300.0)


def test_only_unusable_mx_hosts_is_temporary_and_not_the_implicit_mx() -> None:
    assert isinstance(read_mx("d.example. 300 IN MX 1 a\\000b.example.").answer, Temporary)


def test_no_records_with_a_soa_says_that_there_is_no_mx() -> None:
    assert read_mx().answer == NoMx()


def test_an_nxdomain_is_no_such_domain_also_at_the_end_of_a_cname() -> None:
    for records in ((), ("d.example. 60 IN CNAME e.example.",)):
        message = a_message(*records, rcode=dns.rcode.NXDOMAIN)
        assert read_message(message, MX).answer == NoSuchDomain()


@pytest.mark.parametrize(
    ("ttl", "kept"), [(0, MIN_TTL), (1, MIN_TTL), (300, 300.0), (10_000_000, MAX_TTL)]
)
def test_a_ttl_is_kept_within_bounds(ttl: int, kept: float) -> None:
    assert read_mx(f"d.example. {ttl} IN MX 10 a.example.").ttl_s == kept


@pytest.mark.parametrize(
    ("minimum", "kept"),
    [(0, MIN_TTL), (90, 90.0), (86_400, MAX_NEGATIVE_TTL), (None, MIN_TTL)],
)
def test_a_negative_answer_lives_as_long_as_its_soa_says_but_five_minutes_at_most(
    minimum: int | None, kept: float
) -> None:
    message = a_message(rcode=dns.rcode.NXDOMAIN, minimum=minimum)
    assert read_message(message, MX).ttl_s == kept


def test_the_shortest_ttl_of_a_cname_chain_counts() -> None:
    reading = read_mx("d.example. 40 IN CNAME e.example.", "e.example. 900 IN MX 10 a.example.")
    assert isinstance(reading.answer, Found)
    assert reading.ttl_s == 40.0


def test_a_cname_whose_target_is_not_told_names_the_next_question() -> None:
    reading = read_mx("d.example. 40 IN CNAME e.example.", minimum=None)
    assert reading.next_name == "e.example"


def test_a_cname_loop_inside_one_message_is_temporary() -> None:
    reading = read_mx("d.example. 40 IN CNAME e.example.", "e.example. 40 IN CNAME d.example.")
    assert isinstance(reading.answer, Temporary)
    assert reading.next_name == ""


def test_the_ad_bit_is_kept() -> None:
    message = a_message("d.example. 300 IN MX 10 a.example.", flags=dns.flags.AD)
    answer = read_message(message, MX).answer
    assert isinstance(answer, Found)
    assert answer.authenticated


@pytest.mark.parametrize(
    ("rdtype", "records", "answer"),
    [
        (A, ("d.example. 60 IN A 192.0.2.1",), Addresses(("192.0.2.1",), ())),
        (A, (), NoAddress()),
        (
            dns.rdatatype.AAAA,
            ("d.example. 60 IN AAAA 2001:db8::1",),
            Addresses((), ("2001:db8::1",)),
        ),
        (TXT, ('d.example. 60 IN TXT "v=DKIM1; " "p=abc"',), Texts((b"v=DKIM1; p=abc",))),
        (TXT, (), Texts(())),
    ],
)
def test_addresses_and_texts_are_read(
    rdtype: dns.rdatatype.RdataType, records: tuple[str, ...], answer: Answer
) -> None:
    assert read_message(a_message(*records, rdtype=rdtype), rdtype).answer == answer


@pytest.mark.parametrize(
    "name", ["a", "gmail.com", "_dmarc.a.example", "xn--mnchen-3ya.de", "a" * 63 + ".de", "1.2.3.4"]
)
def test_names_the_dns_can_hold_are_askable(name: str) -> None:
    assert is_askable(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "a..b",
        "a" * 64 + ".de",
        "münchen.de",
        "a b.de",
        "a\r\nb.de",
        "-a.de",
        "[1.2.3.4]",
        ".".join(["a" * 60] * 5),
        "a.de\n",
    ],
)
def test_names_no_dns_can_hold_are_not_asked(name: str) -> None:
    assert not is_askable(name)
