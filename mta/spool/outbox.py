"""The events' way out: from memory right after their commit, from the table for readers that lag.

Whoever subscribes is given every event of every commit from then on, in order; it keeps what it wants and how much. Its cursor
and `last_event` at the moment of subscribing tell it what to read from the table first. Touched on the loop, but for the count of
bytes, which the spool's thread sets.
"""

from collections.abc import Callable

from mta.model.event import Event

Committed = list[tuple[int, Event]]
Encoded = Callable[[int, list[bytes]], None]  # the id of the first, and each as in its row


class Outbox:
    """Who is told of committed events, and how many bytes of them still stand in the table."""

    def __init__(self) -> None:
        self.last_event = 0  # the newest that subscribers have been told of
        self.pending_bytes = 0  # in the table, not pruned
        self._subscribers: list[Callable[[Committed], None]] = []
        self._encoded: list[Encoded] = []

    def subscribe(self, callback: Callable[[Committed], None]) -> Callable[[], None]:
        """Tell `callback` of each commit's events; the answer ends that."""
        self._subscribers.append(callback)

        def unsubscribe() -> None:
            self._subscribers.remove(callback)

        return unsubscribe

    def subscribe_encoded(self, callback: Encoded) -> Callable[[], None]:
        """The same for whoever passes them on: as bytes, which are there already."""
        self._encoded.append(callback)

        def unsubscribe() -> None:
            self._encoded.remove(callback)

        return unsubscribe

    def committed(self, first: int, events: list[Event], datas: list[bytes]) -> None:
        """On the loop: these events are on disk, numbered from `first`."""
        self.last_event = first + len(events) - 1
        for encoded in tuple(self._encoded):
            encoded(first, datas)
        if not self._subscribers:
            return
        numbered = list(enumerate(events, first))
        for subscriber in tuple(self._subscribers):
            subscriber(numbered)
