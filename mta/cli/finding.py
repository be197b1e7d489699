"""What `sluice doctor` finds: one fact, how it stands, and what to do about it."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How a finding stands."""

    OK = "ok"
    WARNING = "warning"  # mail flows, and may be judged badly or slowly
    FAILURE = "failure"  # mail will not flow, or will be refused
    SKIPPED = "skipped"  # could not be looked at from here


@dataclass(frozen=True, slots=True)
class Finding:
    """`check` names the kind for tools, `subject` what was looked at; `advice` is empty where nothing is to be done."""

    check: str
    subject: str
    level: Level
    found: str
    advice: str = ""


def ok(check: str, subject: str, found: str) -> Finding:
    """As it should be."""
    return Finding(check, subject, Level.OK, found)


def warning(check: str, subject: str, found: str, advice: str) -> Finding:
    """Not as it should be; mail flows all the same."""
    return Finding(check, subject, Level.WARNING, found, advice)


def failure(check: str, subject: str, found: str, advice: str) -> Finding:
    """To be mended."""
    return Finding(check, subject, Level.FAILURE, found, advice)


def skipped(check: str, subject: str, found: str, advice: str = "") -> Finding:
    """Nobody knows."""
    return Finding(check, subject, Level.SKIPPED, found, advice)
