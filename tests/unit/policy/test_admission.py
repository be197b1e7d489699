"""Admission: every known form of asking for an open relay, and what each peer uses up."""

import pytest

from mta.model.reply import Reply
from mta.model.units import Rate
from mta.policy.admission import Admission, Peer, parse_network
from mta.policy.rules import ListenerRules, SelectionRules, UnknownVmta

LISTED = "192.0.2.7"
STRANGER = "203.0.113.9"


def a_listener(**values: object) -> ListenerRules:
    networks = tuple(
        parse_network(text) for text in ("192.0.2.0/24", "127.0.0.0/8", "2001:db8::/64")
    )
    return ListenerRules("127.0.0.1:25", relay_from=networks, **values)  # type: ignore[arg-type]


def an_admission(**values: object) -> Admission:
    return Admission(a_listener(**values), frozenset({"a", "b"}))


def a_peer(ip: str, user: str = "") -> Peer:
    peer = an_admission().peer(ip)
    peer.user = user
    return peer


# reliability.md S13: (address between <>, its domain as the grammar gives it, code and status for
# a peer that may relay; None: taken). A stranger is answered 550 5.7.1 to all of them.
FORMS = [
    ("u@d.example", "d.example", None),
    ("@relay.example:u@d.example", "d.example", "553 5.1.3"),
    ("@relay.example,@b.example:u@d.example", "d.example", "553 5.1.3"),
    ("user%ext.example@us.example", "us.example", None),
    ("user%ext.example", "", "553 5.1.3"),
    ("ext.example!user@us.example", "us.example", None),
    ("ext.example!user", "", "553 5.1.3"),
    ("a.example!b.example!u@us.example", "us.example", None),
    ('"u@ext.example"@us.example', "us.example", None),
    ('"u@ext.example"', "", "553 5.1.3"),
    ('"@relay.example:u@d.example"@us.example', "us.example", None),
    ("u@ext.example@us.example", "us.example", None),  # the grammar refuses it before
    ("u@[127.0.0.1]", "[127.0.0.1]", "550 5.1.2"),
    ("u@[192.0.2.1]", "[192.0.2.1]", "550 5.1.2"),
    ("u@[IPv6:::1]", "[ipv6:::1]", "550 5.1.2"),
    ("u@[IPv6:::ffff:127.0.0.1]", "[ipv6:::ffff:127.0.0.1]", "550 5.1.2"),
    ("u@127.0.0.1", "127.0.0.1", "553 5.1.3"),
    ("u@2130706433", "2130706433", "553 5.1.3"),
    ("u@d.example.", "d.example.", "553 5.1.3"),
    ("u@.d.example", ".d.example", "553 5.1.3"),
    ("u@d..example", "d..example", "553 5.1.3"),
    ("u@.", ".", "553 5.1.3"),
    ("u@", "", "553 5.1.3"),
    ("u", "", "553 5.1.3"),
    ("", "", "553 5.1.3"),
    ("u@D.EXAMPLE", "D.EXAMPLE", "553 5.1.3"),  # not as the grammar gives it
    ("u@d example", "d example", "553 5.1.3"),
    ("u@d.example\r\nRCPT TO:<x>", "d.example\r\nrcpt to:<x>", "553 5.1.3"),
    ("u@d.example\x00", "d.example\x00", "553 5.1.3"),
    ("u@localhost", "localhost", None),  # the route refuses it, not the door
    ("postmaster", "", "553 5.1.3"),
]


def told(reply: Reply | None) -> str | None:
    return None if reply is None else f"{reply.code} {reply.enhanced}"


@pytest.mark.parametrize(("address", "domain", "answer"), FORMS)
def test_no_address_form_opens_the_relay_to_a_stranger(
    address: str, domain: str, answer: str | None
) -> None:
    reply = an_admission().check_recipient(a_peer(STRANGER), address, domain, 0)
    assert told(reply) == "550 5.7.1"


@pytest.mark.parametrize(("address", "domain", "answer"), FORMS)
def test_a_peer_that_may_relay_hears_what_is_wrong_with_the_address(
    address: str, domain: str, answer: str | None
) -> None:
    admission = an_admission()
    for peer in (a_peer(LISTED), a_peer(STRANGER, "bob")):
        assert told(admission.check_recipient(peer, address, domain, 0)) == answer


@pytest.mark.parametrize(
    ("ip", "may"),
    [
        ("192.0.2.7", True),
        ("192.0.3.7", False),
        ("::ffff:192.0.2.7", True),
        ("::ffff:192.0.3.7", False),
        ("::192.0.2.7", False),
        ("64:ff9b::192.0.2.7", False),
        ("127.0.0.1", True),
        ("::1", False),
        ("2001:db8::5", True),
        ("2001:db8:0:1::5", False),
        ("fe80::1%eth0", False),
        ("", False),
        ("unix", False),
    ],
)
def test_relaying_is_for_listed_networks(ip: str, may: bool) -> None:
    assert a_peer(ip).may_relay is may
    assert a_peer(ip, "bob").may_relay is True


def test_localhost_is_trusted_only_where_it_is_listed() -> None:
    assert not Admission(ListenerRules("127.0.0.1:25"), ()).peer("127.0.0.1").may_relay


@pytest.mark.parametrize(
    ("sender", "domain", "size", "answer"),
    [
        ("", "", 0, None),
        ("a@b.example", "b.example", 1000, None),
        ("a@b.example", "b.example", 1001, "552 5.3.4"),
        ("", "", 1001, "552 5.3.4"),
        ("a@[192.0.2.1]", "[192.0.2.1]", 0, "550 5.1.7"),
        ("a@b.example.", "b.example.", 0, "553 5.1.7"),
        ("a@", "", 0, "553 5.1.7"),
        ("a", "", 0, "553 5.1.7"),
        ("@r.example:a@b.example", "b.example", 0, "553 5.1.7"),
    ],
)
def test_a_sender_must_be_an_address_one_can_answer(
    sender: str, domain: str, size: int, answer: str | None
) -> None:
    assert told(an_admission(max_size=1000).check_mail(sender, domain, size)) == answer


def test_the_recipient_beyond_the_limit_is_put_off_not_refused() -> None:
    admission, peer = an_admission(max_recipients=100), a_peer(LISTED)
    assert admission.check_recipient(peer, "u@d.example", "d.example", 99) is None
    assert told(admission.check_recipient(peer, "u@d.example", "d.example", 100)) == "452 4.5.3"


def test_a_message_that_lied_about_its_size_is_refused_at_the_end() -> None:
    admission = an_admission(max_size=1000)
    assert admission.check_size(1000) is None
    assert told(admission.check_size(1001)) == "552 5.3.4"


def test_a_message_gets_the_virtual_mta_it_names_if_there_is_one() -> None:
    admission, peer = an_admission(vmta="a"), a_peer(LISTED)
    assert admission.choose_vmta(peer, "") == "a"
    assert admission.choose_vmta(peer, " B ") == "b"
    unknown = admission.choose_vmta(peer, "c")
    assert isinstance(unknown, Reply)
    assert told(unknown) == "550 5.7.1"


def test_a_stranger_chooses_no_virtual_mta() -> None:
    assert an_admission(vmta="a").choose_vmta(a_peer(STRANGER), "b") == "a"


def a_selecting(**values: object) -> Admission:
    selection = SelectionRules(
        users={"news": "of-user"},
        senders=(("*@b.example", "of-sender"), ("<>", "of-null"), ("x[1]@*", "literal")),
        default="of-default",
    )
    names = {"a", "of-listener", "of-user", "of-sender", "of-default"}
    return Admission(a_listener(**values), names, selection)


def test_header_listener_user_sender_and_default_are_asked_in_this_order() -> None:
    peer, bare = a_peer(LISTED, "news"), a_peer(LISTED)
    with_listener, without = a_selecting(vmta="of-listener"), a_selecting()
    assert with_listener.choose_vmta(peer, "a", "u@b.example") == "a"
    assert with_listener.choose_vmta(peer, "", "u@b.example") == "of-listener"
    assert without.choose_vmta(peer, "", "u@b.example") == "of-user"
    assert without.choose_vmta(bare, "", "U@B.example") == "of-sender"
    assert without.choose_vmta(bare, "", "") == "of-null"
    assert without.choose_vmta(bare, "", "x[1]@c.example") == "literal"
    assert without.choose_vmta(bare, "", "x1@b.example.org") == "of-default"


def test_a_header_is_heard_only_of_those_who_may() -> None:
    admission = a_selecting(vmta_header_from=("news",))
    assert admission.choose_vmta(a_peer(LISTED, "news"), "a") == "a"
    assert admission.choose_vmta(a_peer(LISTED, "shop"), "a", "u@c.example") == "of-default"
    assert admission.choose_vmta(a_peer(LISTED), "a", "u@c.example") == "of-default"
    assert a_selecting(vmta_header_from=()).choose_vmta(a_peer(LISTED, "news"), "a") == "of-user"


def test_an_unknown_name_may_be_ignored() -> None:
    admission = a_selecting(unknown_vmta=UnknownVmta.IGNORE)
    assert admission.choose_vmta(a_peer(LISTED), "zzz", "u@c.example") == "of-default"


def test_a_connection_counts_for_its_source_and_its_listener() -> None:
    admission = an_admission(max_connections=9, max_connections_per_source=3)
    assert admission.connection_demand(a_peer("::ffff:203.0.113.9")) == (
        ("in:source|127.0.0.1:25|203.0.113.9", 3),
        ("in:listener|127.0.0.1:25", 9),
    )


def test_addresses_of_one_ipv6_network_count_as_one_source() -> None:
    sources = [
        a_peer(ip).source for ip in ("2001:db8:1::1", "2001:db8:1::ffff:1", "2001:db8:1:1::1")
    ]
    assert sources == ["2001:db8:1::/64", "2001:db8:1::/64", "2001:db8:1:1::/64"]


def test_without_quotas_nothing_is_asked() -> None:
    assert an_admission().message_quotas(a_peer(STRANGER)) == ()
    assert an_admission().recipient_quotas(a_peer(STRANGER, "bob")) == ()


def test_quotas_count_a_user_wherever_it_comes_from_and_others_by_source() -> None:
    admission = an_admission(
        max_messages_per_hour=10, max_messages_per_day=50, max_recipients_per_day=7
    )
    assert admission.message_quotas(a_peer(LISTED)) == (
        ("in:messages|127.0.0.1:25|source:192.0.2.7|hour", Rate(10, 3600.0)),
        ("in:messages|127.0.0.1:25|source:192.0.2.7|day", Rate(50, 86_400.0)),
    )
    of_bob = admission.message_quotas(a_peer(LISTED, "bob"))
    assert of_bob == admission.message_quotas(a_peer(STRANGER, "bob"))
    assert admission.recipient_quotas(a_peer(STRANGER, "bob")) == (
        ("in:recipients|user:bob|day", Rate(7, 86_400.0)),
    )


def test_a_user_is_counted_over_all_listeners_and_a_stranger_is_not_counted() -> None:
    one = Admission(a_listener(max_messages_per_day=7), frozenset())
    other = Admission(ListenerRules("127.0.0.1:587", max_messages_per_day=9), frozenset())
    bob = a_peer(STRANGER, user="bob")
    assert [key for key, _ in one.message_quotas(bob)] == [
        key for key, _ in other.message_quotas(bob)
    ]
    assert one.message_quotas(a_peer(STRANGER)) == ()
    assert len(one.message_quotas(a_peer(LISTED))) == 1


def test_a_user_cannot_pose_as_a_source() -> None:
    admission = an_admission(max_messages_per_hour=10)
    posing = admission.message_quotas(a_peer(STRANGER, "source:192.0.2.7"))
    assert posing != admission.message_quotas(a_peer("192.0.2.7"))


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("192.0.2.1", "192.0.2.1/32"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("::1", "::1/128"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("::/0", "::/0"),
    ],
)
def test_a_network_is_read(text: str, network: str) -> None:
    assert str(parse_network(text)) == network


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("localhost", "no network"),
        ("", "no network"),
        ("10.0.0.0/33", "prefix"),
        ("10.0.0.0/", "prefix"),
        ("10.0.0.0/255.0.0.0", "prefix"),
        ("10.1.2.3/8", r"did you mean 10\.0\.0\.0/8"),
    ],
)
def test_what_is_no_network_is_refused_with_a_hint(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_network(text)
