"""`/metrics`: one page over all workers, asked side by side at each scrape; one that does not answer is shown as down.
`/healthz` and `/readyz`: is it alive, and does it take mail, in a status code for whoever starts it or hands it mail.

Its numbers stand behind `WorkerFace.metrics`, so a worker may be this process or another. Two scrapes at once share one round
of questions.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import structlog

from mta.control.asking import ask_all
from mta.control.faces import ServerFace, WorkerFace
from mta.io.http import HttpServer, Page
from mta.metrics.catalogue import Snapshot
from mta.metrics.render import CONTENT_TYPE, render
from mta.runtime.license import State

logger = structlog.get_logger()

METRICS_PATH = "/metrics"
HEALTH_PATH = "/healthz"
READY_PATH = "/readyz"
UNHEALTHY = 503
_PLAIN = "text/plain; charset=utf-8"
ANSWER_WITHIN_S = 1.0


class MetricsPage:
    """Renders the numbers of a server. `workers` is looked at anew for each page."""

    def __init__(self, server: ServerFace, workers: Sequence[WorkerFace]) -> None:
        self._server = server
        self._workers = workers
        self._rendering: asyncio.Task[bytes] | None = None

    async def open(self, address: str) -> HttpServer:
        """Serve the page on `address` (host:port). Raises OSError with the address when it is taken or not ours."""
        pages = {METRICS_PATH: self.page, HEALTH_PATH: self.health, READY_PATH: self.readiness}
        http = HttpServer(pages)
        await http.start(address)
        return http

    async def page(self) -> Page:
        """The page now."""
        if self._rendering is None:
            self._rendering = asyncio.get_running_loop().create_task(self._render())
            self._rendering.add_done_callback(self._rendered)
        # Shielded: who hangs up must not take the page from another who waits for it.
        return Page(await asyncio.shield(self._rendering), CONTENT_TYPE)

    async def health(self) -> Page:
        """200 while every worker answers; what does not is to be looked at, and started again if it stays so."""
        workers = await self._ask()
        silent = [number for number, each in workers.items() if each is None]
        return _verdict(not silent and bool(workers), workers)

    async def readiness(self) -> Page:
        """200 while some worker takes mail; 503 on a full disk, say, where starting again helps nothing."""
        workers = await self._ask()
        return _verdict(any(each and each.get("intake_open") for each in workers.values()), workers)

    def _rendered(self, task: asyncio.Task[bytes]) -> None:
        self._rendering = None
        if not task.cancelled():
            task.exception()  # told to whoever waited; if nobody does any more, it is told to nobody

    async def _render(self) -> bytes:
        workers = await self._ask()
        return render(_server_snapshot(await self._server.status()), workers)

    async def _ask(self) -> dict[int, Snapshot | None]:
        """Each worker's numbers; None: it did not answer."""
        answers = await ask_all(self._workers, _numbers_of, deadline_s=ANSWER_WITHIN_S)
        return dict.fromkeys(each.number for each in self._workers) | answers.by_worker


def _verdict(is_well: bool, workers: Mapping[int, Snapshot | None]) -> Page:
    lines = [f"worker {number}: {_condition(each)}" for number, each in workers.items()]
    text = "\n".join(["ok" if is_well else "not ok", *lines, ""])
    return Page(text.encode(), _PLAIN, 200 if is_well else UNHEALTHY)


def _condition(numbers: Snapshot | None) -> str:
    if numbers is None:
        return "does not answer"
    return "takes mail" if numbers.get("intake_open") else "takes no mail now"


async def _numbers_of(worker: WorkerFace) -> Snapshot | None:
    try:
        return await worker.metrics()
    except (TimeoutError, ConnectionError):
        raise
    except (
        Exception
    ):  # the border of this worker's part: the others' numbers are shown all the same
        logger.exception("a fault of ours in a worker's numbers", worker=worker.number)
        return None


def _server_snapshot(status: dict[str, Any]) -> Snapshot:
    followers = status.get("followers", [])
    return {
        **_license_snapshot(status.get("license", {})),
        "build_info": {status["version"]: 1},
        "uptime_seconds": status["uptime_s"],
        "follower_waiting_events": {each["name"]: each["waiting"] for each in followers},
        "follower_lag_seconds": {each["name"]: each["lag_s"] for each in followers},
        "follower_up": {each["name"]: int(not each["trouble"]) for each in followers},
    }


def _license_snapshot(license: dict[str, Any]) -> Snapshot:
    """What is not known, or makes no sense under this licence, is not shown."""
    if license.get("lab", True):
        return {}
    connections, volume = license["connections"], license.get("volume") or {}
    report, clock = license.get("report") or {}, license.get("clock") or {}
    ends = [datetime.fromisoformat(each["expires_at"]) for each in license.get("licenses", ())]
    now = clock.get("now", 0.0)
    is_known = bool(ends and now)
    return {
        "license_state": {str(each): int(each == license["state"]) for each in State},
        "license_expires_seconds": min(ends).timestamp() - now if is_known else None,
        "license_connections_in_use": connections["in_use"],
        "license_connections_limit": connections["limit"],
        "license_connections_peak": connections["peak"],
        "license_volume_used": volume.get("used"),
        "license_volume_limit": volume.get("quota"),
        "license_volume_lease_left": volume.get("left"),
        "license_report_age_seconds": report.get("age"),
        "license_report_tries": report.get("tries"),
        "license_clock_offset_seconds": clock.get("offset"),
    }
