from pathlib import Path

import dns.flags
import dns.message
import dns.rdatatype
import pytest

from mta.dns.exchange import encode_query, encode_question, parse_answer, parse_server
from mta.dns.resolver import read_system_servers
from mta.dns.wire import read_answer


def test_a_question_written_by_hand_is_what_dnspython_reads() -> None:
    question = encode_question("polite1.lab.example", dns.rdatatype.MX)
    message = dns.message.from_wire(encode_query(4711, question, edns=True))
    assert message.id == 4711
    assert message.question[0].to_text() == "polite1.lab.example. IN MX"
    assert message.flags == dns.flags.RD | dns.flags.AD
    assert (message.edns, message.payload) == (0, 1232)


def test_a_question_without_edns_has_no_opt_record() -> None:
    message = dns.message.from_wire(encode_query(1, encode_question("", dns.rdatatype.NS), False))
    assert message.edns == -1
    assert message.question[0].to_text() == ". IN NS"


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 11, b"\xff" * 40, b"\0\1\x81\x80\0\1\0\1\0\0\0\0\xc0\x0c"]
)
def test_bytes_that_are_no_answer_are_none(data: bytes) -> None:
    assert parse_answer(data) is None


def test_a_referral_without_authority_or_recursion_is_lame() -> None:
    query = dns.message.make_query("d.example", "MX")
    for flag, lame in ((0, True), (dns.flags.AA, False), (dns.flags.RA, False)):
        response = dns.message.make_response(query)
        response.flags |= flag
        assert read_answer(response.to_wire()).is_lame is lame


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("192.0.2.1", "192.0.2.1:53"),
        ("192.0.2.1:5353", "192.0.2.1:5353"),
        ("2001:db8::1", "[2001:db8::1]:53"),
        ("[2001:db8::1]:5353", "[2001:db8::1]:5353"),
    ],
)
def test_a_server_is_an_address_with_or_without_port(text: str, shown: str) -> None:
    assert str(parse_server(text)) == shown


@pytest.mark.parametrize("text", ["dns.example", "", "192.0.2.1:99999", "[::1", "1.2.3"])
def test_a_server_that_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_server(text)


def test_resolv_conf_names_the_servers(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text(
        "search a.example\n# nameserver 1.1.1.1\nnameserver 192.0.2.1\nnameserver ::1\n"
    )
    assert read_system_servers(file) == ("192.0.2.1", "::1")


def test_without_resolv_conf_this_host_is_asked(tmp_path: Path) -> None:
    assert read_system_servers(tmp_path / "none") == ("127.0.0.1",)
