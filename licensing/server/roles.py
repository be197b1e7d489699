"""Who of the vendor's people may do what: by the name or the unit in the client certificate, which the TLS layer has verified."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

NOBODY = "unnamed"


@dataclass(frozen=True, slots=True)
class Roles:
    """Operators change things, viewers look. Where nobody is named, everybody whom the authority certifies is an operator."""

    operators: frozenset[str] = field(default_factory=frozenset)
    viewers: frozenset[str] = field(default_factory=frozenset)

    def why_not(self, certificate: Mapping[str, Any] | None, *, changes: bool) -> str:
        """Why this is not for the owner of this certificate, "" where it is."""
        if not self.operators and not self.viewers:
            return ""
        names = set(_named(certificate, "commonName", "organizationalUnitName"))
        if names & self.operators or (not changes and names & self.viewers):
            return ""
        if names & self.viewers:
            return f"{name_of(certificate)} may look and not change anything"
        return f"{name_of(certificate)} has no role here: ask for --operator or --viewer with this name or its unit"


EVERYBODY = Roles()


def name_of(certificate: Mapping[str, Any] | None) -> str:
    """The common name."""
    return next(iter(_named(certificate, "commonName")), NOBODY)


def _named(certificate: Mapping[str, Any] | None, *kinds: str) -> Iterable[str]:
    for part in (certificate or {}).get("subject", ()):
        for key, value in part:
            if key in kinds:
                yield str(value)
