"""Who tries passwords: how long an address, or a user at an address, waits after failed logins (RFC 4954 §9).

Two counts. A *source* that has failed often waits, whoever it names. A *user* who was named in many
failures is slow for sources that have failed before; never for one that has not, nor for one the
user has logged in from: whoever guesses at a name cannot lock its owner out. What is guessed from
ever new addresses therefore costs one address a guess.

A wait begins with the attempt, not with its end: a hundred at once are one. Memory is bounded:
beyond `MAX_ENTRIES` of each kind the one that failed longest ago is forgotten.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

FREE_OF_SOURCE: Final = 5  # people mistype; several may share an address
FREE_OF_USER: Final = 10
FIRST_WAIT_S: Final = 2.0
LONGEST_WAIT_S: Final = 300.0  # who has corrected a client's password must not wait for ever
FORGOTTEN_AFTER_S: Final = 3600.0
MAX_ENTRIES: Final = 10_000

Key = TypeVar("Key")


@dataclass(slots=True)
class _Record:
    """Failures of one source or user."""

    failures: int = 0
    last: float = 0.0
    until: float = 0.0  # no attempt before


class _Records(Generic[Key]):
    """Records by key, the one that failed longest ago first."""

    def __init__(self, free: int) -> None:
        self._free = free
        self._records: OrderedDict[Key, _Record] = OrderedDict()

    def __len__(self) -> int:
        return len(self._records)

    def get(self, key: Key, now: float) -> _Record | None:
        record = self._records.get(key)
        if record is not None and now - record.last > FORGOTTEN_AFTER_S:
            del self._records[key]
            return None
        return record

    def failed(self, key: Key, now: float) -> None:
        record = self.get(key, now)
        if record is None:
            record = self._records[key] = _Record()
        record.failures += 1
        record.last = now
        self.rest(record, now)
        self._records.move_to_end(key)
        while len(self._records) > MAX_ENTRIES:
            self._records.popitem(last=False)

    def rest(self, record: _Record, now: float) -> None:
        """An attempt is made: the next one comes later the more have failed."""
        beyond = record.failures - self._free
        if beyond >= 0:
            record.until = now + min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(beyond, 30))


class Guesses:
    """What one worker has seen of failed logins. A `source` is an IPv4 address or an IPv6 /64."""

    def __init__(self) -> None:
        self._sources: _Records[str] = _Records(FREE_OF_SOURCE)
        self._users: _Records[str] = _Records(FREE_OF_USER)
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()  # logged in from there

    @property
    def size(self) -> int:
        """Records kept."""
        return len(self._sources) + len(self._users) + len(self._known)

    def wait(self, source: str, user: str, now: float) -> float:
        """Seconds until this login may be tried; 0.0: now, and it counts as being tried."""
        at_source = self._sources.get(source, now)
        if at_source is None:
            return 0.0
        of_user = None
        if (source, user) not in self._known:
            of_user = self._users.get(user, now)
        until = max(at_source.until, of_user.until if of_user is not None else 0.0)
        if until > now:
            return until - now
        self._sources.rest(at_source, now)
        if of_user is not None:
            self._users.rest(of_user, now)
        return 0.0

    def failed(self, source: str, user: str, now: float) -> None:
        """The password was wrong, or there is no such user."""
        self._sources.failed(source, now)
        self._users.failed(user, now)

    def succeeded(self, source: str, user: str, now: float) -> None:
        """The password was right. Failures before are not forgotten: they may have been at other names."""
        self._known[source, user] = None
        self._known.move_to_end((source, user))
        while len(self._known) > MAX_ENTRIES:
            self._known.popitem(last=False)
        record = self._sources.get(source, now)
        if record is not None:
            record.until = now

    def unanswered(self, source: str, user: str, now: float) -> None:
        """We could not look: that attempt makes nobody wait."""
        for record in (self._sources.get(source, now), self._users.get(user, now)):
            if record is not None:
                record.until = min(record.until, now)
