"""Pools: which virtual MTA of a pool sends a message.

Without more, by smooth weighted round robin: of {a: 3, b: 1} the order is a a b a, over and over, so that neither waits for a run
of the other's, and shares are exact after each round. A first thought, a random choice by weight, is off by a tenth after 1,000
messages. Each worker takes turns for itself.

With `sticky = "job"` all mail of a job goes by one virtual MTA: that with the highest score of (job, virtual MTA), by weighted
rendezvous hashing. So every worker, after any restart, finds the same, and a member that leaves moves its own jobs only.

A member that is out of service is passed over. When all are, the choice is made as if none were: the message waits in a queue,
with the reason that stops its virtual MTA, and nothing bounces.
"""

import math
from collections.abc import Iterable, Mapping
from hashlib import blake2b

from mta.policy.rules import PoolRules, VmtaRules

REMEMBERED_JOBS = 10_000  # a choice among ten costs 57 µs, and messages of a job come in a row
_HASH_BYTES = 8


class Pools:
    """The virtual MTAs and pools of one configuration, and whose turn it is in each pool."""

    def __init__(
        self,
        vmtas: Iterable[VmtaRules] = (VmtaRules("default"),),
        pools: Iterable[PoolRules] = (),
    ) -> None:
        self._vmtas = frozenset(rules.name for rules in vmtas)
        self._pools: Mapping[str, _Pool] = {rules.name: _Pool(rules) for rules in pools}

    def leave_out(self, names: Iterable[str]) -> None:
        """These virtual MTAs are out of service: from now on a pool chooses among its others."""
        out = frozenset(names)
        for pool in self._pools.values():
            pool.leave_out(out)

    def choose(self, name: str, job: str) -> str | None:
        """The virtual MTA that sends a message of this job for `name`, a virtual MTA or a pool; None: there is neither."""
        pool = self._pools.get(name)
        if pool is not None:
            return pool.choose(job)
        return name if name in self._vmtas else None

    def takers(self, name: str) -> frozenset[str]:
        """The virtual MTAs that mail for `name` may get now."""
        pool = self._pools.get(name)
        return frozenset((name,)) if pool is None else pool.takers


class _Pool:
    """One pool's turns."""

    __slots__ = ("_credit", "_is_sticky", "_members", "_places", "_present", "_total")

    def __init__(self, rules: PoolRules) -> None:
        self._members = rules.members
        self._is_sticky = rules.sticky == "job"
        self._present: tuple[tuple[str, int], ...] = ()
        self.leave_out(frozenset())

    def leave_out(self, out: frozenset[str]) -> None:
        present = tuple(member for member in self._members if member[0] not in out)
        present = present or self._members
        if present == self._present:
            return
        # All begin anew: who comes back is owed nothing for the time it was away.
        self._present = present
        self._credit = dict.fromkeys((name for name, _ in present), 0)
        self._total = sum(weight for _, weight in present)
        self._places: dict[str, str] = {}

    @property
    def takers(self) -> frozenset[str]:
        return frozenset(name for name, _ in self._present)

    def choose(self, job: str) -> str:
        if self._is_sticky and job:
            return self._places.get(job) or self._place(job)
        credit = self._credit
        for name, weight in self._present:
            credit[name] += weight
        chosen = max(credit, key=credit.__getitem__)  # of equals the first in the file
        credit[chosen] -= self._total
        return chosen

    def _place(self, job: str) -> str:
        chosen = max(self._present, key=lambda member: _score(job, *member))[0]
        if len(self._places) >= REMEMBERED_JOBS:
            del self._places[next(iter(self._places))]
        self._places[job] = chosen
        return chosen


def _score(job: str, name: str, weight: int) -> float:
    """Weighted rendezvous hashing: of many jobs, each member wins in proportion to its weight."""
    digest = blake2b(
        f"{job}\0{name}".encode("utf-8", "surrogatepass"), digest_size=_HASH_BYTES
    ).digest()
    share = (int.from_bytes(digest, "big") + 0.5) / (1 << 8 * _HASH_BYTES)  # never 0 nor 1
    return -weight / math.log(share) if share < 1.0 else math.inf
