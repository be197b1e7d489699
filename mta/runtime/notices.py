"""The notices of one spool: failures that are owed to their senders become mail.

A failure is written together with what is owed for it, and the notice is accepted in the transaction that ends the debt: a
crash between them neither loses a notice nor sends it twice. The message stays in the spool until then. A notice is mail like any
other: signed, queued and retried.
"""

import asyncio
import secrets
from collections.abc import Callable

import structlog

from mta.bounce.notice import MAX_TOLD, Returned, compose_notice
from mta.ingress.intake import Intake, Submission
from mta.io.clock import Clock
from mta.metrics.counts import Counts
from mta.model.address import parse_address
from mta.model.envelope import NOTICE, Entry
from mta.model.errors import AddressError
from mta.model.reply import Reply
from mta.policy.admission import Admission, Peer
from mta.policy.notices import NoticeLimit, wants_notice
from mta.policy.rules import ListenerRules, Notices, ServerRules
from mta.smtp.grammar import RcptTo
from mta.spool.store import Spool
from mta.spool.words import OwedNotice

logger = structlog.get_logger()

CHUNK = 100  # messages looked up at a time; one notice is in memory at once
RETRY_S = 60.0  # after a notice could not be stored


class NoticeDesk:
    """Pays what one spool owes: no failure is told twice, and none is forgotten but by the limit of its sender."""

    def __init__(
        self,
        spool: Spool,
        *,
        intake: Intake,
        limit: NoticeLimit,
        clock: Clock,
        counts: Counts,
        rules: Callable[[], ServerRules],
    ) -> None:
        """`intake`: it takes mail for this spool."""
        self._spool = spool
        self._intake = intake
        self._limit = limit
        self._clock = clock
        self._counts = counts
        self._rules = rules
        self._look_at = 0.0  # what an earlier life left is looked for at once

    def owes(self, entry: Entry) -> bool:
        """Whether a notice of this entry's failure is owed; it is looked for when its time has come."""
        rules = self._rules()
        if rules.notices is Notices.NEVER or not wants_notice(entry):
            return False
        self._look_at = min(self._look_at, self._clock.now() + rules.notice_delay)
        return True

    async def look(self) -> int:
        """Write the notices whose time has come; how many."""
        now = self._clock.now()
        if now < self._look_at:
            return 0
        self._look_at = float("inf")  # what is owed from now on brings it down again
        delay = self._rules().notice_delay
        messages, following = await asyncio.wrap_future(
            self._spool.owed_notices(now - delay, CHUNK)
        )
        if following is not None:
            self._look_at = min(self._look_at, following + delay)
        written = 0
        try:
            for number in messages:
                written += await self._tell(number)
        except OSError as error:
            logger.warning("a notice cannot be stored now", error=str(error))
            self._look_at = now + RETRY_S
        else:
            if messages:
                self._look_at = now  # there may be more
        return written

    async def _tell(self, number: int) -> bool:
        """Tell of this message, or put an end to the debt. Raises OSError if that must be tried again."""
        rules = self._rules()
        try:
            asked = self._spool.owed_notice(number, MAX_TOLD, rules.notice_size)
            owed = await asyncio.wrap_future(asked)
            may_tell = owed is not None and rules.notices is Notices.SEND
            if owed is not None and may_tell and self._may_tell(owed, rules):
                told = await self._submit(owed, rules)
                self._counts.notices += told
                if told:
                    return True
        except OSError:
            raise
        except Exception:  # a task border: one message's fault must not stop the others
            self._counts.bugs += 1
            logger.exception("a fault of ours in a notice", message=number)
        self._spool.waive_notice(number)
        return False

    def _may_tell(self, owed: OwedNotice, rules: ServerRules) -> bool:
        if self._limit.may_tell(owed.message.sender, rules.notice_rate, self._clock.now()):
            return True
        self._counts.notices_waived += 1
        logger.warning(
            "a sender is not told of failures: its notices are beyond notice_rate",
            sender=owed.message.sender,
            recipients=len(owed.failures),
        )
        return False

    async def _submit(self, owed: OwedNotice, rules: ServerRules) -> bool:
        """Whether the notice is stored; False: it never can be. Raises OSError if that must be tried again."""
        message = owed.message
        try:
            address = parse_address(message.sender, utf8=True)
        except AddressError:
            return False  # nobody could be told
        data = compose_notice(
            owed.failures,
            Returned(owed.content, owed.is_whole, message.ret),
            hostname=rules.hostname,
            token=secrets.token_hex(12),
            wall=self._clock.wall(),
        )
        entries = [failure.entry for failure in owed.failures]
        arrival = self._intake.begin(
            Submission(
                Admission(ListenerRules("", vmta=message.vmta), ()),
                Peer("127.0.0.1", "", is_listed=False),
                sender="",
                sender_domain="",
                recipients=[RcptTo(message.sender, address.domain, notify="NEVER")],
                source_kind=NOTICE,
                source_name=rules.hostname,
                protocol="local",
                answers=(message.number, entries),
            )
        )
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        arrival.add(data)
        arrival.finish(lambda answer: None if reply.done() else reply.set_result(answer))
        # Without a deadline: the notice might be stored after it, and be written again. The watchdog minds the spool.
        answer = await reply
        if 400 <= answer.code < 500:
            raise OSError(str(answer))
        return answer.code == 250
