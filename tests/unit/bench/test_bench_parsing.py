"""What the bench reads from others, and what it writes for them."""

import itertools
import tomllib
from collections import Counter
from pathlib import Path

import dns.message
import pytest

from bench.load import Load, pattern_words
from bench.machine import describe_python
from bench.names import answer
from bench.peers import Setup
from bench.peers.sluice import count_deliveries, find_number, find_sum, format_config
from bench.processes import parse_pss
from bench.recipients import domain_numbers, name_recipients
from bench.sink import parse_count
from bench.source import a_body, parse_arguments
from bench.uvsink import Receiver


def a_setup(**changes: object) -> Setup:
    return Setup(**{"directory": Path("/x"), "sink_port": 2600, **changes})  # type: ignore[arg-type]


def test_the_sinks_last_count_counts() -> None:
    assert parse_count(b"sess=1 quit=0 mesg=19\rsess=1 quit=1 mesg=20\r") == 20
    assert parse_count(b"") == 0


def test_a_number_that_is_being_written_does_not_count() -> None:
    assert parse_count(b"mesg=19 rcpt=190 refused=3\nmesg=20 rcpt=2") == 20
    assert parse_count(b"mesg=19 rcpt=190 refused=3\nmesg=20 rcpt=2", "rcpt") == 190


def test_the_proportional_set_size_is_read_in_bytes() -> None:
    assert parse_pss(b"Rss:      900 kB\nPss:      12 kB\nPss_Anon:  7 kB\n") == 12 * 1024
    assert parse_pss(b"") == 0


def test_a_number_is_found_at_any_depth_of_an_answer() -> None:
    answer = {"workers": [{"lag": 3}, {"lag": 4.5}], "lag": "none"}
    assert find_number(answer, "lag") == 4.5
    assert find_sum(answer, "lag") == 7.5
    assert find_number(answer, "absent") is None
    assert find_sum(answer, "absent") is None


def test_only_records_of_type_d_are_deliveries() -> None:
    assert count_deliveries(b"type,timeLogged\nd,x\nb,d,\nd,y\n") == 2
    assert count_deliveries(b"d,x\n") == 1


@pytest.mark.parametrize("size", [2, 3, 79, 80, 81, 82, 160, 161, 162, 4096])
def test_a_body_has_exactly_the_size_asked_for_and_only_clean_lines(size: int) -> None:
    body = a_body(size)
    assert len(body) == size
    assert body.endswith(b"\r\n")
    assert body.count(b"\r\n") == body.count(b"\r") == body.count(b"\n")


def test_all_mail_goes_to_the_sink_unless_the_dns_is_asked() -> None:
    routed = tomllib.loads(format_config(a_setup(total_connections=3), 2525))
    assert routed["default"] == {"max_connections": 40, "hosts": ["127.0.0.1:2600"]}
    assert routed["server"]["total_connections"] == 3
    asked = tomllib.loads(format_config(a_setup(dns_port=53), 2525))
    assert "hosts" not in asked["default"]
    assert asked["default"]["port"] == 2600
    assert asked["dns"]["servers"] == ["127.0.0.1:53"]


def test_a_dead_destination_has_hosts_of_its_own() -> None:
    config = tomllib.loads(format_config(a_setup(dead_port=9), 2525))
    assert config["domain"]["dead.example"]["hosts"] == ["127.0.0.1:9"]
    assert config["accounting"]["main"]["records"] == ["d", "b"]


def test_zipf_gives_each_domain_mail_in_proportion_to_its_rank() -> None:
    drawn = Counter(itertools.islice(domain_numbers(1_000, zipf=True), 50_000))
    assert max(drawn) <= 1_000
    assert drawn[1] == pytest.approx(50_000 / 7.485, rel=0.1)  # 1 over the sum of 1/k
    assert drawn[10] == pytest.approx(drawn[1] / 10, rel=0.2)


def test_every_contestant_gets_the_same_mail() -> None:
    first, second = (itertools.islice(domain_numbers(99, zipf=True), 500) for _ in range(2))
    assert list(first) == list(second)


def test_domains_take_turns_without_zipf() -> None:
    assert list(itertools.islice(domain_numbers(3, zipf=False), 5)) == [1, 2, 3, 1, 2]
    assert list(itertools.islice(domain_numbers(0, zipf=False), 2)) == [1, 1]


def test_a_message_has_as_many_recipients_as_asked_for() -> None:
    assert name_recipients("u{n}-{r}@d{d}.example", 7, 3, 2) == [
        "u7-1@d3.example",
        "u7-2@d3.example",
    ]


def test_the_command_line_of_the_source_says_what_the_load_asks_for() -> None:
    load = Load(100, 4096, recipient="user@d{d}.example", per_domain=20, per_second=50.0)
    work = parse_arguments(pattern_words(load, 2525))
    assert (work.count, work.domains, work.per_second, work.port) == (100, 5, 50.0, 2525)
    assert work.recipient == "user@d{d}.example"
    assert not work.zipf


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("d7.example", "MX", "10 mx.d7.example."),
        ("mx.d7.example", "A", "127.0.0.1"),
        ("mx.d7.example", "AAAA", None),
        ("d7.example", "TXT", None),
    ],
)
def test_every_domain_has_one_mx_on_this_machine(name: str, kind: str, text: str | None) -> None:
    query = dns.message.make_query(name, kind)
    response = dns.message.from_wire(answer(query.to_wire()))
    assert query.is_response(response)
    assert [str(item) for found in response.answer for item in found] == ([text] if text else [])
    assert bool(response.authority) == (text is None)  # the SOA that says for how long


def test_what_is_no_question_is_not_answered() -> None:
    assert answer(b"") == b""
    assert answer(b"x" * 20) == b""


def test_every_message_is_refused_exactly_once_and_each_at_one_step() -> None:
    receiver = Receiver(delay_s=0.0, refuse_first=True)
    for number in (2, 3):
        answers = [receiver.refuses(number, at_rcpt=at) for at in (True, False, True, False)]
        assert sum(answers) == 1
    assert receiver.tally.refused == 2
    assert not receiver.refuses(None, at_rcpt=True)


def test_the_time_from_stamp_to_arrival_is_kept() -> None:
    receiver = Receiver(delay_s=0.0, refuse_first=False)
    receiver.arrived(b"Subject: 1\r\nX-Bench-Stamp: 0.500000\r\n\r\nhi\r\n", 1)
    receiver.arrived(b"Subject: 2\r\n\r\nhi\r\n", 1)
    assert receiver.tally.messages == 2
    assert len(receiver.transits_s) == 1
    assert receiver.transits_s[0] > 0


def test_a_build_of_python_is_told_by_what_sysconfig_states() -> None:
    stated = {"CONFIG_ARGS": "'--enable-optimizations' '--with-lto'"}
    assert "PGO yes, LTO yes" in describe_python(stated)
    assert "PGO not stated, LTO not stated" in describe_python({"CONFIG_ARGS": None})
