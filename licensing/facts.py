"""What is known at a moment, gathered for `evaluate`: plain values, no behaviour.

The guard gathers them (store, ledger, reporter), `evaluate` judges them. All times are seconds since 1970 of the trusted clock
(`licensing.clock`); licences and activations are the signed statements themselves, verified before they come here.
"""

from dataclasses import dataclass

from licensing.calendar import DAY_S
from licensing.model.activation import Activation, Role
from licensing.model.license import CONNECTIONS_PER_STANDARD_LICENCE, License


@dataclass(frozen=True, slots=True)
class Held:
    """A licence the store has chosen, and how this node stands to it.

    Two revisions of one `license_id` may be given: the newest that has begun rules, so that a renewal installed early takes over
    without a gap (C3).
    """

    license: License
    first_seen: float  # when this node saw this `license_id` first; a renewal does not change it
    activation: Activation | None = None
    refusal: str = ""  # why the vendor refused the activation, for people
    revoked_at: float | None = None  # of a signed revocation
    revoked_because: str = ""


@dataclass(frozen=True, slots=True)
class VolumeUse:
    """The pool at the last ack, and what this node may still send.

    `left`: Emails of open leases and of credit (before activation: of the start block) that are not used; those under way are
    among them, for they may come back: taking the last one is no reason to hold. `left` ends at `left_until` (the lease's or
    the period's end) without anybody's doing. `quota` and `used` are the pool's.
    """

    period: str
    quota: int
    used: int
    left: int
    left_until: float | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not fit. `code` of CURED, BORNE, or any other, which is only a notice."""

    code: str
    since: float
    text: str = ""


# C24: what the customer has `cure_business_days` to put right.
CURED = frozenset({"clone", "dual_active", "over_use"})
# The vendor says which of two copies keeps its seat (A2), with the next heartbeat after the days of cure, or the one after.
VENDOR_DECIDES_S = 2 * DAY_S
# What is borne for `integrity_s` and is TAMPERED then.
BORNE = frozenset({"fp_mismatch", "ledger_missing", "ledger_chain", "ledger_unwritable", "rewind"})
# The file on disk is no longer what was verified, and there is no good copy: TAMPERED at once.
ALTERED = "license_altered"


@dataclass(frozen=True, slots=True)
class Facts:
    """All that decides what the licence allows. `last_contact`: the last acknowledged report or activation, None: never.

    `role` and `pair_connections` (the limit of the server a Hot Backup stands in for, None: unlimited) are those of the last ack.
    `dev_used` are the Emails of the UTC day `dev_day` ("2026-11-23") under a Development licence.
    """

    is_lab: bool = False
    held: tuple[Held, ...] = ()
    node_label: str = ""
    reports: bool = True  # the heartbeat of server kinds may be turned off
    last_contact: float | None = None
    volume: VolumeUse | None = None
    findings: tuple[Finding, ...] = ()
    role: Role = "primary"
    fenced_accepts: bool = True
    pair_connections: int | None = CONNECTIONS_PER_STANDARD_LICENCE
    dev_day: str = ""
    dev_used: int = 0
