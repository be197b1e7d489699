"""`sluice bounces`: refusals as a real server met them, near and in processes of their own, over a kill."""

from pathlib import Path

import pytest

from tests.support.cli import Cli
from tests.support.host import Dialogue, Host
from tests.support.sender import NO_DNS, a_sender
from tests.support.wire import wait_until

SITES = NO_DNS + "\n[site.big]\ndomains = ['one.example', 'two.example']\n"


def by_local_part(dialogue: Dialogue, command: str) -> bytes | None:
    if command.startswith("RCPT TO:<full"):
        return b"452 4.2.2 <" + command[9:20].encode() + b"@x> mailbox full\r\n"
    if command.startswith("RCPT TO:<no"):
        return b"550 5.1.1 no such user here\r\n"
    return None


@pytest.mark.parametrize("workers", [1, 2])
def test_refusals_are_shown_with_share_line_and_words(workers: int, tmp_path: Path) -> None:
    with (
        Host(by_local_part) as host,
        a_sender(tmp_path, more=SITES, server=f"workers = {workers}") as sender,
    ):
        sender.domain(host, name="one.example")
        sluice = Cli(sender.server)
        for to in ("yes1", "yes2", "no1", "no2", "full1"):
            sender.send(f"{to}@one.example")

        def counted() -> bool:
            ended = sluice("bounces", "--json")
            return ended.code == 0 and ended.json["total"].get("attempts", 0) >= 5

        wait_until(counted)
        sender.server.kill()
        sender.server.start()
        wait_until(counted)
        answer = sluice.json("bounces", "--category", "bad-mailbox")
        (row,) = answer["rows"]
        assert (row["name"], row["bounced"], sum(row["line"])) == ("bad-mailbox", 2, 2)
        assert answer["total"]["refused"] == 2 and 0 < row["share"] <= 0.4
        (reply,) = answer["replies"]
        assert reply["verdict"] == "hard" and reply["reply"] == "550 5.1.1 no such user here"
        (row,) = sluice.json("bounces", "--by", "site", "--verdict", "hard")["rows"]
        assert (row["name"], row["refused"]) == ("big", 2)
        shown = sluice.text("bounces", "--by", "domain", "--since", "2h")
        assert "one.example" in shown and "█" in shown and "no such user here" in shown
        assert "nothing was refused" in sluice.text("bounces", "--job", "none")
        wrong = sluice("bounces", "--by", "weather")
        assert wrong.code == 1 and "known are: domain, site" in wrong.err
