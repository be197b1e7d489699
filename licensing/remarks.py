"""What the operator is told about a licence: each text names licence, node, period, figures and the remedy (C26).

Only words: `evaluate` decides when each holds. A text never depends on the time it is read at ("since", never "for"), for a
decision must stay the same until its `until`. The code names an occurrence for ever: licence, period or since when.
"""

from licensing.calendar import say_time
from licensing.entitlement import Remark
from licensing.facts import Finding, Held, VolumeUse

VOLUME_PERCENT = (80, 90, 95, 100)  # C26; 80 and 100 are clause 9.5's
EXPIRY_DAYS = (60, 30, 14, 7, 3, 1)
FLAGGED_DAYS = 30  # from here on a coming expiry is a flaw of the state, not only news

_RENEW = "Install the renewal: `sluice license install FILE`."
_ACTIVATE = (
    "Run `sluice license activate`, or offline `sluice license request` and install the answer."
)
_REPORT = "Make sure that HTTPS to the licence server works: `sluice license test-connection`."

_WHAT = {
    "clone": "the same node has reported from two machines: give the copy a node of its own",
    "dual_active": "primary and backup have both delivered: stop one of them",
    "over_use": "more was sent than the licence allows: an upgrade is due",
    "fp_mismatch": "this machine is not the one that was activated. " + _ACTIVATE,
    "ledger_missing": "the licence ledger is gone: restore it, or let the server report, which opens a new one",
    "ledger_chain": "the licence ledger was changed: restore it, or let the server report, which opens a new one",
    "ledger_unwritable": "the licence ledger cannot be written: make room in the state directory",
    "rewind": "the licence state is older than what was reported: let the server report, which opens a new epoch",
    "license_altered": "the licence file was changed on disk: install the original again",
    "state_ephemeral": "the state directory does not outlast a restart, which makes this another node: mount a lasting volume"
    " there, or set `[license] allow_ephemeral = true` if that is meant",
    "clock_step": "this machine's clock is wrong: set it right (NTP)",
    "fp_drift": "parts of this machine have changed; the activation still holds",
}


class Words:
    """The remarks on one licence of one node. Mostly there are none: nothing is put together before it is asked for."""

    __slots__ = ("_whose", "held", "node_label")

    def __init__(self, held: Held, node_label: str) -> None:
        self.held = held
        self.node_label = node_label
        self._whose = ""

    @property
    def whose(self) -> str:
        """How a text begins: which licence, which order, which node."""
        if not self._whose:
            terms = self.held.license
            kind = terms.kind.value.replace("_", " ")
            node = f", node {self.node_label}" if self.node_label else ""
            self._whose = f"{kind} licence {terms.license_id} (order {terms.order_ref}{node})"
        return self._whose

    def _named(self, what: str) -> str:
        return f"{what}:{self.held.license.license_id}"

    def _term(self, what: str) -> str:
        return f"{what}:{self.held.license.license_id}:{self.held.license.revision}"

    def not_begun(self, begins: float) -> Remark:
        """Installed ahead of its time."""
        return Remark(
            self._term("not_begun"),
            f"{self.whose} begins on {say_time(begins)}: mail is kept until then.",
        )

    def expiry(self, days: int, expires: float) -> Remark:
        """So many days or fewer are left; the earlier notices are covered."""
        return Remark(
            self._term(f"expiry_{days}"),
            f"{self.whose} expires on {say_time(expires)}, in {days} days or less. {_RENEW}",
            level="warn" if days <= FLAGGED_DAYS else "info",
            covers=tuple(self._term(f"expiry_{each}") for each in EXPIRY_DAYS if each > days),
        )

    def grace(self, expires: float, ends: float) -> Remark:
        """Expired, and borne for as long as the contract says."""
        return Remark(
            self._term("expired_grace"),
            f"{self.whose} expired on {say_time(expires)}; everything goes on until {say_time(ends)}. {_RENEW}",
            level="error",
            covers=tuple(self._term(f"expiry_{each}") for each in EXPIRY_DAYS),
        )

    def expired(self, ends: float, held_from: float) -> Remark:
        """At its end: the run-off, and the duty of clause 8.11 (C23)."""
        return Remark(
            self._term("expired"),
            f"{self.whose} ended on {say_time(ends)}: no new mail is taken; what is queued is delivered until"
            f" {say_time(held_from)} and kept after that. {_RENEW}"
            " If it is not renewed, the software and its copies are to be deleted (terms, section 8.11).",
            level="error",
        )

    def to_be_revoked(self, at: float) -> Remark:
        """A signed revocation that is not in force yet."""
        return Remark(
            self._term("to_be_revoked"),
            f"{self.whose} is revoked from {say_time(at)} on: {self.held.revoked_because}. Ask your vendor.",
            level="error",
        )

    def revoked(self, at: float, held_from: float) -> Remark:
        """A signed revocation in force."""
        return Remark(
            self._term("revoked"),
            f"{self.whose} was revoked on {say_time(at)}: {self.held.revoked_because}. No new mail is taken; what is"
            f" queued is delivered until {say_time(held_from)} and kept after that. Install a new licence.",
            level="error",
        )

    def pending(self, deadline: float) -> Remark:
        """Good, and not activated."""
        return Remark(
            self._named("pending"),
            f"{self.whose} is not activated: it works until {say_time(deadline)}.{self._refusal()} {_ACTIVATE}",
        )

    def not_activated(self, deadline: float) -> Remark:
        """The time for activation is over."""
        return Remark(
            self._named("not_activated"),
            f"{self.whose} was not activated by {say_time(deadline)}: mail is kept, none is taken or delivered."
            f"{self._refusal()} {_ACTIVATE}",
            level="error",
        )

    def lapsed(self, at: float, *, stops: bool) -> Remark:
        """The activation was not renewed in time; it stops nothing but a volume licence."""
        what = "mail is kept, none is taken or delivered" if stops else "everything goes on"
        return Remark(
            f"{self._named('lapsed')}:{at:.0f}",
            f"the activation of {self.whose} ended on {say_time(at)}: {what}. {_ACTIVATE}",
            level="error" if stops else "warn",
        )

    def silence(self, since: float, grace_from: float | None = None) -> Remark:
        """No contact with the licence server; `grace_from`: when that becomes grave, None: never."""
        what = "Nothing stops for that."
        if grace_from is not None:
            what = f"From {say_time(grace_from)} on it counts as a breach of the duty to report."
        return Remark(
            f"{self._named('silence')}:{since:.0f}",
            f"no report of {self.whose} was acknowledged since {say_time(since)}. {what} {_REPORT}",
        )

    def silence_grace(self, since: float, deadline: float) -> Remark:
        """Silent for long: everything goes on up to the deadline."""
        return Remark(
            f"{self._named('silence_grace')}:{since:.0f}",
            f"no report of {self.whose} was acknowledged since {say_time(since)}:"
            f" delivery stops at {say_time(deadline)} (terms, section 8.4). {_REPORT}",
            level="error",
            covers=(f"{self._named('silence')}:{since:.0f}",),
        )

    def silence_held(self, since: float) -> Remark:
        """Silent for too long: held, never dropped."""
        return Remark(
            f"{self._named('silence_held')}:{since:.0f}",
            f"no report of {self.whose} was acknowledged since {say_time(since)}: mail is taken and kept, not delivered."
            f" It goes on by itself when a report is acknowledged. {_REPORT}",
            level="error",
            covers=tuple(
                f"{self._named(each)}:{since:.0f}" for each in ("silence", "silence_grace")
            ),
        )

    def volume(self, percent: int, use: VolumeUse) -> Remark:
        """A threshold of the volume is reached. The figure is the threshold's: what is used now changes with every Email."""
        return Remark(
            f"{self._named(f'volume_{percent}')}:{use.period}",
            f"{self.whose} has used {percent} % ({use.quota * percent // 100:,}) or more of the {use.quota:,} Emails of"
            f" the period {use.period}. For more, ask your vendor for an upgrade and install it.",
            level="error" if percent == VOLUME_PERCENT[-1] else "warn",
            covers=tuple(
                f"{self._named(f'volume_{each}')}:{use.period}"
                for each in VOLUME_PERCENT
                if each < percent
            ),
        )

    def waiting(self, period: str) -> Remark:
        """The pool has Emails, this node has used up its block: a matter of seconds, unless nobody answers."""
        return Remark(
            f"{self._named('waiting')}:{period}",
            f"{self.whose}: this node has used up the Emails granted to it and has asked for more; mail is taken and kept"
            f" until they come. {_REPORT}",
        )

    def used_up(self, use: VolumeUse) -> Remark:
        """The pool is used up: held until the next period or an upgrade."""
        return Remark(
            f"{self._named('used_up')}:{use.period}",
            f"{self.whose}: all {use.quota:,} Emails of the period {use.period} are used; mail is taken and kept, not"
            " delivered. It goes on with the next period, or with an upgrade: ask your vendor and install it.",
            level="error",
        )

    def day_used_up(self, day: str, cap: int, until: float) -> Remark:
        """A Development licence has sent what it may in a day (C25)."""
        return Remark(
            f"{self._named('day_used_up')}:{day}",
            f"{self.whose}: {cap:,} Emails of {day} are sent; mail is taken and kept until {say_time(until)}.",
        )

    def role(self, role: str) -> Remark:
        """Not the server that delivers."""
        remedy = (
            "it begins when it is made the active one of its pair"
            if role == "standby"
            else "the other server of its pair does; what is here is kept"
        )
        return Remark(
            self._named(role),
            f"{self.whose}: this server is {role}, it delivers nothing; {remedy}.",
        )

    def finding(self, found: Finding, deadline: float | None = None) -> Remark:
        """Something does not fit; a deadline where it will have consequences."""
        until = f" To be put right by {say_time(deadline)}." if deadline is not None else ""
        return Remark(
            f"{found.code}:{found.since:.0f}",
            f"{self.whose}: {_what(found)} (since {say_time(found.since)}).{until}",
            level="warn" if deadline is None else "error",
        )

    def tampered(self, found: Finding, what: str, stage: str) -> Remark:
        """It was not put right; `stage` names the consequence, `what` says it."""
        return Remark(
            f"{stage}:{found.code}:{found.since:.0f}",
            f"{self.whose}: {_what(found)} (since {say_time(found.since)}). {what} Ask your vendor if you cannot mend it.",
            level="error",
            covers=(f"{found.code}:{found.since:.0f}",),
        )

    def _refusal(self) -> str:
        return f" The licence server says: {self.held.refusal}." if self.held.refusal else ""


def unreadable(found: Finding) -> Remark:
    """A file whose signature no longer holds, where no other licence is left: nothing of it can be named."""
    text = f"no licence is in force: {_what(found)} (since {say_time(found.since)})."
    return Remark(f"{found.code}:{found.since:.0f}", text, level="error")


def _what(found: Finding) -> str:
    known = _WHAT.get(found.code, found.code.replace("_", " "))
    return f"{known} ({found.text})" if found.text else known
