"""What an operator drains, in one worker: what is queued goes out, and no more is taken for it (451: the feeder keeps it)."""

from collections.abc import Callable, Iterable

from mta.model.envelope import QueueKey, parse_queue_key
from mta.policy.orders import DRAIN, Order


class Drains:
    """The domains, sites, jobs and queues that are drained now."""

    def __init__(self, site_of: Callable[[str], str]) -> None:
        """`site_of`: a domain's site as far as it is known."""
        self._site_of = site_of
        self._names: dict[str, set[str]] = {}
        self.queues: frozenset[QueueKey] = frozenset()

    def follow(self, orders: Iterable[Order]) -> None:
        """From now on these, and no others."""
        self._names = {}
        for each in orders:
            if each.setting == DRAIN:
                self._names.setdefault(each.scope, set()).add(each.name)
        self.queues = frozenset(map(parse_queue_key, self._names.get("queue", ())))

    def has_domain(self, domain: str) -> bool:
        """Whether mail for this domain is refused."""
        names = self._names
        if not names:
            return False
        if domain in names.get("domain", ()):
            return True
        return "site" in names and self._site_of(domain) in names["site"]

    def has_job(self, job: str) -> bool:
        """Whether mail of this job is refused."""
        return job in self._names.get("job", ())
