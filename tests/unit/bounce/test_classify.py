"""Reply → what it means: by the rules that come with Sluice, and by those of an operator."""

import pytest

from mta.bounce.classify import (
    CATEGORIES,
    OTHER,
    SUCCESS,
    Classifier,
    Refusal,
    parse_reply,
    standard,
)
from mta.bounce.rules import FAULTS, STANDARD, VERDICTS, parse_rules
from mta.bounce.words import MAX_TEXT
from mta.config.refusals import shipped_rules
from mta.model.reply import Reply, a_reply

OURS = Classifier(shipped_rules())

BY_STATUS = {
    "content-related": ["5.3.3", "5.3.4", "5.6.0", "5.6.3", "5.7.7"],
    "quota-issues": ["5.2.2", "4.2.2"],
    "invalid-sender": ["5.1.7", "5.1.8"],
    "inactive-mailbox": ["5.2.1"],
    "bad-mailbox": ["5.1.1", "5.1.3", "5.1.4", "5.1.6", "5.2.0"],
    "bad-domain": ["5.1.2", "5.1.10"],
    "policy-related": ["5.5.3", "5.7.0", "5.7.1", "5.7.2"],
    "authentication": ["5.7.26"],
    "rate-limited": ["4.7.28"],
    "protocol-errors": ["5.5.0", "5.5.1", "5.5.2", "5.5.4"],
    "routing-errors": ["4.4.3", "5.4.4", "5.4.6"],
    "bad-configuration": ["5.3.5"],
    "bad-connection": ["4.4.2"],
    "no-answer-from-host": ["4.4.1"],
    "message-expired": ["5.4.7"],
    "other": ["5.0.0", "5.3.0", "5.2.4", "5.1.5", "4.9.9"],
}


def judge(line: str, site: str = "") -> Refusal:
    return OURS.classify(parse_reply(line), site, False)


def rules_of(*tables: dict[str, object]) -> Classifier:
    defaults = {"category": "custom", "verdict": "block", "fault": "sender"}
    rules, mistakes = parse_rules([defaults | table for table in tables])
    assert not mistakes
    return Classifier(tuple(rules))


@pytest.mark.parametrize(
    ("status", "category"), [(s, category) for category, all_ in BY_STATUS.items() for s in all_]
)
@pytest.mark.parametrize("local", [True, False])
def test_the_enhanced_status_decides_where_the_text_says_nothing(
    status: str, category: str, local: bool
) -> None:
    code = 550 if status.startswith("5") else 450
    assert OURS.classify(a_reply(code, status, ""), "example.net", local).category == category


def test_of_our_own_texts_only_the_status_counts() -> None:
    ours = OURS.classify(a_reply(550, "5.1.2", "blocked as spam: mailbox full"), "x", True)
    assert ours.category == "bad-domain"


@pytest.mark.parametrize(
    ("code", "category"),
    [
        (501, "protocol-errors"),
        (552, "quota-issues"),
        (556, "bad-domain"),
        (550, OTHER),
        (421, OTHER),
    ],
)
@pytest.mark.parametrize("status", ["", "5.0.0"])
def test_the_code_decides_where_text_and_status_say_nothing(
    code: int, status: str, category: str
) -> None:
    assert OURS.classify(a_reply(code, status, ""), "example.net", False).category == category


@pytest.mark.parametrize(
    ("line", "category", "verdict", "fault"),
    [
        (
            "550 5.1.1 <a@b.example>: blocked using zen.spamhaus.org",
            "spam-related",
            "block",
            "sender",
        ),
        (
            "450 4.2.1 The user you are trying to contact is receiving mail at a rate that prevents",
            "rate-limited",
            "transient",
            "recipient",
        ),
        (
            "550 5.7.606 Access denied, banned sending IP [192.0.2.1]",
            "spam-related",
            "block",
            "sender",
        ),
        ("550 5.2.1 <a@b.example>: account disabled", "inactive-mailbox", "hard", "recipient"),
        ("550 5.2.1 sender is disabled by the recipient", "policy-related", "block", "sender"),
        ("452 4.2.2 mailbox full", "quota-issues", "soft", "recipient"),
        ("450 4.1.1 user unknown", "bad-mailbox", "soft", "recipient"),
        ("550 5.1.1 <blocked@spam.example>: user unknown", "bad-mailbox", "hard", "recipient"),
        ("421 4.7.1 blocked using zen.spamhaus.org", "spam-related", "block", "sender"),
    ],
)
def test_what_other_rule_lists_get_wrong(
    line: str, category: str, verdict: str, fault: str
) -> None:
    found = judge(line)
    assert (found.category, found.verdict, found.fault) == (category, verdict, fault)


def test_a_positive_reply_is_a_success() -> None:
    assert judge("250 2.1.1 ok").category == SUCCESS


@pytest.mark.parametrize("enhanced", ["", "5", "5.", "garbage", "5.1", "5.1.1.1", "5.1.²"])
@pytest.mark.parametrize("code", [0, 199, 450, 550, 999])
def test_any_reply_means_something(code: int, enhanced: str) -> None:
    found = OURS.classify(Reply(code, enhanced, ()), "", False)
    assert standard(found.category) in CATEGORIES
    assert found.verdict in VERDICTS and found.fault in FAULTS


def test_each_of_our_rules_has_one_of_the_seventeen_names_or_leads_to_one() -> None:
    assert len(set(CATEGORIES)) == 17
    assert set(STANDARD.values()) < set(CATEGORIES)
    assert {standard(rule.category) for rule in shipped_rules()} <= set(CATEGORIES)


def test_the_first_rule_that_fits_decides_whether_it_names_words_or_not() -> None:
    words = {"name": "words", "words": ["go away"]}
    code = {"name": "code", "codes": [550]}
    reply = a_reply(550, "", "Go, away!")
    assert rules_of(words, code).classify(reply, "", False).rule == "words"
    assert rules_of(code, words).classify(reply, "", False).rule == "code"


def test_a_rule_fits_only_where_all_that_it_names_does() -> None:
    classifier = rules_of(
        {
            "name": "all",
            "words": ["closed"],
            "also": ["today", "tomorrow"],
            "unless": ["door"],
            "codes": [4],
            "status": ["4.7.500-699", "none"],
            "sites": ["example"],
        }
    )
    fits = a_reply(451, "4.7.600", "closed today")
    assert classifier.classify(fits, "example", False).rule == "all"
    assert classifier.classify(a_reply(451, "", "closed today"), "example", False).rule == "all"
    for reply, site in (
        (fits, "other"),
        (a_reply(551, "", "closed today"), "example"),
        (a_reply(451, "4.7.700", "closed today"), "example"),
        (a_reply(451, "4.7.600", "closed"), "example"),
        (a_reply(451, "4.7.600", "closed today, the door"), "example"),
        (a_reply(451, "4.7.600", "enclosed today"), "example"),
    ):
        assert classifier.classify(reply, site, False).rule == ""


def test_a_star_lets_the_last_word_go_on() -> None:
    classifier = rules_of({"name": "star", "words": ["rl00*", "aup i 13*"]})
    assert classifier.classify(parse_reply("421 RL000003"), "", False).rule == "star"
    assert classifier.classify(parse_reply("421 AUP#I-1310"), "", False).rule == "star"
    assert classifier.classify(parse_reply("421 AUP#I-1210"), "", False).rule == ""


@pytest.mark.parametrize("over_lines", [False, True])
def test_no_more_of_a_text_is_read_than_its_beginning(over_lines: bool) -> None:
    classifier = rules_of({"name": "late", "words": ["late"]})
    lines = tuple(["x" * 63] * (MAX_TEXT // 64)) if over_lines else ("x" * MAX_TEXT,)
    late = (*lines, "late") if over_lines else (lines[0] + " late",)
    assert classifier.classify(Reply(550, "", late), "", False).rule == ""
    assert classifier.classify(Reply(550, "", ("late", *lines)), "", False).rule == "late"


@pytest.mark.parametrize(
    ("table", "mistake"),
    [
        ({"name": "Bad Name", "codes": [550]}, "`name`"),
        ({"name": "x", "verdict": "perhaps", "codes": [550]}, "`verdict`"),
        ({"name": "x", "fault": "mine", "codes": [550]}, "`fault`"),
        ({"name": "x"}, "every reply"),
        ({"name": "x", "codes": [250]}, "`codes`"),
        ({"name": "x", "codes": [True]}, "`codes`"),
        ({"name": "x", "status": ["5.1"]}, "no status"),
        ({"name": "x", "words": ["---"]}, "no word"),
        ({"name": "x", "words": ["rl*"]}, "too short"),
        ({"name": "x", "words": ["user@b.example"]}, "@"),
        ({"name": "x", "words": ["blocked by spam.example"]}, "domain"),
        ({"name": "x", "words": ["a.b.spam.example"]}, "too long"),
        ({"name": "x", "words": "user"}, "list of texts"),
        ({"name": "x", "also": ["user"], "codes": [550]}, "`also`"),
        ({"name": "x", "pattern": "(a+)+", "codes": [550]}, "no key pattern"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused(table: dict[str, object], mistake: str) -> None:
    rules, mistakes = parse_rules(
        [{"category": "custom", "verdict": "block", "fault": "sender"} | table]
    )
    assert not rules and len(mistakes) == 1 and mistake in mistakes[0]


def test_a_rule_may_name_a_hosts_domain_and_that_an_address_stands_there() -> None:
    classifier = rules_of(
        {"name": "list", "words": ["spamlist.example"]},
        {"name": "address", "words": ["@"], "also": ["gone"]},
    )
    assert judged_by(classifier, "550 see http://zen.spamlist.example/lookup") == "list"
    assert judged_by(classifier, "550 listed at b.zen.spamlist.example") == "list"
    assert judged_by(classifier, "550 <a@spamlist.example> gone") == "address"
    assert judged_by(classifier, "550 gone") == ""


def test_a_link_is_read_only_where_nothing_else_says_a_thing() -> None:
    classifier = rules_of({"name": "spam", "words": ["spam"]}, {"name": "user", "words": ["user"]})
    assert judged_by(classifier, "550 user https://a.example/spam") == "user"
    assert judged_by(classifier, "550 sorry https://a.example/spam") == "spam"


def judged_by(classifier: Classifier, line: str) -> str:
    return classifier.classify(parse_reply(line), "", False).rule
