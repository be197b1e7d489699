"""What the bench reads from others, and what it writes for them."""

import tomllib
from pathlib import Path

import pytest

from bench.peers import Setup
from bench.peers.sluice import count_deliveries, find_number, find_sum, format_config
from bench.processes import parse_pss
from bench.sink import parse_count
from bench.source import a_body


def a_setup(**changes: object) -> Setup:
    return Setup(**{"directory": Path("/x"), "sink_port": 2600, **changes})  # type: ignore[arg-type]


def test_the_sinks_last_count_counts() -> None:
    assert parse_count(b"sess=1 quit=0 mesg=19\rsess=1 quit=1 mesg=20\r") == 20
    assert parse_count(b"") == 0


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
    assert asked["dns"]["servers"] == ["127.0.0.1:53"]


def test_a_dead_destination_has_hosts_of_its_own() -> None:
    config = tomllib.loads(format_config(a_setup(dead_port=9), 2525))
    assert config["domain"]["dead.example"]["hosts"] == ["127.0.0.1:9"]
    assert config["accounting"]["main"]["records"] == ["d", "b"]
