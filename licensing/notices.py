"""Telling the operator: each remark once, by mail, webhook and log. Clause 9.5 (C26). What stands now, `sluice status` shows.

What is to be told is decided by `evaluate`: a remark's code names threshold, licence and period, so "once" is a set of codes. It
is given in at the start, and each new one out when it was told, for the ledger to keep: a restart tells nothing twice. A channel
has a queue and a task of its own; one that fails is tried a few times and then given up, with a line in the log, and never holds
up another channel or the caller. Texts hold no customer data: licence, node label, figures.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import aiohttp
import structlog

from licensing.entitlement import Remark
from licensing.model.usage import Notice as VendorNotice

logger = structlog.get_logger()

MAX_WAITING = 100  # notices on their way; beyond that the oldest is left to log and status
WEBHOOK_TIMEOUT_S = 10.0
MAIL_TIMEOUT_S = 30.0
# Between the tries of one channel: a connection that broke is there again soon, a host that greylists wants minutes.
PAUSES_S = (1.0, 5.0, 30.0, 300.0, 1_800.0)
SUBJECT_WORDS = {"info": "for your information", "warn": "please look", "error": "please act"}


@dataclass(frozen=True, slots=True)
class Telling:
    """A remark on its way, with the node it is about and when (seconds since 1970) it was found."""

    remark: Remark
    node_label: str
    at: float

    @property
    def subject(self) -> str:
        """One line: which node, what sort, how grave."""
        node = f" {self.node_label}" if self.node_label else ""
        what = self.remark.code.partition(":")[0].replace("_", " ")
        return f"Sluice licence{node}: {what} – {SUBJECT_WORDS[self.remark.level]}"

    @property
    def body(self) -> str:
        """The text of a mail, a paragraph and what else to look at."""
        return f"{self.remark.text}\n\n`sluice license status` shows more. This is told once ({self.remark.code}).\n"

    def as_json(self) -> dict[str, str]:
        """What a webhook is sent."""
        return {
            "product": "sluice",
            "code": self.remark.code,
            "level": self.remark.level,
            "text": self.remark.text,
            "node": self.node_label,
            "at": datetime.fromtimestamp(self.at, UTC).isoformat(timespec="seconds"),
        }


class ChannelError(Exception):
    """A notice did not get through; `is_final`: it is of no use to try again."""

    def __init__(self, text: str, *, is_final: bool = False) -> None:
        super().__init__(text)
        self.is_final = is_final


class Channel(Protocol):
    """A way to the operator. `tell` returns when it got through, within its own deadline, or raises."""

    name: str

    async def tell(self, telling: Telling) -> None: ...


class Log:
    """The structured log; syslog and the journal read it."""

    name = "log"

    async def tell(self, telling: Telling) -> None:
        """A line of the remark's level."""
        say = {"info": logger.info, "warn": logger.warning, "error": logger.error}
        say[telling.remark.level](
            "licence notice", code=telling.remark.code, text=telling.remark.text
        )


class Mail:
    """Mail through the daemon itself, by a callable of (recipients, subject, text)."""

    name = "mail"

    def __init__(
        self,
        send: Callable[[Sequence[str], str, str], Awaitable[None]],
        recipients: Sequence[str],
    ) -> None:
        self._send = send
        self._recipients = tuple(recipients)

    async def tell(self, telling: Telling) -> None:
        """One mail to all recipients."""
        async with asyncio.timeout(MAIL_TIMEOUT_S):
            await self._send(self._recipients, telling.subject, telling.body)


class Webhook:
    """A POST of JSON to an address of the customer's. Redirects are not followed: who configured one URL meant that one."""

    name = "webhook"

    def __init__(
        self, url: str, *, proxy: str | None = None, timeout_s: float = WEBHOOK_TIMEOUT_S
    ) -> None:
        self._url = url
        self._proxy = proxy
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)

    async def tell(self, telling: Telling) -> None:
        """Raises ChannelError, for good where the request itself is refused."""
        try:
            async with (
                aiohttp.ClientSession(timeout=self._timeout) as session,
                session.post(
                    self._url, json=telling.as_json(), allow_redirects=False, proxy=self._proxy
                ) as answer,
            ):
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ChannelError(f"{type(error).__name__}: {error}") from error
        if not 200 <= status < 300:
            is_final = status < 500 and status not in (408, 429)
            raise ChannelError(f"the webhook answered {status}", is_final=is_final)


def due(remarks: Iterable[Remark], sent: Set[str]) -> tuple[Remark, ...]:
    """The remarks that were not told yet, and are not covered by another of these. Pure."""
    found = tuple(remarks)
    covered = {code for each in found for code in each.covers}
    fresh: dict[str, Remark] = {}
    for each in found:
        if each.code not in sent and each.code not in covered:
            fresh.setdefault(each.code, each)
    return tuple(fresh.values())


def told_by(remark: Remark) -> frozenset[str]:
    """What need not be told any more once this remark was: it and what it covers (82 % after 91 % is no news)."""
    return frozenset((remark.code, *remark.covers))


def of_the_vendor(notices: Iterable[VendorNotice]) -> tuple[Remark, ...]:
    """What an acknowledgement says to the operator, in the vendor's words; one without words is our own remark's business."""
    return tuple(
        Remark(f"vendor:{each.id}", each.text, level=each.level) for each in notices if each.text
    )


class _Lane:
    """What one channel has still to tell, in order; whatever comes of it, `done` hears of each."""

    def __init__(
        self, channel: Channel, pauses_s: Sequence[float], done: Callable[[Telling], None]
    ) -> None:
        self.channel = channel
        self.failures = 0
        self._pauses_s = tuple(pauses_s)
        self._done = done
        self._waiting: deque[Telling] = deque()
        self._news = asyncio.Event()

    def put(self, telling: Telling) -> None:
        self._waiting.append(telling)
        self._news.set()
        if len(self._waiting) > MAX_WAITING:
            self._give_up(self._waiting.popleft(), "too many notices wait")

    async def run(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                telling = self._waiting.popleft()
                error = await self._try(telling)
                if error:
                    self._give_up(telling, error)
                else:
                    self._done(telling)

    async def _try(self, telling: Telling) -> str:
        """Why it did not get through, after a few tries; "": it did."""
        error = ""
        for pause_s in (0.0, *self._pauses_s):
            await asyncio.sleep(pause_s)
            try:
                await self.channel.tell(telling)
            except Exception as found:  # border of a channel: the next notice has its turn
                error = f"{type(found).__name__}: {found}"
                if isinstance(found, ChannelError) and found.is_final:
                    return error
            else:
                return ""
        return error

    def _give_up(self, telling: Telling, error: str) -> None:
        self.failures += 1
        logger.error(
            "a licence notice did not get through",
            channel=self.channel.name,
            code=telling.remark.code,
            error=error,
        )
        self._done(telling)


class Notices:
    """Tells each remark once on every channel, in the background."""

    def __init__(
        self,
        channels: Sequence[Channel],
        *,
        sent: Iterable[str] = (),
        keep: Callable[[frozenset[str]], None] = lambda codes: None,
        node_label: str = "",
        pauses_s: Sequence[float] = PAUSES_S,
    ) -> None:
        """`sent`: the codes told before; `keep` is given the new ones when all channels are done, to be made durable."""
        self._lanes = [_Lane(channel, pauses_s, self._done) for channel in channels]
        self._sent = set(sent)
        self._keep = keep
        self._node_label = node_label
        self._open: Counter[Telling] = Counter()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def failures(self) -> dict[str, int]:
        """How many notices did not get through, by channel."""
        found: Counter[str] = Counter()
        for lane in self._lanes:
            found[lane.channel.name] += lane.failures
        return dict(found)

    def tell(self, remarks: Iterable[Remark], now: float) -> None:
        """Put what is due on its way; returns at once. `now`: seconds since 1970."""
        for remark in due(remarks, self._sent):
            self._sent |= told_by(remark)
            telling = Telling(remark, self._node_label, now)
            self._open[telling] = len(self._lanes)
            for lane in self._lanes:
                lane.put(telling)
            if not self._lanes:
                self._kept(telling)

    async def start(self) -> None:
        """Begin to tell."""
        self._tasks = [
            asyncio.create_task(lane.run(), name=f"licence notices by {lane.channel.name}")
            for lane in self._lanes
        ]

    async def stop(self) -> None:
        """Stop telling. What has not been told is not kept as told: the next start tells it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    def _done(self, telling: Telling) -> None:
        self._open[telling] -= 1
        if self._open[telling] <= 0:
            self._kept(telling)

    def _kept(self, telling: Telling) -> None:
        del self._open[telling]
        try:
            self._keep(told_by(telling.remark))
        except Exception:  # border to the ledger: it costs a second telling, not the telling
            logger.exception("a licence notice could not be noted", code=telling.remark.code)
