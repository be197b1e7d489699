"""Orders of the operator: which can be given, and that they stand above every place of the configuration."""

import pytest

from mta.model.envelope import QueueKey
from mta.model.units import Rate
from mta.policy.book import Book, Layer
from mta.policy.orders import Order, make_order, ordered_book, stops_of
from mta.policy.rules import Place, SiteRules

KEY = QueueKey("one.example", "a")
OTHER = QueueKey("one.example", "b")


def a_book() -> Book:
    here = Place("sluice.toml", "somewhere")
    return Book(
        sites=[SiteRules("google", mx=("*.google.com",))],
        layers={
            ("default",): Layer(here, {"max_connections": 9}),
            ("vmta", "a", "domain", "one.example"): Layer(here, {"max_connections": 7}),
            ("vmta", "a", "site", "google"): Layer(here, {"max_connections": 6}),
        },
    )


def test_an_order_stands_above_the_most_specific_place_and_says_so() -> None:
    order = make_order("domain", "One.Example", "max_connections", "2", 1_800_000_000.0)
    book = ordered_book(a_book(), [order])
    policy = book.policy(KEY, "one.example")
    assert policy.max_connections == 2
    assert str(policy.places["max_connections"]) == (
        "order of the operator for domain one.example, until 2027-01-15 08:00:00 UTC"
    )
    assert a_book().policy(KEY, "one.example").max_connections == 7


def test_an_order_for_a_queue_is_for_that_queue_alone() -> None:
    book = ordered_book(a_book(), [make_order("queue", "one.example/a", "pause", "why", None)])
    assert book.policy(KEY, "one.example").stopped == "why"
    assert book.policy(OTHER, "one.example").stopped == ""


def test_a_sites_order_counts_for_its_domains_and_a_domains_beside_it() -> None:
    orders = [
        make_order("site", "google", "message_rate", "5/s", None),
        make_order("site", "google", "pause", "", 5.0),
        make_order("domain", "one.example", "message_rate", "1/s", None),
    ]
    policy = ordered_book(a_book(), orders).policy(KEY, "google")
    assert (policy.message_rate, policy.domain_message_rate) == (Rate(5, 1.0), Rate(1, 1.0))
    assert policy.stopped == "paused by the operator"
    assert "until" in str(policy.places["stopped"])
    assert "until" not in str(policy.places["message_rate"])  # each has its own end
    assert stops_of(orders) == {("site", "google", "pause")}


def test_a_site_without_a_name_is_its_domain() -> None:
    book = ordered_book(a_book(), [make_order("site", "two.example", "pause", "", None)])
    assert book.policy(QueueKey("two.example", "a"), "two.example").stopped


@pytest.mark.parametrize(
    ("scope", "name", "setting", "value"),
    [
        ("planet", "x", "pause", ""),
        ("domain", "", "pause", ""),
        ("domain", "a..b", "pause", ""),
        ("domain", "one.example", "expire_after", "1h"),
        ("domain", "one.example", "max_connections", "-1"),
        ("domain", "one.example", "message_rate", "soon"),
        ("domain", "one.example", "pause", "a\r\nb"),
        ("domain", "one.example", "pause", "x" * 201),
        ("job", "news", "message_rate", "1/s"),
        ("queue", "/a", "pause", ""),
    ],
)
def test_what_cannot_be_carried_out_is_refused(
    scope: str, name: str, setting: str, value: str
) -> None:
    with pytest.raises(ValueError, match=r".+"):
        make_order(scope, name, setting, value, None)


def test_a_job_changes_no_policy() -> None:
    assert not ordered_book(a_book(), [Order("job", "news", "pause")]).policy(KEY, "").stopped
