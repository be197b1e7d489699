"""What records say of refusals, over the wire: the category by our rules, and by the operator's after a reload."""

from collections.abc import Iterator

import pytest

from tests.support.cli import Cli
from tests.support.host import Dialogue, HangUp, Host
from tests.support.names import Names
from tests.support.sender import Sender, a_sender

OWN = """
[[rule]]
name = "own"
category = "mine"
verdict = "soft"
fault = "recipient"
words = ["out of office until"]
"""


@pytest.fixture(scope="module")
def sender(names: Names, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sender]:
    place = tmp_path_factory.mktemp("server")
    (place / "own.toml").touch()
    more = f'[dns]\nservers = ["{names.address}"]\n[bounce]\nrules = "own.toml"'
    with a_sender(place, more=more) as sender:
        yield sender


def answering(words: bytes) -> Host:
    def refuse(dialogue: Dialogue, command: str) -> bytes | None:
        return words + b"\r\n" if command.startswith("RCPT") else None

    return Host(refuse)


def test_a_bounce_has_its_category_and_the_whole_reply(sender: Sender) -> None:
    with answering(b"550-5.1.1 sorry,\r\n550 5.1.1 blocked using zen.spamhaus.org") as host:
        domain = sender.domain(host)
        sender.send(f"x@{domain}")
        (record,) = sender.wait_for_records(domain, "b")
    assert record["bounceCat"] == record["category"] == "spam-related"
    assert record["dsnStatus"] == "5.1.1 (bad destination mailbox address)"
    assert record["dsnDiag"] == "smtp;550 5.1.1 sorry, blocked using zen.spamhaus.org"


def test_a_name_of_ours_is_told_as_one_of_the_seventeen_beside_itself(sender: Sender) -> None:
    with answering(b"450 4.2.1 the user is receiving mail at a rate that prevents more") as host:
        domain = sender.domain(host)
        sender.send(f"x@{domain}")
        record = sender.wait_for_records(domain, "t")[0]
    assert (record["bounceCat"], record["category"]) == ("policy-related", "rate-limited")


def test_a_delivery_is_a_success_and_a_refused_queue_has_its_category(sender: Sender) -> None:
    def refuse_first(dialogue: Dialogue, command: str) -> bytes | None:
        if command == "" and dialogue.number == 0:
            raise HangUp(b"554 blocked: your IP has a poor reputation\r\n")
        return None

    with Host(refuse_first) as host:
        domain = sender.domain(host)
        sender.send(f"x@{domain}")
        postponed = sender.wait_for_records(domain, "tq")[0]
    assert postponed["bounceCat"] == "spam-related"
    with Host() as host:
        domain = sender.domain(host)
        sender.send(f"x@{domain}")
        (delivered,) = sender.wait_for_records(domain, "d")
    assert (delivered["bounceCat"], delivered["category"]) == ("success", "")


def test_an_operators_rules_hold_after_a_reload_and_wrong_ones_change_nothing(
    sender: Sender,
) -> None:
    sluice = Cli(sender.server)
    own = sender.server.config.parent / "own.toml"
    with answering(b"550 5.7.1 denied: out of office until Monday") as host:
        domain = sender.domain(host)

        def categories(count: int) -> list[str]:
            sender.send(f"x@{domain}")
            return [each["bounceCat"] for each in sender.wait_for_records(domain, "b", count=count)]

        assert categories(1) == ["policy-related"]
        own.write_text(OWN)
        sluice.json("reload")
        assert categories(2)[1:] == ["mine"]
        own.write_text(OWN.replace("soft", "perhaps"))
        ended = sluice("reload")
        assert ended.code == 1
        assert "own.toml" in ended.err and "`verdict` must be one of" in ended.err
        assert categories(3)[2:] == ["mine"]
        own.write_text("")
        sluice.json("reload")
        assert categories(4)[3:] == ["policy-related"]
