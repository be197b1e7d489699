"""The ring of errors: the only place where source addresses are kept, at most 100 a licence and 14 days (C29). In memory only."""

from collections import OrderedDict, deque
from dataclasses import dataclass

MAX_PER_LICENSE = 100
MAX_AGE_S = 14 * 86_400
MAX_LICENSES = 10_000


@dataclass(frozen=True, slots=True)
class Incident:
    """One request that came to nothing."""

    at: float
    source: str
    status: int
    code: str


class Incidents:
    """The last errors of each licence; those of nobody we know stand under an empty name."""

    def __init__(self) -> None:
        self._rings: OrderedDict[str, deque[Incident]] = OrderedDict()

    def note(self, license_id: str, incident: Incident) -> None:
        """Keep one; the oldest goes."""
        ring = self._rings.setdefault(license_id, deque(maxlen=MAX_PER_LICENSE))
        ring.append(incident)
        self._rings.move_to_end(license_id)
        if len(self._rings) > MAX_LICENSES:
            self._rings.popitem(last=False)

    def of(self, license_id: str, now: float) -> list[Incident]:
        """The errors of a licence that may still be kept, the oldest first."""
        return [each for each in self._rings.get(license_id, ()) if now - each.at <= MAX_AGE_S]

    def forget(self, now: float) -> None:
        """Drop what is too old to be kept."""
        for name in list(self._rings):
            ring = self._rings[name]
            while ring and now - ring[0].at > MAX_AGE_S:
                ring.popleft()
            if not ring:
                del self._rings[name]
