"""What is queued at one worker by domain, site or job: one row each, over its spools."""

from asyncio import wrap_future
from collections.abc import Iterable
from functools import partial
from typing import Any

from mta.control.groups import MAX_GROUPS, merge_groups
from mta.runtime.worker import Worker
from mta.spool.queries import Queries

Row = dict[str, Any]
_NAMES = ("name", "recipients", "held", "size_bytes", "oldest_at", "queues")


class WorkerGroups:
    """Domains, sites and jobs of one worker."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def rows(self, kind: str, sort: str, match: str) -> list[Row]:
        """The first `MAX_GROUPS`; a site's domains are summed up, as far as routes are known."""
        found: list[Row] = []
        of_spool = "domain" if kind == "site" else kind
        # A site's name is no part of its domains'.
        wanted = "" if kind == "site" else match
        for spool in self._worker.spools.values():
            ask = partial(Queries.groups, kind=of_spool, sort=sort, match=wanted, limit=MAX_GROUPS)
            told = await wrap_future(spool.call(ask))
            found += [dict(zip(_NAMES, values, strict=True)) for values in told]
        rows = merge_groups(found)
        if kind == "site":
            rows = merge_groups(self._by_site(rows))
            rows = [row for row in rows if match in row["name"]]
        return rows

    def _by_site(self, rows: Iterable[Row]) -> list[Row]:
        worker = self._worker
        loaded = dict(worker.scheduler.sites())
        book = worker.settings.book
        return [
            row
            | {
                "name": worker.sites.site_of(row["name"])
                or loaded.get(row["name"])
                or book.site_for(row["name"], ())
            }
            for row in rows
        ]
