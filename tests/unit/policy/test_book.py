"""The book of policies: which value wins, what it counts, and where it says it was set."""

import timeit

import pytest

from mta.model.envelope import QueueKey
from mta.model.units import Rate
from mta.policy.book import MAX_POLICIES, Book, Layer, Path
from mta.policy.rules import BUILT_IN, Place, QueuePolicy, ServerRules, SiteRules, VmtaRules

GMAIL = QueueKey("gmail.com", "a")
# Most specific first, as architecture.md section 6 has it.
PLACES: tuple[Path, ...] = (
    ("vmta", "a", "domain", "gmail.com"),
    ("domain", "gmail.com"),
    ("vmta", "a", "site", "google"),
    ("site", "google"),
    ("vmta", "a"),
    ("default",),
)


def a_layer(path: Path, **values: object) -> Layer:
    return Layer(Place("test.toml", ".".join(path)), values)


def a_book(*layers: tuple[Path, dict[str, object]], **totals: object) -> Book:
    return Book(
        server=ServerRules("mta.example", "/spool", total_connections=2000),
        server_place=Place("test.toml", "server"),
        vmtas=[VmtaRules("a", total_connections=200, place=Place("test.toml", "vmta.a"))],
        sites=[SiteRules("google", ("*.google.com", "mx.special.example"), ("listed.example",))],
        layers={path: a_layer(path, **values) for path, values in layers},
    )


@pytest.mark.parametrize("first", range(len(PLACES)))
def test_the_most_specific_place_that_sets_a_value_wins(first: int) -> None:
    book = a_book(*((path, {"port": 1000 + n}) for n, path in enumerate(PLACES) if n >= first))
    policy = book.policy(GMAIL, "google")
    assert policy.port == 1000 + first
    assert policy.places["port"].section == ".".join(PLACES[first])


def test_values_are_resolved_one_by_one() -> None:
    book = a_book(
        (("default",), {"port": 26, "idle_timeout": 1.0}),
        (("domain", "gmail.com"), {"port": 27}),
        (("site", "google"), {"connect_timeout": 9.0}),
    )
    policy = book.policy(GMAIL, "google")
    assert (policy.port, policy.idle_timeout, policy.connect_timeout) == (27, 1.0, 9.0)


def test_a_value_nobody_sets_is_our_default_and_says_so() -> None:
    book = a_book()
    assert book.policy(GMAIL, "google") == QueuePolicy(places={})
    assert all(place == BUILT_IN for _, _, place in book.explain_policy(GMAIL, "google"))


def test_places_of_another_domain_site_or_virtual_mta_do_not_count() -> None:
    book = a_book(
        (("domain", "other.example"), {"port": 1}),
        (("site", "yahoo"), {"port": 2}),
        (("vmta", "b"), {"port": 3}),
        (("vmta", "b", "domain", "gmail.com"), {"port": 4}),
    )
    assert book.policy(GMAIL, "google").port == QueuePolicy().port


def test_an_unlimited_value_hides_a_limit_of_a_more_general_place() -> None:
    book = a_book(
        (("default",), {"max_connections": 5}), (("vmta", "a"), {"max_connections": None})
    )
    assert book.policy(GMAIL, "gmail.com").max_connections is None
    assert book.policy(QueueKey("gmail.com", "b"), "gmail.com").max_connections == 5
    assert all(not name.startswith("site:") for name, _ in book.demand(GMAIL, "", False))


def test_timeouts_are_resolved_step_by_step() -> None:
    book = a_book(
        (("default",), {"timeouts": {"mail": 1.0, "rcpt": 2.0}}),
        (("site", "google"), {"timeouts": {"rcpt": 3.0}}),
    )
    assert book.policy(GMAIL, "google").timeouts == {"mail": 1.0, "rcpt": 3.0}
    rows = {
        name: (value, place.section) for name, value, place in book.explain_policy(GMAIL, "google")
    }
    assert rows["timeouts.mail"] == (1.0, "default")
    assert rows["timeouts.rcpt"] == (3.0, "site.google")


def test_in_a_named_site_a_domain_limit_counts_in_addition_to_the_site_limit() -> None:
    book = a_book(
        (("site", "google"), {"max_connections": 20, "message_rate": Rate(300, 60.0)}),
        (("domain", "gmail.com"), {"max_connections": 5, "connection_rate": Rate(1, 1.0)}),
    )
    policy = book.policy(GMAIL, "google")
    assert (policy.max_connections, policy.domain_max_connections) == (20, 5)
    assert (policy.message_rate, policy.domain_message_rate) == (Rate(300, 60.0), None)
    assert (policy.connection_rate, policy.domain_connection_rate) == (None, Rate(1, 1.0))
    assert book.demand(GMAIL, "google", False) == (
        ("domain:gmail.com|a", 5),
        ("site:google|a", 20),
        ("vmta:a", 200),
        ("server", 2000),
    )
    other = QueueKey("googlemail.com", "a")
    assert book.demand(other, "google", False)[0] == ("site:google|a", 20)


def test_a_domain_that_is_its_own_site_may_set_its_limit_higher_than_the_default() -> None:
    book = a_book(
        (("default",), {"max_connections": 10}), (("domain", "gmail.com"), {"max_connections": 50})
    )
    policy = book.policy(GMAIL, "gmail.com")
    assert (policy.max_connections, policy.domain_max_connections) == (50, None)
    assert book.demand(GMAIL, "gmail.com", False)[0] == ("site:gmail.com|a", 50)
    assert book.policy(GMAIL, "") is policy  # the route is not known yet


def test_the_unproven_hold_together_a_third_of_what_others_share() -> None:
    book = a_book(
        (("site", "google"), {"max_connections": 2}),
        (("domain", "gmail.com"), {"max_connections": 9}),
    )
    in_site = dict(book.demand(GMAIL, "google", True))
    assert in_site["site:google|a|unproven"] == 1  # at least one
    assert in_site["vmta:a|unproven"] == 66
    assert in_site["server|unproven"] == 666
    assert "domain:gmail.com|a|unproven" not in in_site
    # A domain that is its own site shares its limit with nobody.
    alone = dict(book.demand(GMAIL, "gmail.com", True))
    assert "site:gmail.com|a|unproven" not in alone
    assert "vmta:a|unproven" in alone


def test_what_has_no_limit_is_not_asked_for() -> None:
    book = Book(layers={("default",): a_layer(("default",), max_connections=None)})
    assert book.demand(GMAIL, "gmail.com", True) == ()
    assert book.rate_keys(GMAIL, "gmail.com") == ()


def test_rates_name_their_key_and_the_place_they_were_set_in() -> None:
    rate = Rate(10, 60.0)
    book = Book(
        server=ServerRules("h", "s", total_message_rate=Rate(4, 1.0)),
        server_place=Place("test.toml", "server"),
        vmtas=[VmtaRules("a", total_message_rate=Rate(3, 1.0), place=Place("v.toml", "vmta.a"))],
        sites=[SiteRules("google", ("*.google.com",))],
        layers={
            ("default",): a_layer(("default",), message_rate=rate, connection_rate=Rate(2, 1.0)),
            ("domain", "gmail.com"): a_layer(("domain", "gmail.com"), message_rate=Rate(1, 1.0)),
        },
    )
    named = [(name, value, place.section) for name, value, place in book.rate_keys(GMAIL, "google")]
    assert named == [
        ("message_rate:domain:gmail.com|a", Rate(1, 1.0), "domain.gmail.com"),
        ("message_rate:site:google|a", rate, "default"),
        ("message_rate:vmta:a", Rate(3, 1.0), "vmta.a"),
        ("message_rate:server", Rate(4, 1.0), "server"),
    ]
    connection = book.connection_rate_keys(GMAIL, "google")
    assert [(name, value) for name, value, _ in connection] == [
        ("connection_rate:site:google|a", Rate(2, 1.0))
    ]


def test_every_key_that_can_make_a_queue_wait_has_a_place() -> None:
    book = a_book((("domain", "gmail.com"), {"max_connections": 5, "message_rate": Rate(1, 1.0)}))
    places = book.limit_places(GMAIL, "google")
    keys = {name for name, _ in book.demand(GMAIL, "google", True)}
    keys |= {name for name, _, _ in book.rate_keys(GMAIL, "google")}
    assert keys <= places.keys()
    assert places["vmta:a|unproven"].section == "vmta.a"
    assert places["site:google|a"] == BUILT_IN


@pytest.mark.parametrize(
    ("domain", "mx", "site"),
    [
        ("gmail.com", ["aspmx.l.google.com", "alt1.google.com"], "google"),
        ("gmail.com", ["aspmx.l.google.com", "mx.other.example"], "gmail.com"),
        ("gmail.com", ["google.com"], "gmail.com"),  # *. is what stands below
        ("gmail.com", ["notgoogle.com"], "gmail.com"),
        ("gmail.com", ["mx.special.example"], "google"),
        ("gmail.com", ["a.mx.special.example"], "gmail.com"),
        ("gmail.com", [], "gmail.com"),
        ("listed.example", [], "google"),
        ("listed.example", ["mx.other.example"], "google"),
    ],
)
def test_a_site_needs_every_most_preferred_host_or_the_domain_listed(
    domain: str, mx: list[str], site: str
) -> None:
    assert a_book().site_for(domain, mx) == site


def test_the_first_site_that_matches_wins() -> None:
    book = Book(sites=[SiteRules("one", ("*.x.example",)), SiteRules("two", ("*.x.example",))])
    assert book.site_for("d.example", ["mx.x.example"]) == "one"


def test_queues_that_resolve_alike_share_one_policy() -> None:
    book = a_book((("domain", "gmail.com"), {"port": 26}))
    policies = {
        id(book.policy(QueueKey(f"d{n}.example", "a"), f"d{n}.example")) for n in range(1000)
    }
    assert len(policies) == 1
    assert book.policy(GMAIL, "gmail.com").port == 26


def test_the_cache_of_policies_is_bounded() -> None:
    book = a_book()
    for n in range(MAX_POLICIES + 10):
        book.policy(QueueKey("d.example", f"v{n}"), "")
    assert len(book._policies) == MAX_POLICIES


def test_a_virtual_mta_taken_out_of_the_configuration_is_unknown_but_has_a_policy() -> None:
    book = a_book()
    assert book.vmta("gone") is None
    assert book.policy(QueueKey("gmail.com", "gone"), "google") is not None


def test_a_resolved_policy_is_found_in_a_microsecond() -> None:
    book = a_book((("domain", "gmail.com"), {"port": 26}))
    book.policy(GMAIL, "google")
    times = timeit.repeat(lambda: book.policy(GMAIL, "google"), number=2000, repeat=7)
    # 0.3 µs measured; a machine under load gets room.
    assert min(times) / 2000 < 3e-6
