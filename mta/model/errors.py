"""Errors by whose fault they are: ours (`SpoolError`), the peer's (`ProtocolError`), the operator's (`ConfigError`).

A remote refusal is none of these: it is a value (`mta.model.outcome`).
"""

from dataclasses import dataclass


class ProtocolError(Exception):
    """The peer broke the protocol; the driver closes that connection."""


class AddressError(ValueError):
    """An envelope address that cannot be parsed; its text says why."""


class Unsayable(ValueError):
    """What cannot be said to a host in one clean command or line: the message's fault, where any other ValueError is ours."""


class SpoolError(Exception):
    """Durable state could not be written; nothing of that batch may be acknowledged."""

    is_full = False  # True: only room was lacking (452 4.3.1); else 451 4.3.0


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in the configuration: where it is, what is wrong, what to do."""

    file: str
    key: str
    text: str
    line: int = 0  # 0: not known

    def __str__(self) -> str:
        file = f"{self.file}:{self.line}" if self.line else self.file
        return f"{file}: {self.key}: {self.text}" if self.key else f"{file}: {self.text}"


class ConfigError(Exception):
    """The operator's mistakes, all of them at once."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems
