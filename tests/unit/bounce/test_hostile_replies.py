"""Replies that mislead: names, links, several statuses, languages, broken letters; and none that blocks us kills an address."""

import json
from pathlib import Path

import pytest

from mta.bounce.classify import Classifier, Refusal, parse_reply
from mta.config.refusals import shipped_rules

OURS = Classifier(shipped_rules())
REPLIES = Path(__file__).parent / "replies"
NOT_THE_ADDRESS = {
    "spam-related", "policy-related", "rate-limited", "greylisted", "authentication", "virus-related", "content-related",
    "invalid-sender", "relaying-issues", "protocol-errors", "bad-connection", "bad-configuration", "routing-errors",
}  # fmt: skip


def judge(line: str) -> Refusal:
    return OURS.classify(parse_reply(line), "", False)


def test_no_reply_that_we_know_and_that_speaks_of_us_kills_an_address() -> None:
    for part in sorted(REPLIES.glob("*.jsonl")):
        for line in part.read_text().splitlines():
            row = json.loads(line)
            if row["category"] in NOT_THE_ADDRESS:
                assert judge(row["reply"]).verdict != "hard", row["reply"]


@pytest.mark.parametrize(
    ("line", "category", "verdict"),
    [
        # Names of the recipient, of hosts and in links.
        ("550 5.7.1 <no-such-user@unknown.example>: blocked by our policy", "policy-related", "block"),
        ("550 5.7.1 Message refused as spam, see https://a.example/errors/user-unknown", "spam-related", "block"),
        ("550 5.1.1 <spam@blocked.example>: no such user", "bad-mailbox", "hard"),
        ("550 5.1.1 no such user, see https://a.example/spam/blocked.html", "bad-mailbox", "hard"),
        ("550 5.2.2 <user.unknown@a.example> mailbox full", "quota-issues", "soft"),
        # A code and a status that disagree; several statuses; several lines.
        ("550 4.2.2 mailbox full", "quota-issues", "soft"),
        ("550 4.1.1 user unknown", "bad-mailbox", "soft"),
        ("450 5.1.1 user unknown", "bad-mailbox", "soft"),
        ("550-5.7.1 This message is 550-5.7.1 likely unsolicited mail 550 5.1.1", "spam-related", "block"),
        ("550 5.7.1 5.1.1 blocked using zen.spamhaus.org", "spam-related", "block"),
        # A rate, a block or a greylist in words of the mailbox.
        ("450 4.2.1 The user you are trying to contact is receiving mail too quickly", "rate-limited", "transient"),
        ("550 5.1.1 <a@b.example>: Recipient address rejected: Greylisted, try again later", "greylisted", "transient"),
        ("550 5.1.1 too many invalid recipients, you are blocked", "rate-limited", "transient"),
        # Other languages, other letters.
        ("550 5.1.1 Empfänger unbekannt", "bad-mailbox", "hard"),
        ("550 Empf\\xe4nger unbekannt", "bad-mailbox", "hard"),
        ("550 EmpfÃ¤nger unbekannt", "bad-mailbox", "hard"),
        ("552 5.2.2 La boîte aux lettres est pleine", "quota-issues", "soft"),
        ("550 5.1.1 Utilisateur inconnu", "bad-mailbox", "hard"),
        ("550 5.1.1 El usuario no existe", "bad-mailbox", "hard"),
        ("550 Usuário desconhecido", "bad-mailbox", "hard"),
        ("550 utente sconosciuto", "bad-mailbox", "hard"),
        ("550 użytkownik nie istnieje", "bad-mailbox", "hard"),
        ("550 neznámý uživatel", "bad-mailbox", "hard"),
        ("550 пользователь не найден", "bad-mailbox", "hard"),
        ("550 用户不存在", "bad-mailbox", "hard"),
        ("552 邮箱已满", "quota-issues", "soft"),
        ("550 宛先が存在しません", "bad-mailbox", "hard"),
        ("550 사용자를 찾을 수 없습니다", "bad-mailbox", "hard"),
        ("554 Nachricht wurde als Spam eingestuft", "spam-related", "block"),
    ],
)  # fmt: skip
def test_a_reply_that_misleads(line: str, category: str, verdict: str) -> None:
    found = judge(line)
    assert (found.category, found.verdict) == (category, verdict)


@pytest.mark.parametrize("code", ["550", "550 5.1.1", "550 5.2.1", "550 5.7.1", "554"])
@pytest.mark.parametrize(
    "about_us",
    [
        *("your IP is blacklisted", "listed at zen.spamhaus.org", "poor reputation", "message looks like spam", "virus found"),
        *("rate limit exceeded", "too many connections", "greylisted", "DMARC policy", "SPF fail"),
    ],
)  # fmt: skip
def test_a_block_or_a_rate_beside_words_about_the_mailbox_kills_no_address(
    code: str, about_us: str
) -> None:
    for about_it in ("user unknown", "no such user here", "mailbox disabled", "domain not found"):
        assert judge(f"{code} {about_us}: {about_it}").verdict != "hard"
        assert judge(f"{code} {about_it}, {about_us}").verdict != "hard"
