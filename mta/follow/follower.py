"""A follower: reads committed events in order, gives them to a sink, and saves how far it came.

Generic over what the sink does with them: accounting writes lines, others will count or send. Each
turn takes a batch of every spool, lets the sink make it durable, and only then commits cursor and
place together; a crash between the two writes the batch again over what was cut off. So each event
stands in the sink's file once.

It runs in a thread of its own, since it waits for the disk. Trouble (a full log disk) never reaches
the mail: the follower says so in its status, goes back to its saved place and tries again, while
events wait in the spool – until `max_event_bytes` of them are unread, when `Followers.is_behind`
makes the intake answer 452.
"""

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

import apsw
import structlog

from mta.follow.cursors import Cursors
from mta.follow.inbox import Inbox, Numbered
from mta.model.errors import SpoolError

BATCH_EVENTS = 1000
FLUSH_INTERVAL_S = 0.2
# 20,000 deliveries are about 25 MB: four seconds of a busy worker.
MEMORY_EVENTS = 20_000
MAX_EVENT_BYTES = 1 << 30
UPKEEP_INTERVAL_S = 1.0
RETRY_FIRST_S = 0.5
RETRY_CAP_S = 5.0  # a disk with room again is noticed within seconds
READ_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0
# A rotation waits for so many batches at most: on a busy day there is always one more.
MAX_TURNS_ASKED = MEMORY_EVENTS // BATCH_EVENTS

log = structlog.get_logger()


class EventSource(Protocol):
    """The events of one spool, as a follower sees them. Any thread may call."""

    @property
    def uuid(self) -> str:
        """The name of the spool: event ids rise within it for ever."""

    @property
    def pending_event_bytes(self) -> int:
        """The size of what is not yet pruned."""

    def subscribe(self, callback: Callable[[Sequence[Numbered]], None]) -> object:
        """Call on the loop with the events of each later commit, in order; must not be blocked. An
        empty batch: some may be missing, read the table."""

    def events(self, cursor: int, limit: int) -> "Future[list[Numbered]]":
        """Up to `limit` committed events after `cursor`, in order, from the table."""

    def prune(self, up_to: int) -> object:
        """Nobody needs the events up to this one any more."""


class Time(Protocol):
    """What a follower needs of `io.clock.Clock`."""

    def now(self) -> float:
        """Seconds that never jump."""

    def wall(self) -> float:
        """Seconds since the epoch as the machine believes them."""


class Sink(Protocol):
    """What is done with the events. Every method runs on the follower's thread and may raise
    OSError."""

    def open(self, place: str, wall: float) -> str:
        """Go back to the saved place ("" for none), undoing what came after it; the place to save
        now."""

    def write(self, spool: str, events: Sequence[Numbered]) -> None:
        """Take these events of this spool; durable only after `save`."""

    def save(self) -> str:
        """Make all that was written durable; the place to save."""

    def upkeep(self, wall: float, *, asked: bool) -> str | None:
        """Called with everything saved: begin a new file if due or `asked`; the place to save
        then."""

    def finished_file(self) -> str:
        """The file that the last `upkeep` finished, "" for none."""

    def close(self) -> None:
        """Give files back."""


@dataclass(frozen=True, slots=True)
class FollowerStatus:
    """A follower as the operator sees it."""

    name: str
    cursors: dict[str, int]  # spool UUID → last event done
    waiting: int  # events in memory
    reads_table: bool  # it did not keep up, and reads from the spool
    trouble: str  # "" or why it cannot write
    retry_at: float
    place: str
    lag_s: float = 0.0  # the age of the oldest event that was taken and is not saved


@dataclass(slots=True, eq=False)
class _Feed:
    source: EventSource
    inbox: Inbox
    cursor: int = 0  # the last event saved
    reached: int = 0  # the last event given to the sink


class Pruning:
    """Which events every follower of a spool has done: only those may be pruned."""

    def __init__(
        self, followers: Collection[str] = (), dispensable: str = "", max_lag: int = 0
    ) -> None:
        """`followers`: all there will be. What one of them has not spoken of yet is not pruned.

        One of them may be `dispensable`: the others are not held up when it is more than `max_lag` events behind them.
        """
        self._lock = threading.Lock()
        self._dispensable = dispensable
        self._max_lag = max_lag
        self._is_overtaken = False
        self._expected = frozenset(followers)
        self._done: dict[str, dict[str, int]] = {}  # spool → follower → event id
        self._pruned: dict[str, int] = {}

    def saved(self, source: EventSource, follower: str, event_id: int) -> None:
        """This follower's cursor is on disk; prune what all of them have."""
        with self._lock:
            done = self._done.setdefault(source.uuid, {})
            done[follower] = event_id
            if not self._expected <= done.keys():
                return
            up_to = self._done_by_all(done)
            if up_to <= self._pruned.get(source.uuid, 0):
                return
            self._pruned[source.uuid] = up_to
        source.prune(up_to)

    def _done_by_all(self, done: Mapping[str, int]) -> int:
        up_to = min(done.values())
        if not self._dispensable or len(done) == 1:
            return up_to
        others = min(upto for name, upto in done.items() if name != self._dispensable)
        is_overtaken = others - done[self._dispensable] > self._max_lag
        if is_overtaken and not self._is_overtaken:
            log.error(
                "events are given up that a follower has not read", follower=self._dispensable
            )
        self._is_overtaken = is_overtaken
        return others if is_overtaken else up_to


@dataclass(slots=True)
class _Trouble:
    text: str = ""
    retry_at: float = 0.0
    delay_s: float = field(default=RETRY_FIRST_S)


class Follower:
    """One reader of the events of all spools. `step` on one thread; the rest from any."""

    def __init__(
        self,
        name: str,
        sink: Sink,
        sources: Sequence[EventSource],
        cursors: Cursors,
        clock: Time,
        pruning: Pruning,
        *,
        memory_events: int = MEMORY_EVENTS,
        save_every_s: float = 0.0,
    ) -> None:
        """`save_every_s`: what the sink took meanwhile is saved together; its `upkeep` must bear that."""
        self.name = name
        self._sink = sink
        self._cursors = cursors
        self._clock = clock
        self._pruning = pruning
        self._feeds = [_Feed(source, Inbox(memory_events)) for source in sources]
        self._place = ""
        self._behind_since: float | None = None  # when the oldest unsaved event happened
        self._is_open = False
        self._next_upkeep = 0.0
        self._save_every_s = save_every_s
        self._next_save = 0.0
        self._turns_asked = 0
        self._trouble = _Trouble()
        self._asked: list[Future[str]] = []
        self._wake = threading.Event()  # there is something to do
        self._hurry = threading.Event()  # do not wait for a fuller batch
        self._stopping = False
        self._thread: threading.Thread | None = None
        done, _ = cursors.load(name)
        for feed in self._feeds:
            pruning.saved(feed.source, name, done.get(feed.source.uuid, 0))
            feed.source.subscribe(self._subscription(feed))

    # From any thread

    def start(self) -> None:
        """Follow in a thread until `stop`."""
        self._thread = threading.Thread(target=self._run, name=f"follow-{self.name}", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> bool:
        """Take what is committed, save, end; False if that took longer. Blocks: not on the loop."""
        self._stopping = True
        self._hurry.set()
        self._wake.set()
        if self._thread is None:
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def rotate(self) -> "Future[str]":
        """Begin a new file; the name of the finished one, "" where nothing was in it."""
        answer: Future[str] = Future()
        self._asked.append(answer)
        self._hurry.set()
        self._wake.set()
        return answer

    def status(self) -> FollowerStatus:
        """How it stands now."""
        since = self._behind_since
        return FollowerStatus(
            name=self.name,
            cursors={feed.source.uuid: feed.cursor for feed in self._feeds},
            waiting=sum(feed.inbox.waiting for feed in self._feeds),
            reads_table=any(feed.inbox.must_read for feed in self._feeds),
            trouble=self._trouble.text,
            retry_at=self._trouble.retry_at,
            place=self._place,
            lag_s=0.0 if since is None else max(0.0, self._clock.now() - since),
        )

    def _subscription(self, feed: _Feed) -> Callable[[Sequence[Numbered]], None]:
        def offered(batch: Sequence[Numbered]) -> None:
            feed.inbox.offer(batch)
            # Setting an event takes a lock and 1 µs; looking at it nothing.
            if not self._wake.is_set():
                self._wake.set()
            if feed.inbox.waiting >= BATCH_EVENTS and not self._hurry.is_set():
                self._hurry.set()

        return offered

    # On the follower's thread

    def step(self) -> float:
        """One turn, or its failure noted; how many seconds there is nothing to do (0: more at
        once)."""
        now = self._clock.now()
        if now < self._trouble.retry_at:
            return self._trouble.retry_at - now
        try:
            more = self._turn(now)
        except (OSError, apsw.Error, SpoolError) as error:
            text = f"{type(error).__name__}: {error}"
            if text != self._trouble.text:  # said once, not at every retry
                log.warning("follower in trouble", follower=self.name, error=text)
            self._note_trouble(text, now)
        except Exception as error:  # the thread's border: a bug must not end accounting
            self._note_trouble(f"our fault: {type(error).__name__}: {error}", now)
            log.exception("follower failed", follower=self.name)
        else:
            if self._trouble.text:
                log.info("follower recovered", follower=self.name)
                self._trouble = _Trouble()
            return 0.0 if more else UPKEEP_INTERVAL_S
        return self._trouble.retry_at - now

    def _turn(self, now: float) -> bool:
        if not self._is_open:
            self._open()
        for feed in self._feeds:
            self._feed_sink(feed)
        if now >= self._next_save or self._stopping:
            self._next_save = now + self._save_every_s
            if any(feed.reached > feed.cursor for feed in self._feeds):
                self._save(self._sink.save())
            self._behind_since = None
        more = any(
            feed.inbox.must_read or feed.inbox.waiting >= BATCH_EVENTS for feed in self._feeds
        )
        self._turns_asked = self._turns_asked + 1 if self._asked else 0
        # What was committed before the request belongs in the old file, if that can be had.
        asked = bool(self._asked) and (not more or self._turns_asked > MAX_TURNS_ASKED)
        if asked or now >= self._next_upkeep:
            self._next_upkeep = now + UPKEEP_INTERVAL_S
            self._upkeep(asked=asked)
        return more or bool(self._asked)

    def _open(self) -> None:
        done, place = self._cursors.load(self.name)
        for feed in self._feeds:
            feed.cursor = feed.reached = done.get(feed.source.uuid, 0)
            feed.inbox.reset()
        # A new file's place is saved before its first record, or that record would be a stranger's.
        self._save(self._sink.open(place, self._clock.wall()))
        self._is_open = True

    def _feed_sink(self, feed: _Feed) -> None:
        if feed.inbox.must_read:
            mark = feed.inbox.last_offered
            events = feed.source.events(feed.reached, BATCH_EVENTS).result(READ_TIMEOUT_S)
            reached = events[-1][0] if events else feed.reached
            feed.inbox.has_read(mark, reached, found=bool(events))
        else:
            events = feed.inbox.take(feed.reached, BATCH_EVENTS)
        if events:
            if self._behind_since is None:
                self._behind_since = events[0][1].at
            self._sink.write(feed.source.uuid, events)
            feed.reached = events[-1][0]

    def _save(self, place: str) -> None:
        done = {f.source.uuid: f.reached for f in self._feeds if f.reached > f.cursor}
        if done or place != self._place:
            self._cursors.save(self.name, done, place)
            self._place = place
        for feed in self._feeds:
            if feed.reached > feed.cursor:
                feed.cursor = feed.reached
                self._pruning.saved(feed.source, self.name, feed.cursor)

    def _upkeep(self, *, asked: bool) -> None:
        waiting, self._asked = (self._asked, []) if asked else ([], self._asked)
        try:
            place = self._sink.upkeep(self._clock.wall(), asked=asked)
            if place is not None:
                self._save(place)
        except BaseException as error:  # raised again: who asked hears of it first
            for answer in waiting:
                answer.set_exception(error)
            raise
        for answer in waiting:
            answer.set_result(self._sink.finished_file())

    def _note_trouble(self, text: str, now: float) -> None:
        self._is_open = False
        for feed in self._feeds:
            feed.inbox.reset()
        delay_s = self._trouble.delay_s
        self._trouble = _Trouble(text, now + delay_s, min(delay_s * 2, RETRY_CAP_S))

    def _run(self) -> None:
        while not self._stopping:
            wait_s = self.step()
            if wait_s <= 0:
                continue
            if self._trouble.text:
                self._hurry.wait(wait_s)
                self._hurry.clear()
                continue
            self._wake.wait(wait_s)
            # A little patience makes one fsync serve many events.
            self._hurry.wait(FLUSH_INTERVAL_S)
            self._wake.clear()
            self._hurry.clear()
        self._finish()

    def _finish(self) -> None:
        # What was committed may not have been offered yet: the table has all of it.
        for feed in self._feeds:
            feed.inbox.reset()
        # One in trouble tries a last time: there may be half a record in its file.
        self._trouble.retry_at = 0.0
        while self.step() <= 0:
            pass
        for answer in self._asked:
            answer.set_exception(SpoolError("the follower has stopped"))
        self._sink.close()


class Followers:
    """All followers of this process: one answer to whether the intake must wait for them."""

    def __init__(
        self,
        followers: Mapping[str, Follower],
        sources: Sequence[EventSource],
        max_event_bytes: int = MAX_EVENT_BYTES,
    ) -> None:
        self._followers = dict(followers)
        self._sources = list(sources)
        self._max_event_bytes = max_event_bytes

    @property
    def is_behind(self) -> bool:
        """Too much is unread: the intake answers 452 4.3.1 until the followers have caught up."""
        # A loop, not `any`: asked at every MAIL, and a generator costs three times as much.
        limit = self._max_event_bytes
        for one in self._sources:  # noqa: SIM110
            if one.pending_event_bytes > limit:
                return True
        return False

    def start(self) -> None:
        """Start every follower's thread."""
        for follower in self._followers.values():
            follower.start()

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> bool:
        """Stop them all, before the spools close; False if one did not end. Blocks: not on the
        loop."""
        ended = [follower.stop(timeout_s) for follower in self._followers.values()]
        return all(ended)

    def status(self) -> list[FollowerStatus]:
        """Each follower as the operator sees it."""
        return [follower.status() for follower in self._followers.values()]

    def rotate(self, name: str = "") -> "dict[str, Future[str]]":
        """Begin new files, of one follower or of all; by name. Raises KeyError for an unknown
        name."""
        names = [name] if name else list(self._followers)
        return {one: self._followers[one].rotate() for one in names}
