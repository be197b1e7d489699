"""The log of refusals: bounded, whatever strangers do, and it says how much was left out."""

from structlog.testing import capture_logs

from mta.ingress.gate import Client
from mta.ingress.refusals import MAX_LINES, RefusalLog
from mta.model.reply import a_reply
from mta.policy.admission import Admission, Peer
from mta.policy.rules import ListenerRules

REPLY = a_reply(550, "5.7.1", "Relaying denied")


def a_client() -> Client:
    return Client(
        Admission(ListenerRules("127.0.0.1:0"), ()), Peer("192.0.2.7", "192.0.2.7", False)
    )


def test_a_refusal_says_who_where_and_why() -> None:
    with capture_logs() as lines:
        RefusalLog(lambda: 0.0).note(a_client(), "RCPT", REPLY, recipient="b@example.net", login="")
    assert lines == [
        {
            "log_level": "warning",
            "event": "client refused",
            "peer": "192.0.2.7",
            "step": "RCPT",
            "reply": "550 5.7.1 Relaying denied",
            "recipient": "b@example.net",
        }
    ]


def test_a_flood_leaves_a_bounded_number_of_lines_and_a_count() -> None:
    now = 0.0
    log = RefusalLog(lambda: now)
    with capture_logs() as lines:
        now = 100.0
        for _ in range(MAX_LINES + 30):
            log.note(a_client(), "AUTH", REPLY)
        assert len(lines) == MAX_LINES
        now += 1.0
        log.note(a_client(), "AUTH", REPLY)
    assert lines[MAX_LINES] == {
        "log_level": "warning",
        "event": "refusals were left out of the log",
        "count": 30,
    }
    assert len(lines) == MAX_LINES + 2
