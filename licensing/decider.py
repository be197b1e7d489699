"""The border around the decisions: a bug in licensing must never be what stops mail (A37).

Holds the last good decision. When gathering the facts, reading the time or judging them raises, that decision stays in force and
an event says so; after a day it is called GRACE, so that somebody looks. It never makes a decision milder than the last good one:
trouble that is made on purpose gains nothing.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from licensing.entitlement import UNLICENSED, Entitlement, Remark, State
from licensing.evaluate import evaluate
from licensing.facts import Facts

INTERNAL_ERROR = "license_internal_error"
BORNE_S = 86_400.0  # from then on a good decision that cannot be renewed is called GRACE

# What is fine by itself; of the others the state stays, for it says more.
_FINE = frozenset({State.VALID, State.PENDING})


class Decider:
    """`entitlement` is always one that was decided, whatever breaks; `decide` never raises."""

    def __init__(
        self,
        gather: Callable[[], Facts],
        now: Callable[[], float],
        *,
        elapsed: Callable[[], float],
        told: Callable[[str, str], None],
        first: Entitlement = UNLICENSED,
        judge: Callable[[Facts, float], Entitlement] = evaluate,
    ) -> None:
        """`now` is the trusted time, `elapsed` a clock that cannot fail (seconds of this process); `told` hears of events.

        `first` is in force until the first decision: what the last run decided, where that is known.
        """
        self._gather = gather
        self._now = now
        self._elapsed = elapsed
        self._told = told
        self._judge = judge
        self._good = first
        self._failing_since: float | None = None
        self.failures = 0
        self.entitlement = first

    def decide(self) -> Entitlement:
        """Look again. What is in force then; the event is told once for each time of trouble."""
        try:
            self._good = self.entitlement = self._judge(self._gather(), self._now())
            self._failing_since = None
        except Exception as error:  # border of licensing: a bug here keeps the last decision (A37)
            self._failed(error)
        return self.entitlement

    def _failed(self, error: Exception) -> None:
        self.failures += 1
        at = self._elapsed()
        if self._failing_since is None:
            self._failing_since = at
            with suppress(Exception):  # whoever is told may be what is broken
                self._told(INTERNAL_ERROR, f"{type(error).__name__}: {error}")
        self.entitlement = self._kept(self._failing_since, at)

    def _kept(self, since: float, at: float) -> Entitlement:
        """The last good decision, with a remark. Its `until` is gone: the caller looks again at its usual times."""
        remark = Remark(
            f"{INTERNAL_ERROR}:{since:.0f}",  # each time of trouble is told
            "the licence could not be judged for a fault of this software: the last decision stays in force."
            " Look for license_internal_error in the log and tell your vendor.",
            level="error",
        )
        kept = replace(self._good, until=None, remarks=(remark, *self._good.remarks))
        if at - since < BORNE_S or kept.state not in _FINE:
            return kept
        return replace(kept, state=State.GRACE, reason=remark.text)
