"""Failures: how far they reach, how long a queue rests for them, what ends them; and what is given up. Second layer.

A failure of DNS or of the site rests the whole queue and touches no entry. Connections that work are never taken from a queue
because another one was refused, and the first success ends the rest.
"""

from mta.model.envelope import Entry, Message
from mta.model.outcome import Deferred, Delivered, Extent, Failed, Outcome
from mta.model.reply import a_reply
from mta.model.units import format_duration
from mta.policy.retry import backoff_delay, dns_delay
from mta.queue import actions
from mta.queue.actions import QueueState
from mta.queue.memory import Memory
from mta.queue.queue import Connection, Queue

DNS_OUTAGE_FAILURES = 3  # in a row, over all queues
EXPIRY_STATUS = "4.4.7"  # RFC 3463: delivery time expired
_OF_THE_QUEUE = frozenset({Extent.CONNECTION, Extent.SITE})


class Trouble(Memory):
    """What a refusal does to a queue, to its destination and to those who share it."""

    def _keep(
        self, queue: Queue, conn: Connection, entry: Entry, outcome: Deferred | Failed, now: float
    ) -> bool:
        """The queue was refused under this entry, which goes back to the head of its queue; False: it pays for it.

        Twice running under the same message, and the message is suspected: it waits for its own time, and others try.
        """
        destination = conn.destination
        message = entry.message
        suspect = message.number << 8 | message.spool
        if not conn.failed:  # the first entry of the transaction speaks for all
            is_again, destination.suspect = destination.suspect == suspect, suspect
            queue.suspect = suspect if is_again else 0
            conn.failed = True
            self._stop_working(conn)
            self._fail(queue, outcome, now)
        if queue.suspect == suspect:
            return False
        queue.push_front(entry)
        return True

    def _note_answer(self, queue: Queue, conn: Connection, outcome: Outcome) -> None:
        """A message or recipient was taken or refused on its own account: the destination works."""
        if not isinstance(outcome, Delivered) and outcome.local:
            # A connection lost after the dot says nothing good; a refusal of ours says nothing at all.
            conn.lost_dot = conn.lost_dot or (isinstance(outcome, Deferred) and outcome.may_repeat)
            return
        destination = conn.destination
        if destination.attempts or destination.suspect:
            destination.works()
            self._end_probe(destination)
            self._actions.append(actions.Tell(queue.site, queue.key.vmta))
            self._mark(queue)
        if queue.state.mode != "normal" or queue.state.attempts:
            queue.state = QueueState(queue.key)
            self._actions.append(actions.Postpone(queue.state))
            self._mark(queue)

    def _stop_working(self, conn: Connection) -> None:
        if conn.is_working:
            conn.is_working = False
            conn.destination.working -= 1

    def _fail(self, queue: Queue, outcome: Deferred | Failed, now: float) -> None:
        """The destination refused us or cannot be reached: the queue rests; connections that work go on."""
        destination = queue.destination
        if queue.state.next_at > now or destination is None:
            return  # it rests already: several connections failed at once
        if destination.working:
            destination.refused_beyond(destination.working, now)
        if destination.until <= now:  # else another queue has met the same refusal just now
            policy, attempts = queue.policy, max(queue.state.attempts, destination.attempts) + 1
            delay = backoff_delay(policy.backoff_initial, policy.backoff_cap, attempts, queue.key)
            destination.attempts, destination.until = attempts, now + delay
            destination.reason = str(outcome.reply)
            told = (destination.until, destination.attempts, destination.reason)
            self._actions.append(actions.Tell(queue.site, queue.key.vmta, *told))
        why = Deferred(outcome.reply, Extent.CONNECTION, local=outcome.local)
        self._postpone(queue, destination.until, destination.attempts, why)
        if destination.prober is queue or destination.prober is None:
            self._end_probe(destination)

    def _rest_for_dns(self, queue: Queue, why: Deferred, now: float) -> None:
        """No answer is no failure of the domain: no try is burnt."""
        oldest = self._age(queue.ready[0].message, now) if queue.ready else 0.0
        is_outage = self.dns_is_down or self._dns_failures >= DNS_OUTAGE_FAILURES
        delay = dns_delay(oldest, queue.key, is_outage=is_outage, now=now)
        self._postpone(queue, now + delay, queue.state.attempts, why)

    def _postpone(self, queue: Queue, until: float, attempts: int, why: Deferred) -> None:
        paused = queue.state.paused
        queue.state = QueueState(queue.key, until, attempts, "backoff", str(why.reply), paused)
        queue.is_expiring = True
        self._actions.append(actions.Postpone(queue.state, why))
        self._mark(queue)

    def _give_up(self, queue: Queue, entries: list[Entry], outcome: Failed) -> None:
        if not entries:
            return
        going = set(entries)
        queue.flying.update(dict.fromkeys(entries))
        queue.ready = type(queue.ready)(entry for entry in queue.ready if entry not in going)
        queue.count_groups()
        self._actions.append(actions.GiveUp(queue.key, tuple(entries), outcome))

    def _expiry(self, queue: Queue) -> Failed:
        text = f"not delivered within {format_duration(queue.policy.expire_after)}"
        if queue.state.reason:
            text += f"; last: {queue.state.reason}"
        return Failed(a_reply(451, EXPIRY_STATUS, text), local=True)

    def _age(self, message: Message, now: float) -> float:
        held_s = self.licence_held_s(message.spool, now) - message.licence_held_s
        return now - max(message.received_at, message.release_at) - held_s


def is_of_the_queue(outcome: Deferred | Failed) -> bool:
    """A refusal that speaks of no message; one that may repeat a message concerns that message in any case."""
    return outcome.extent in _OF_THE_QUEUE and not (
        isinstance(outcome, Deferred) and outcome.may_repeat
    )
