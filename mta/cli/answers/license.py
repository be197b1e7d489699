"""Shapes of what is answered about the licence. With `lab` true only those fields stand that lab mode knows."""

from mta.cli.answers.words import (
    UNSET,
    Annotated,
    Any,
    MaybeTime,
    Meta,
    Shape,
    Time,
    UnsetType,
)


class Remark(Shape):
    """Something worth knowing."""

    code: str
    text: str


class LicenseConnections(Shape):
    """Outbound connections under the licence."""

    in_use: int
    limit: Annotated[int | None, Meta(description="null: any number.")]
    peak: int


class InstalledLicense(Shape):
    """One licence file."""

    license_id: str
    revision: int
    kind: str
    limitation: str
    quantity: int
    licensee: str
    customer_id: str
    order_ref: str
    not_before: Annotated[str, Meta(description="ISO 8601, as all days and times of a licence.")]
    expires_at: str
    terminate_at: str
    support_until: str
    updates_until: str
    production: bool
    file: str
    is_copy: bool
    sha256: str
    activation_id: Annotated[str | None, Meta(description="null: not activated.")]
    seats: int | None
    refusal: Annotated[str, Meta(description='Why the vendor refused it; "" if not.')]


class PassedOver(Shape):
    """A file that does not count."""

    file: str
    code: str
    reason: str


class Lease(Shape):
    """Emails that the vendor set aside for this server."""

    id: str
    emails: int
    used: int
    use_until: Time


class Volume(Shape):
    """What a volume licence has left."""

    period: str | None
    quota: int | None
    used: int | None
    servers: int | None
    counted_here: int
    left: int | None
    under_way: int
    on_credit: bool
    rate_1h: float
    exhausted_at: MaybeTime
    leases: list[Lease]


class ReportState(Shape):
    """How reporting to the vendor goes."""

    enabled: bool
    last_contact: MaybeTime
    age: Annotated[float | None, Meta(description="Seconds since then.")]
    epoch: int
    seq: int
    under_way: bool
    tries: int
    next_at: MaybeTime
    failure: Annotated[str, Meta(description='"" if the last one went well.')]


class LicenseClock(Shape):
    """The time that licensing goes by."""

    now: Time
    offset: Annotated[float, Meta(description="Seconds beside the machine's clock.")]


class LicenseStatus(Shape):
    """What the licence allows now, and why."""

    lab: Annotated[bool, Meta(description="No licence is needed.")]
    state: str
    injection: Annotated[str, Meta(description="Whether mail is taken.")]
    deliver: Annotated[bool, Meta(description="Whether mail is delivered.")]
    reason: str
    hold: Annotated[str, Meta(description='Why delivery waits; "" if it does not.')]
    exit_code: Annotated[int, Meta(description="Exit status of `sluice license status`.")]
    metered: bool
    development: bool
    remarks: list[Remark]
    connections: LicenseConnections
    until: MaybeTime | UnsetType = UNSET
    deadline: MaybeTime | UnsetType = UNSET
    node_id: str | UnsetType = UNSET
    seat_class: str | UnsetType = UNSET
    licenses: list[InstalledLicense] | UnsetType = UNSET
    staged: list[InstalledLicense] | UnsetType = UNSET
    passed_over: list[PassedOver] | UnsetType = UNSET
    volume: Volume | UnsetType | None = UNSET
    findings: Annotated[
        dict[str, float] | UnsetType, Meta(description="Code \u2192 when it was first seen.")
    ] = UNSET
    fingerprint: str | UnsetType = UNSET
    report: ReportState | UnsetType = UNSET
    clock: LicenseClock | UnsetType = UNSET
    latest_version: str | UnsetType = UNSET
    trouble: Annotated[str | UnsetType, Meta(description="Licensing failed when it was asked.")] = (
        UNSET
    )


class Licenses(Shape):
    """The installed licences."""

    licenses: list[InstalledLicense]
    passed_over: list[PassedOver]


class DayOfUsage(Shape):
    """Emails of one day."""

    counted: int
    acknowledged: Annotated[int, Meta(description="What the vendor has signed for.")]


class Usage(Shape):
    """Own figures beside those that are billed."""

    license_id: str
    epoch: int
    counted: int
    acknowledged: int
    difference: int
    days: Annotated[dict[str, DayOfUsage], Meta(description="UTC day \u2192 figures.")]


class ReconciledDay(Shape):
    """Emails of one day."""

    counted: int
    recorded: Annotated[int, Meta(description="Deliveries in the accounting files.")]


class Reconciled(Shape):
    """The ledger beside accounting files."""

    days: dict[str, ReconciledDay]
    counted: int
    recorded: int
    difference: int


class LicenseEvent(Shape):
    """What happened to the licence."""

    at: Time
    code: str
    text: str


class ConnectionStep(Shape):
    """One step of the way to the vendor."""

    step: str
    ok: bool
    text: str


class InstalledFile(Shape):
    """What was installed: a licence has the first four, an activation the others."""

    license_id: str | UnsetType = UNSET
    revision: int | UnsetType = UNSET
    kind: str | UnsetType = UNSET
    file: str | UnsetType = UNSET
    activation_id: str | UnsetType = UNSET
    seats: int | UnsetType = UNSET


class Activation(Shape):
    """A seat that was taken."""

    activation_id: str
    license_id: str
    seats: int


class Activated(Shape):
    """The seats of this server."""

    activations: list[Activation]


class Deactivated(Shape):
    """The seats that are free now."""

    deactivated: list[str]


class Reported(Shape):
    """What became of a report."""

    outcome: str
    failure: Annotated[str, Meta(description='"" if it went well.')]


class TakenAnswers(Shape):
    """What became of the portal's answer."""

    outcome: str


class SentStatement(Shape):
    """A body that left this server."""

    bytes: Annotated[str, Meta(description="Every byte, as it left.")]
    statement: Annotated[Any, Meta(description="What it says; null if it is none of ours.")]
    payload_type: str | UnsetType = UNSET
