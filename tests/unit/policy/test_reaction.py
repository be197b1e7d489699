"""What a refusal touches."""

import pytest

from mta.model.outcome import Deferred, Delivered, Extent, Failed
from mta.model.reply import Reply, a_reply
from mta.policy.reaction import outcome_of
from mta.smtp.steps import Step

CONVERSATION = [step for step in Step if step is not Step.END_OF_DATA]


def a(code: int, enhanced: str = "") -> Reply:
    return a_reply(code, enhanced, "words")


@pytest.mark.parametrize("step", list(Step))
def test_421_rests_the_queue_wherever_it_comes(step: Step) -> None:
    outcome = outcome_of(step, a(421, "4.7.0"))
    assert isinstance(outcome, Deferred)
    assert outcome.extent is Extent.CONNECTION


@pytest.mark.parametrize("step", [Step.GREETING, Step.EHLO, Step.STARTTLS, Step.AUTH])
@pytest.mark.parametrize("code", [450, 500, 502, 530, 550, 554])
def test_a_refusal_before_any_message_bounces_nothing(step: Step, code: int) -> None:
    assert outcome_of(step, a(code)) == Deferred(a(code), Extent.CONNECTION)


@pytest.mark.parametrize(
    ("code", "enhanced"),
    [(450, ""), (451, "4.7.1"), (452, "4.3.1"), (452, ""), (550, "5.7.1"), (550, ""), (554, "")],
)
def test_a_refusal_of_mail_that_speaks_of_us_rests_the_queue(code: int, enhanced: str) -> None:
    outcome = outcome_of(Step.MAIL, a(code, enhanced))
    assert outcome == Deferred(a(code, enhanced), Extent.CONNECTION)


@pytest.mark.parametrize(
    ("code", "enhanced"),
    [
        (550, "5.1.8"),
        (553, "5.1.7"),
        (552, "5.3.4"),
        (552, ""),
        (501, ""),
        (555, "5.5.4"),
        (550, "5.6.7"),
    ],
)
def test_a_refusal_of_mail_that_names_the_message_fails_it_alone(code: int, enhanced: str) -> None:
    assert outcome_of(Step.MAIL, a(code, enhanced)) == Failed(a(code, enhanced), Extent.MESSAGE)


def test_a_sender_that_does_not_resolve_yet_holds_up_nobody_else() -> None:
    assert outcome_of(Step.MAIL, a(451, "4.1.8")) == Deferred(a(451, "4.1.8"), Extent.MESSAGE)


def test_refusals_of_a_recipient_touch_that_recipient() -> None:
    assert outcome_of(Step.RCPT, a(450, "4.2.1")) == Deferred(a(450, "4.2.1"))
    assert outcome_of(Step.RCPT, a(550, "5.1.1")) == Failed(a(550, "5.1.1"))


def test_552_to_a_recipient_is_too_many_unless_the_mailbox_is_full() -> None:
    # RFC 5321 §4.5.3.1.10
    assert isinstance(outcome_of(Step.RCPT, a(552)), Deferred)
    assert isinstance(outcome_of(Step.RCPT, a(552, "5.2.2")), Failed)


@pytest.mark.parametrize("step", [Step.DATA, Step.BODY, Step.END_OF_DATA])
def test_refusals_of_the_data_touch_the_message(step: Step) -> None:
    assert outcome_of(step, a(451)) == Deferred(a(451), Extent.MESSAGE)
    assert outcome_of(step, a(554, "5.7.1")) == Failed(a(554, "5.7.1"), Extent.MESSAGE)


def test_only_an_answer_to_the_dot_delivers() -> None:
    assert outcome_of(Step.END_OF_DATA, a(250)) == Delivered(a(250))
    for step in CONVERSATION:
        for code in (250, 251, 252, 354):
            assert isinstance(outcome_of(step, a(code)), Deferred), (step, code)
    assert isinstance(outcome_of(Step.END_OF_DATA, a(354)), Deferred)
