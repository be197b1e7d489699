"""Shapes of what commands answer that need no running server: configuration, spool, DKIM, refusals, doctor."""

from mta.cli.answers.words import Annotated, Any, Meta, Shape


class SpoolReport(Shape):
    """What was found in one spool."""

    path: str
    messages: int
    recipients: int
    events: int
    queues: int
    body_files: int
    problems: Annotated[list[str], Meta(description="What is wrong; empty: it is sound.")]


class Classified(Shape):
    """What a reply means."""

    reply: str
    category: str
    verdict: Annotated[str, Meta(description="`hard`, `soft`, `block` or `transient`.")]
    fault: str
    rule: Annotated[str, Meta(description='The rule that says so; "" for none.')]


class Problem(Shape):
    """A mistake, or what will probably go wrong."""

    file: str
    line: int | None
    key: str
    text: str


class ConfigProblems(Shape):
    """What is wrong with a configuration. Every command that reads one answers so, with exit status 78, if it has mistakes."""

    problems: list[Problem]
    warnings: list[Problem]


class ConfigSection(Shape):
    """The values of one table of the configuration."""

    file: str
    values: dict[str, Any]


class ConfigShown(Shape):
    """The configuration as it counts. The keys of its tables are those of the configuration reference; durations are seconds."""

    file: str
    server: dict[str, Any]
    listeners: list[dict[str, Any]]
    sources: dict[str, dict[str, Any]]
    vmtas: dict[str, dict[str, Any]]
    pools: dict[str, dict[str, Any]]
    selection: dict[str, Any]
    sites: dict[str, dict[str, Any]]
    places: dict[str, ConfigSection]
    dkim: list[dict[str, Any]]
    accounting: dict[str, dict[str, Any]]
    license: dict[str, Any]
    metrics: dict[str, Any]
    logging: dict[str, Any]


class ConfigValue(Shape):
    """A value, and where it is set."""

    value: Any
    file: str
    section: str


class ConfigExplained(Shape):
    """Every value of a queue."""

    domain: str
    vmta: str
    site: str
    values: dict[str, ConfigValue]


class DkimKey(Shape):
    """A new key, and the DNS record to publish for it."""

    key_file: str
    name: str
    type: str
    text: str
    zone: Annotated[str, Meta(description="The record in zone form.")]


class DkimSignature(Shape):
    """What became of one signature."""

    domain: str
    selector: str
    algorithm: str
    passed: bool
    reason: str
    note: str


class DkimChecked(Shape):
    """The signatures of a message."""

    passed: Annotated[bool, Meta(description="There is one, and none fails.")]
    signatures: list[DkimSignature]


class Finding(Shape):
    """One thing that was looked at."""

    check: str
    subject: str
    level: Annotated[str, Meta(description="`ok`, `warning`, `failure` or `skipped`.")]
    found: str
    advice: Annotated[str, Meta(description='What to do; "" for nothing.')]


class Examined(Shape):
    """What the doctor found."""

    sound: Annotated[bool, Meta(description="Nothing fails.")]
    findings: list[Finding]
