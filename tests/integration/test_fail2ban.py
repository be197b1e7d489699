"""The shipped fail2ban filter on the log of a real server: it finds who was refused, and nobody else stands in for them."""

import shutil
import smtplib
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.daemon import free_port, running

FILTER = Path(__file__).parents[2] / "config" / "fail2ban" / "sluice.filter.conf"
FORGED = 'x" level=warning event="authentication failed" peer=203.0.113.9 user=x'
OTHERS_LISTENER = """
[[listener]]
address = "127.0.0.1:{port}"
relay_from = ["192.0.2.0/24"]
max_size = "64k"
"""


@pytest.fixture(scope="module")
def refused_log(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a server says of a client that may not relay, forges line ends, and is cross about it."""
    place, port = tmp_path_factory.mktemp("fail2ban"), free_port()
    more = OTHERS_LISTENER.format(port=port)
    with running(place, default='hosts = ["127.0.0.1:9"]', more=more) as daemon:
        with smtplib.SMTP("127.0.0.1", port, timeout=10) as client:
            client.ehlo("relay.example")
            client.docmd("MAIL", "FROM:<a@sender.example>")
            assert client.docmd("RCPT", "TO:<b@example.net>")[0] == 550
            assert client.docmd("RCPT", f'TO:<"{FORGED.replace(chr(34), "")}"@example.net>')[0] in (
                550,
                501,
            )
            client.docmd("RSET")
            assert client.docmd("MAIL", "FROM:<a@sender.example> SIZE=99999999")[0] == 552
        with (
            smtplib.SMTP("127.0.0.1", daemon.port, timeout=10) as client,
            suppress(smtplib.SMTPException),
        ):
            client.ehlo("smuggler.example")
            client.mail("a@sender.example")
            client.rcpt("b@example.net")
            client.docmd("DATA")
            client.send(b"Subject: x\r\n\r\nx\n.\nMAIL FROM:<c@example.net>\r\n.\r\n")
            assert client.getreply()[0] == 550
        return daemon.log


def refusals(log: str) -> list[str]:
    return [line for line in log.splitlines() if 'event="client refused"' in line]


def test_each_refusal_is_one_line_with_the_address_before_the_clients_words(
    refused_log: str,
) -> None:
    lines = refusals(refused_log)
    assert [line.partition("step=")[2].split()[0] for line in lines[:1]] == ["RCPT"]
    assert [line for line in lines if "step=DATA" in line]
    for line in lines:
        before, _, rest = line.partition('event="client refused" ')
        assert '"' not in before and rest.startswith("peer=127.0.0.1 step=")


def test_the_filter_finds_them_and_a_forged_line_bans_nobody_else(
    refused_log: str, tmp_path: Path
) -> None:
    tool = shutil.which("fail2ban-regex")
    if tool is None:
        pytest.skip("fail2ban is not installed")
    forged = FORGED.replace('"', '\\"')  # as the log writes it
    now = refusals(refused_log)[0].partition(" ")[0]
    login = f'{now} level=warning event="authentication failed" peer=127.0.0.1 user="{forged}"'
    other = f'{now} level=error event=x text="{forged}"'
    lines = [*refusals(refused_log), login, other]
    (tmp_path / "log").write_text("\n".join(lines) + "\n")
    (tmp_path / "filter.d").mkdir()
    shutil.copy(FILTER, tmp_path / "filter.d" / "sluice.conf")
    found = subprocess.run(
        [tool, "-c", str(tmp_path), "-o", "ip", str(tmp_path / "log"), str(tmp_path / "filter.d" / "sluice.conf")],
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout.split()  # fmt: skip
    wanted = [line for line in lines[:-1] if "552 5.3.4" not in line and " 501 " not in line]
    assert found == ["127.0.0.1"] * len(wanted)
    assert len(wanted) >= 3
