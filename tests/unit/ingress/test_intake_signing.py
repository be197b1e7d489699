"""Where a message is signed: on the loop while that is cheap, else in the workshop."""

from collections.abc import Callable
from typing import Any

import pytest

from mta.dkim.keys import KeyRing, generate, load_key
from mta.dkim.signer import Signer
from mta.ingress.collect import IntakeMemory
from mta.ingress.intake import SIGN_ON_LOOP_ALONE_S, SIGN_ON_LOOP_S, Intake, Submission
from mta.io.clock import Clock
from mta.io.threads import Workshop
from mta.model.envelope import Draft
from mta.policy.admission import Admission, Peer
from mta.policy.rules import ListenerRules
from mta.smtp.grammar import RcptTo
from mta.spool.bodies import BodyCache


class SpoolThatTakes:
    """Keeps what it is given."""

    uuid = "0" * 32
    number = 0

    def __init__(self) -> None:
        self.taken: list[Draft] = []

    def next_message_number(self) -> int:
        return 1

    def accept(self, draft: Draft, done: Callable[[Any], None]) -> None:
        self.taken.append(draft)
        done(None)

    def new_spill(self) -> Any:
        raise AssertionError("the message is small")


@pytest.mark.parametrize(
    ("algorithm", "bits", "limit_s", "code"),
    [
        ("ed25519", 256, SIGN_ON_LOOP_S, 250),
        ("rsa", 2048, SIGN_ON_LOOP_S, 451),
        ("rsa", 2048, SIGN_ON_LOOP_ALONE_S, 250),
        ("rsa", 4096, SIGN_ON_LOOP_ALONE_S, 451),
    ],
)
def test_what_costs_more_than_may_be_spent_on_the_loop_is_signed_in_a_thread(
    algorithm: str, bits: int, limit_s: float, code: int
) -> None:
    spool = SpoolThatTakes()
    # It takes no job: what would be signed in a thread is answered 451.
    workshop = Workshop("closed", lambda work: None, threads=0, limit=0)
    intake = Intake(
        spool=spool,
        bodies=BodyCache(1_000_000),
        memory=IntakeMemory(1_000_000),
        workshop=workshop,
        clock=Clock(),
        hostname="mta.example.com",
        lab=False,
        on_accepted=lambda draft: None,
        sign_on_loop_s=limit_s,
    )
    key = load_key(generate(algorithm, bits))
    intake.keyring = KeyRing([("example.com", Signer("example.com", "s1", key))])
    peer = Peer("192.0.2.1", "192.0.2.1", is_listed=True)
    admission = Admission(ListenerRules("127.0.0.1:25"), ())
    recipients = [RcptTo("b@example.net", "example.net")]
    arrival = intake.begin(Submission(admission, peer, "a@example.com", "example.com", recipients))
    arrival.add(b"From: a@example.com\r\n\r\nhello\r\n")
    codes: list[int] = []
    arrival.finish(lambda reply: codes.append(reply.code))
    assert codes == [code]
    assert [each.prefix.startswith(b"DKIM-Signature:") for each in spool.taken] == [True] * (
        code == 250
    )
