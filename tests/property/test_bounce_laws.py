"""Laws of judging refusals: nobody is judged by what he calls himself; a host that is not sure kills no address."""

from hypothesis import given
from hypothesis import strategies as st

from mta.bounce.classify import Classifier, parse_reply
from mta.bounce.words import MAX_TEXT, link_words, words_of
from mta.config.refusals import shipped_rules

OURS = Classifier(shipped_rules())

# What a recipient, a sender or a host may be called by who wishes us ill.
BAD = [
    "spam",
    "blocked",
    "unknown",
    "user",
    "nosuchuser",
    "full",
    "quota",
    "invalid",
    "blacklist",
    "virus",
    "dmarc",
    "relay",
    "closed",
    "disabled",
    "mailbox",
    "greylist",
    "sender",
    "doesnotexist",
    "denied",
    "5.1.1",
    "5-7-1",
    "x",
]
NAMES = st.lists(st.sampled_from(BAD), min_size=1, max_size=4)
LOCAL = NAMES.map(".".join)
DOMAIN = NAMES.map(lambda names: "-".join(names).replace(".", "") + ".example")
HOST = st.builds(lambda left, domain: f"mx.{left}.{domain}", LOCAL, DOMAIN)

WITH_ADDRESS = st.sampled_from(
    [
        "550 5.1.1 <{}>: Recipient address rejected: User unknown in virtual mailbox table",
        "550 5.1.1 {}... User unknown",
        "550 {}: mailbox unavailable",
        "552 5.2.2 <{}> is over quota",
        "554 5.7.1 <{}>: Relay access denied",
        "450 4.2.0 <{}>: Recipient address rejected: Greylisted",
        "550 '{}' is not a local user",
        "550 Message to {} was refused",
        "554 delivery error: dd This user doesn't have an account ({}) [0]",
    ]
)
WITH_HOST = st.sampled_from(
    [
        "550 5.1.1 user unknown at {}",
        "554 {} ESMTP not accepting messages",
        "550 5.7.1 Service unavailable; Client host [192.0.2.1] blocked by our policy ({})",
        "421 {} too many connections from you",
        "452 4.2.2 mailbox full, says {}",
        "550 refused by {}, sorry",
    ]
)
TEXT = st.text("ab .@<>-_:/[]()'\"\\x0é收\u0301http", max_size=80)


@given(WITH_ADDRESS, LOCAL, DOMAIN)
def test_an_address_changes_nothing(text: str, local: str, domain: str) -> None:
    plain = OURS.classify(parse_reply(text.format("a@b.example")), "", False)
    assert OURS.classify(parse_reply(text.format(f"{local}@{domain}")), "", False) == plain


@given(WITH_HOST, HOST)
def test_the_name_of_a_host_changes_nothing(text: str, host: str) -> None:
    plain = OURS.classify(parse_reply(text.format("mx.a.example")), "", False)
    assert OURS.classify(parse_reply(text.format(host)), "", False) == plain


@given(st.sampled_from([400, 421, 450, 451, 452, 499]), TEXT)
def test_no_temporary_reply_kills_an_address(code: int, text: str) -> None:
    assert OURS.classify(parse_reply(f"{code} {text}"), "", False).verdict != "hard"


@given(WITH_ADDRESS, st.sampled_from(["4.2.2", "4.1.1", "4.7.1", "4.0.0"]))
def test_a_permanent_code_with_a_temporary_status_kills_none(text: str, status: str) -> None:
    line = f"550 {status} " + text[4:].format("a@b.example").removeprefix("5.1.1 ")
    assert OURS.classify(parse_reply(line), "", False).verdict != "hard"


@given(TEXT)
def test_any_text_has_words_without_blanks(text: str) -> None:
    for word in (*words_of(text), *link_words(text)):
        assert word and not word.isspace() and " " not in word


@given(TEXT)
def test_what_stands_behind_the_longest_text_is_not_read(text: str) -> None:
    assert words_of("a " * (MAX_TEXT // 2) + text) == ["a"] * (MAX_TEXT // 2)
