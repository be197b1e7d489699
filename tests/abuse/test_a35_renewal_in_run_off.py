"""A35: a renewal is installed while the expired licence is running off, or holds already. VALID at once, and mail goes on."""

from dataclasses import replace
from datetime import timedelta

import msgspec
import pytest

from licensing.entitlement import Injection, State
from licensing.evaluate import evaluate
from licensing.facts import Facts
from licensing.model.license import Kind
from tests.support.license_facts import EXPIRES, TERMINATES, WITH_ENGINE, activated, held, the_facts

ENDS = TERMINATES.timestamp() + 1
DAY = 86_400.0


def ended(kind: Kind, at: float) -> Facts:
    """A node whose licence has ended; the activation slides with the reports that go on."""
    facts = the_facts(kind, last_contact=at)
    standing = facts.held[0]
    sliding = activated(standing.license, at=at, valid_until=int(at) + 35 * 86_400)
    return replace(facts, held=(replace(standing, activation=sliding),))


def renewed(facts: Facts) -> Facts:
    """The same node after `sluice license install`."""
    before = facts.held[0]
    terms = msgspec.structs.replace(
        before.license,
        revision=2,
        not_before=EXPIRES,
        expires_at=EXPIRES + timedelta(days=365),
        terminate_at=EXPIRES + timedelta(days=395),
    )
    after = held(terms, activation=before.activation, first_seen=before.first_seen)
    return replace(facts, held=(before, after))


@pytest.mark.parametrize("kind", WITH_ENGINE)
@pytest.mark.parametrize("since_end", [0.0, 2 * DAY, 3 * DAY, 20 * DAY])
def test_a_renewal_makes_it_valid_in_the_same_second(kind: Kind, since_end: float) -> None:
    at = ENDS + since_end
    before = evaluate(ended(kind, at), at)
    assert before.state is State.EXPIRED
    assert before.injection is Injection.REFUSED
    assert before.deliver == (since_end < 3 * DAY)
    after = evaluate(renewed(ended(kind, at)), at)
    assert (after.state, after.injection, after.deliver) == (State.VALID, Injection.OPEN, True)
    assert after.remarks == ()


def test_a_renewal_that_begins_later_does_not_help_before() -> None:
    at = ENDS + 4 * DAY
    later = msgspec.structs.replace(
        renewed(ended(Kind.ENTERPRISE_SERVER, at)).held[1].license,
        not_before=TERMINATES + timedelta(days=10),
    )
    facts = ended(Kind.ENTERPRISE_SERVER, at)
    facts = replace(facts, reports=False, held=(*facts.held, replace(facts.held[0], license=later)))
    found = evaluate(facts, at)
    assert found.state is State.EXPIRED
    assert found.until == later.not_before.timestamp()
    assert evaluate(facts, found.until).state is State.VALID
