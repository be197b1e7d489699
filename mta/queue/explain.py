"""Why a queue waits: every reason at once, each with its end and the configuration it comes from.

Nothing here decides. It reads the same state as the scheduler; where both could disagree, `tests/property` asks them both.
"""

from mta.model.envelope import QueueKey
from mta.policy.rules import Place, QueuePolicy
from mta.queue.actions import QueueState
from mta.queue.answers import Wait
from mta.queue.finding import ResolveLanes
from mta.queue.leases import LeaseDesk
from mta.queue.queue import Disk, PolicySource, Queue


def explain_evicted(
    key: QueueKey, stored: QueueState | None, book: PolicySource, site: str, now: float
) -> list[Wait]:
    """The reasons of a queue that is not in memory, as far as its durable row tells. `site`: "" if it is not known."""
    if stored is None:
        return []
    policy = book.policy(key, site)
    waits = _of_order(policy) + _of_state(stored, policy.places.get("backoff_initial"), now)
    return waits or [Wait("its turn", "due queues are read from disk as memory has room")]


def explain_stopped(
    key: QueueKey, stored: QueueState | None, stop: Wait, book: PolicySource, now: float
) -> list[Wait]:
    """The same where its virtual MTA is out of service."""
    if stored is None:
        return []
    place = book.policy(key, "").places.get("backoff_initial")
    return [stop, *_of_state(stored, place, now)]


def explain_queue(
    queue: Queue, book: PolicySource, desk: LeaseDesk, resolves: ResolveLanes, now: float
) -> list[Wait]:
    """The reasons of a queue in memory; empty only if it has nothing to do."""
    places = queue.policy.places
    waits = _of_order(queue.policy)
    waits += _of_state(queue.state, places.get("backoff_initial"), now)
    waits += _of_disk(queue, now)
    waits += _of_destination(queue, now)
    if queue.ready:
        waits += _of_route(queue, resolves)
        waits += _of_leases(queue, book, desk, now)
        waits += _of_rates(queue, book, now)
    waits += _of_work(queue)
    if queue.ready and not waits:
        waits.append(Wait("the next turn", f"{len(queue.ready)} ready"))
    return waits


def _of_order(policy: QueuePolicy) -> list[Wait]:
    if not policy.stopped:
        return []
    what = "paused by an order"
    return [Wait(what, policy.stopped, 0.0, policy.places.get("stopped"))]


def _of_state(state: QueueState, place: Place | None, now: float) -> list[Wait]:
    waits = []
    if state.paused:
        waits.append(Wait("paused by the operator"))
    if state.next_at > now:
        waits.append(Wait("backoff", state.reason, state.next_at, place))
    return waits


def _of_disk(queue: Queue, now: float) -> list[Wait]:
    waits = []
    if queue.is_recalling:
        waits.append(Wait("its stored state", "being read from disk"))
    if queue.is_refilling:
        waits.append(Wait("its entries", "being read from disk"))
    elif queue.disk is not Disk.KNOWN and not queue.ready:
        waits.append(Wait("its entries", "to be read from disk when those in memory are settled"))
    if queue.next_due is not None and queue.next_due > now:
        place = queue.policy.places.get("retry")
        waits.append(Wait("retry", "the next deferred entry", queue.next_due, place))
    return waits


def _of_destination(queue: Queue, now: float) -> list[Wait]:
    destination = queue.destination
    if destination is None:
        return []
    waits = []
    if destination.until > max(now, queue.state.next_at):
        place = queue.policy.places.get("backoff_initial")
        detail = f"{_whom(queue)}: {destination.reason}"
        waits.append(Wait("backoff of the site", detail, destination.until, place))
    if queue.ready and destination.is_probed:
        if destination.prober is not None and destination.prober is not queue:
            waits.append(
                Wait("another queue's try", f"{destination.prober.key} tries {queue.site} first")
            )
        elif queue.connections:
            waits.append(Wait("its first connection", f"{queue.site} is to show that it works"))
    bears = destination.bears(now)
    if queue.ready and bears is not None and len(queue.connections) >= bears:
        detail = f"{_whom(queue)}: it refused more than {bears}"
        waits.append(Wait("connections", detail, destination.grows_at(now)))
    return waits


def _of_route(queue: Queue, resolves: ResolveLanes) -> list[Wait]:
    if not queue.is_resolving:
        return []
    if resolves.is_running(queue.key):
        return [Wait("DNS", f"the route of {queue.key.domain} is being looked up")]
    return [Wait("DNS", f"{len(resolves)} look-ups are running")]


def _of_leases(queue: Queue, book: PolicySource, desk: LeaseDesk, now: float) -> list[Wait]:
    if queue.route is None:
        return []
    is_unproven = queue.destination is None or not queue.destination.is_proven
    demand = book.demand(queue.key, queue.site, is_unproven)
    places = book.limit_places(queue.key, queue.site)
    waits = []
    for name, limit in demand:
        cell = desk.cells.get(name)
        if cell is not None and cell.waiting and (queue.requests or queue.parked is not None):
            waits.append(Wait("a free connection", f"{name}: {limit}", 0.0, places.get(name)))
    most = queue.policy.max_connections
    if most is not None and len(queue.connections) >= most:
        place = queue.policy.places.get("max_connections")
        waits.append(Wait("max_connections", f"{_whom(queue)}: {most}", 0.0, place))
    if not waits and queue.requests:
        waits.append(Wait("a connection", "asked for"))
    elif not waits and queue.parked is not None:
        waits.append(Wait("its turn to ask for a connection", f"{len(desk)} requests are out"))
    return waits


def _of_rates(queue: Queue, book: PolicySource, now: float) -> list[Wait]:
    if not queue.attempt_rates or queue.tokens:
        return []
    return [
        Wait(
            "message rate",
            f"{_whom(queue)}: {rate}"
            if name.startswith("message_rate:site")
            else f"{name}: {rate}",
            queue.not_before if queue.not_before > now else 0.0,
            place,
        )
        for name, rate, place in book.rate_keys(queue.key, queue.site)
        if queue.ask or queue.not_before > now
    ]


def _of_work(queue: Queue) -> list[Wait]:
    opening = sum(1 for c in queue.connections.values() if not c.is_open)
    closing = sum(1 for c in queue.connections.values() if c.is_closing)
    busy = sum(1 for c in queue.connections.values() if c.is_open and not c.is_idle) - closing
    waits = []
    if queue.flying or queue.ready:
        if opening:
            waits.append(Wait("a connection", f"{opening} being opened"))
        if busy > 0:
            waits.append(Wait("its turn", f"{busy} connections at work"))
        if closing and not opening and busy <= 0:
            waits.append(Wait("a connection", "the last one is being closed"))
    settling = len(queue.known) - len(queue.ready) - len(queue.flying)
    if settling:
        waits.append(Wait("the disk", f"{settling} outcomes are being written"))
    return waits


def _whom(queue: Queue) -> str:
    return f"{queue.key.vmta} → {queue.site or queue.key.domain}"
