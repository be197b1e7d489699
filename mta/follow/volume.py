"""The volume follower: counts deliveries for the licence, out of the same events as the records.

One Email is one recipient accepted by a remote host: one `d` event, but for the notices we write ourselves (C11). Counts go with
the cursor they were read up to; both are on disk together, in the licence's ledger and nowhere else: whatever crashes, events are
counted once. Until then they are not pruned. Only numbers leave here: a spool's UUID, two event ids, how many.

`VolumeSink` counts and `VolumeCursors` keeps the place, for one `Follower`; both live on its thread.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from mta.follow.inbox import Numbered
from mta.model.envelope import NOTICE
from mta.model.event import Attempt

NAME = "volume"

# (the spool's UUID, after this event, up to this event, so many Emails, the event of each)
VolumeCount = tuple[str, int, int, int, tuple[int, ...]]


class Meter(Protocol):
    """Who counts in the end. Both block, on the follower's thread; OSError: nothing is known of what was kept."""

    def cursors(self) -> dict[str, int]:
        """The last event counted, by spool."""

    def delivered(self, counts: list[VolumeCount]) -> None:
        """Keep these, durably."""


class VolumeSink:
    """A `Sink` that counts."""

    def __init__(self) -> None:
        self.counts: dict[str, list[int]] = {}  # by spool: the deliveries since the last save

    def open(self, place: str, wall: float) -> str:
        """See `Sink`: what was not saved is counted again."""
        self.counts.clear()
        return ""

    def write(self, spool: str, events: Sequence[Numbered]) -> None:
        """See `Sink`."""
        self.counts.setdefault(spool, []).extend(
            number
            for number, event in events
            if event.__class__ is Attempt and event.kind == "d" and event.source_kind != NOTICE
        )

    def save(self) -> str:
        """See `Sink`: the cursors are saved with the counts."""
        return ""

    def upkeep(self, wall: float, *, asked: bool) -> str | None:
        """See `Sink`: there is no file."""
        return None

    def finished_file(self) -> str:
        """See `Sink`."""
        return ""

    def close(self) -> None:
        """See `Sink`."""


class VolumeCursors:
    """`Cursors` that are kept by the meter, together with what the sink has counted up to there."""

    def __init__(self, sink: VolumeSink, meter: Meter, known: dict[str, int] | None) -> None:
        """`known`: the meter's cursors as asked at the start, so that no loop waits for them; None: it did not answer."""
        self._sink = sink
        self._meter = meter
        self._known = known
        self._is_new = True

    def load(self, follower: str) -> tuple[dict[str, int], str]:
        """See `Cursors`."""
        if (
            self._is_new
        ):  # called on the loop, to know what may be pruned: of what is not known, nothing
            self._is_new = False
            return dict(self._known or {}), ""
        if self._known is None:
            self._known = self._meter.cursors()
        return dict(self._known), ""

    def save(self, follower: str, done: Mapping[str, int], place: str) -> None:
        """See `Cursors`."""
        if not done:
            return
        known, self._known = self._known or {}, None  # unknown, should this fail
        counted = self._sink.counts
        counts: list[VolumeCount] = []
        for spool, upto in done.items():
            at = tuple(counted.pop(spool, ()))
            counts.append((spool, known.get(spool, 0), upto, len(at), at))
        self._meter.delivered(counts)
        self._known = {**known, **done}
