"""A loop without a loop, and builders, for tests of the spool."""

import queue
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from mta.io.clock import Clock
from mta.model.envelope import Content, Draft, Entry, Message, QueueKey, SpillFile
from mta.model.errors import SpoolError
from mta.model.event import Attempt, Received
from mta.spool.store import Settlement, Spool, open_spool

T = TypeVar("T")
BOOT = bytes(range(16))
GMAIL = QueueKey("gmail.com", "default")
YAHOO = QueueKey("yahoo.com", "default")


class FakeClock(Clock):
    """A clock that only tests move."""

    def __init__(self, now: float = 1_760_000_000.0) -> None:
        super().__init__()
        self.time = now

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return self.time


class TurnedLoop:
    """Runs what a thread posts, in the thread that turns it."""

    def __init__(self) -> None:
        self._posted: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.turns = 0

    def post(self, function: Callable[[], None]) -> None:
        self._posted.put(function)

    def until(self, condition: Callable[[], Any], timeout_s: float = 20.0) -> None:
        """Turn until `condition`; a test that waits in vain fails."""
        while not condition():
            self._posted.get(timeout=timeout_s)()
            self.turns += 1


class SpoolUnderTest:
    """A spool with blocking calls, for readable tests."""

    def __init__(
        self,
        path: Path,
        *,
        vfs: str | None = None,
        boot: bytes = BOOT,
        clock: FakeClock | None = None,
        max_crashes: int = 3,
    ) -> None:
        self.loop = TurnedLoop()
        self.clock = clock or FakeClock()
        self.broken: list[BaseException] = []
        self.reports: list[str] = []
        self.spool: Spool = open_spool(
            path,
            clock=self.clock,
            post=self.loop.post,
            on_broken=self.broken.append,
            on_report=self.reports.append,
            vfs=vfs,
            boot=boot,
            max_crashes=max_crashes,
        )

    def draft(self, *recipients: tuple[str, QueueKey], **changes: Any) -> Draft:
        """A small message, not yet accepted."""
        now = self.clock.now()
        body = changes.pop("body", b"Subject: a\r\n\r\nb\r\n")
        prefix = b"Received: here\r\n"
        size = len(prefix) + (body.size if isinstance(body, SpillFile) else len(body))
        message = Message(
            0,
            self.spool.next_message_number(),
            changes.pop("sender", "news@example.com"),
            size,
            changes.pop("received_at", now),
            "default",
            job=changes.pop("job", ""),
            envid="abc",
            ret="HDRS",
            content=changes.pop("content", Content.EIGHT_BIT),
            source_ip="192.0.2.7",
            source_name="feeder.example.com",
            user="anna",
        )
        due = changes.pop("due", now)
        entries = [
            Entry(message, key, address, due=due, notify="NEVER", orcpt="rfc822;x")
            for address, key in recipients or [("someone@gmail.com", GMAIL)]
        ]
        assert not changes
        event = Received(
            now, message.number, message.sender, len(entries), size, "default", "", "", "smtp",
            "192.0.2.7", "", "",
        )  # fmt: skip
        return Draft(message, entries, prefix, body, event)

    def try_accept(self, *drafts: Draft) -> list[SpoolError | None]:
        """Accept together; what each was answered."""
        answers: list[SpoolError | None] = []
        for draft in drafts:
            self.spool.accept(draft, answers.append)
        self.loop.until(lambda: len(answers) == len(drafts))
        return answers

    def accept(self, *recipients: tuple[str, QueueKey], **changes: Any) -> list[Entry]:
        """Accept one message; its entries."""
        draft = self.draft(*recipients, **changes)
        assert self.try_accept(draft) == [None]
        return draft.entries

    def settle(self, *settlements: Settlement) -> None:
        """Settle and wait for the commit."""
        done: list[bool] = []
        self.spool.settle(list(settlements), lambda: done.append(True))
        self.loop.until(lambda: done)

    def due(
        self, key: QueueKey = GMAIL, limit: int = 100, exclude: tuple[int, ...] = ()
    ) -> tuple[list[Entry], float | None]:
        """What is due now."""
        found: list[tuple[list[Entry], float | None]] = []
        self.spool.due(
            key, self.clock.now(), limit, lambda *answer: found.append(answer), exclude=exclude
        )
        self.loop.until(lambda: found)
        return found[0]

    def due_queues(self, limit: int = 100) -> tuple[list[str], float | None]:
        """The names of the queues due now."""
        found: list[tuple[list[Any], float | None]] = []
        self.spool.due_queues(self.clock.now(), limit, lambda *answer: found.append(answer))
        self.loop.until(lambda: found)
        states, following = found[0]
        return [str(state.key) for state in states], following

    def body(self, message: Message) -> Any:
        """Prefix and body, or the error."""
        found: list[Any] = []
        self.spool.bodies([message], found.extend)
        self.loop.until(lambda: found)
        return found[0]

    def ask(self, future: Any) -> Any:
        """The future's result."""
        self.loop.until(future.done)
        return future.result()

    def close(self) -> None:
        self.spool.close_blocking()


def delivered(entry: Entry, now: float = 0.0) -> Settlement:
    """The entry was delivered."""
    return Settlement(entry, None, an_attempt(entry, "d", now))


def deferred(entry: Entry, due: float) -> Settlement:
    """The entry was told to come back."""
    entry.attempts += 1
    entry.first_attempt = entry.first_attempt or due - 60
    return Settlement(entry, due, an_attempt(entry, "t", due))


def an_attempt(entry: Entry, kind: str, now: float) -> Attempt:
    """The record of it."""
    message = entry.message
    return Attempt(
        kind, now, message.number, entry.number, message.sender, entry.address, "", entry.key.domain,
        "default", "", "", message.size, message.received_at, 0.0, entry.attempts, 451, "4.7.1",
        "come back later", False, "other", "smtp", "", "", "",
    )  # fmt: skip
