"""The notices of one spool: what is owed to senders becomes mail.

What became of a recipient is written together with what is owed for it, and the notice is accepted in the transaction that ends
the debt: a crash between them neither loses a notice nor sends it twice. The message stays in the spool until then. A notice is
mail like any other: signed, queued and retried. What goes beyond the share of an address is gathered, without its messages, and
told in one digest when the address may be written to again.
"""

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence

import structlog

from mta.bounce.notice import MAX_TOLD, Heading, Returned, compose_digest, compose_notice
from mta.bounce.robots import is_automatic, is_report
from mta.bounce.wording import Wording, choose_language
from mta.ingress.intake import Intake, Submission
from mta.io.clock import Clock
from mta.metrics.counts import Counts
from mta.mime.headers import HeaderIndex, header_length
from mta.model.address import parse_address
from mta.model.envelope import NOTICE, Content, Entry, format_message_id
from mta.model.errors import AddressError
from mta.model.event import Attempt
from mta.model.reply import Reply
from mta.model.told import Action, Told
from mta.policy.admission import Admission, Peer
from mta.policy.notices import (
    NoticeBook,
    NoticeLimit,
    NoticeRule,
    wants_failure,
    wants_success,
)
from mta.policy.rules import ListenerRules, ServerRules
from mta.smtp.grammar import RcptTo
from mta.spool.store import Spool
from mta.spool.words import OwedNotice

logger = structlog.get_logger()

CHUNK = 20  # messages told of at a time: so many notices are in memory, and share a commit
CHUNKS = 50  # in one look; then others have their turn
RETRY_S = 60.0  # after a notice could not be stored
SPOOL_TIMEOUT_S = 60.0
MAX_DIGESTS = 500  # addresses looked at at a time
MAX_DIGEST = (
    10_000  # recipients gathered for one address, some 4 MB; of more there are only the records
)


class NoticeDesk:
    """Pays what one spool owes: nothing is told twice, and nothing is forgotten without being counted."""

    def __init__(
        self,
        spool: Spool,
        *,
        intake: Intake,
        limit: NoticeLimit,
        clock: Clock,
        counts: Counts,
        rules: Callable[[], ServerRules],
        book: Callable[[], NoticeBook],
        wordings: Callable[[], Mapping[str, Wording]],
    ) -> None:
        """`intake`: it takes mail for this spool."""
        self._spool = spool
        self._intake = intake
        self._limit = limit
        self._clock = clock
        self._counts = counts
        self._rules = rules
        self._book = book
        self._wordings = wordings
        self._look_at = 0.0  # what an earlier life left is looked for at once

    def owes(self, entry: Entry, event: Attempt) -> bool:
        """Whether a notice of this end of the entry is owed; it is looked for when its time has come."""
        if entry.message.source_kind == NOTICE:
            self._note_lost(entry, event)
            return False
        is_delivered = event.kind == "d"
        if not (wants_success(entry, event.extensions) if is_delivered else wants_failure(entry)):
            return False
        message = entry.message
        if self._book().rule(message.sender, message.user, message.source_ip).is_never:
            return False
        self.note_owed()
        return True

    def _note_lost(self, entry: Entry, event: Attempt) -> None:
        """A notice ended. One that could not be delivered is told to nobody (RFC 5321 §6.1), but for the operator."""
        if event.kind == "b":
            self._counts.notices_failed += 1
            logger.warning(
                "a notice could not be delivered",
                message=format_message_id(self._spool.uuid, entry.message.number),
                recipient=entry.address,
                reply=f"{event.code} {event.enhanced} {event.text}",
            )

    def note_owed(self) -> None:
        """Something is owed from now on."""
        self._look_again_at(self._clock.now() + self._rules().notice_delay)

    async def look(self) -> int:
        """Write the notices whose time has come; how many."""
        now = self._clock.now()
        if now < self._look_at:
            return 0
        self._look_at = float("inf")  # what is owed from now on brings it down again
        try:
            return await self._write_digests(now) + await self._write_notices(now)
        except OSError as error:  # a time-out of the spool is one, too
            logger.warning("a notice cannot be stored now", error=str(error))
            self._look_again_at(now + RETRY_S)
            return 0

    async def _write_notices(self, now: float) -> int:
        delay = self._rules().notice_delay
        written = 0
        for _ in range(CHUNKS):
            messages, following = await asyncio.wrap_future(
                self._spool.owed_notices(now - delay, CHUNK)
            )
            if not messages:
                if following is not None:
                    self._look_again_at(following + delay)
                return written
            told = await asyncio.gather(*map(self._tell, messages), return_exceptions=True)
            for each in told:
                if isinstance(each, BaseException):
                    raise each
                written += each
        self._look_again_at(now)  # there may be more
        return written

    async def _tell(self, number: int) -> bool:
        """Tell of this message, or put an end to the debt. Raises OSError if that must be tried again."""
        rules = self._rules()
        try:
            asked = self._spool.owed_notice(number, MAX_TOLD, rules.notice_size)
            owed = await asyncio.wrap_future(asked)
            if owed is not None:
                return await self._pay(owed, rules)
        except OSError:
            raise
        except Exception:  # a task border: one message's fault must not stop the others
            self._counts.bugs += 1
            logger.exception("a fault of ours in a notice", message=number)
        self._spool.waive_notice(number)
        return False

    async def _pay(self, owed: OwedNotice, rules: ServerRules) -> bool:
        """Whether a notice was written of what is owed; else it need not be, or is gathered for a digest."""
        message = owed.message
        header = HeaderIndex(owed.content[: header_length(owed.content)])
        rule = self._book().rule(message.sender, message.user, message.source_ip)
        told = [] if rule.is_never or is_report(header) else list(owed.told)
        if is_automatic(header):
            told = [each for each in told if each.action is Action.FAILED]
        entries = [each.attempt.entry for each in told]
        unwanted = {each.attempt.entry for each in owed.told} - set(entries)
        if unwanted or owed.over:
            self._spool.forget_owed(message.number, [*unwanted, *owed.over])
        if not told:
            return False
        address = rule.address(message.sender)
        now = self._clock.now()
        if not self._limit.may_tell(address, rules.notice_rate, now):
            await self._fold(message.number, entries, address)
            self._look_again_at(self._limit.free_at(address, rules.notice_rate, now))
            return False
        asked = (header.find(b"accept-language") or b"").decode("ascii", "replace")
        wording = choose_language(rule.language, asked, self._wordings())
        is_utf8 = bool(message.content & Content.UTF8)
        data = compose_notice(
            told,
            Returned(owed.content, owed.is_whole, message.ret, is_utf8),
            self._heading(address, wording),
            name=format_message_id(self._spool.uuid, message.number),
        )
        return await self._submit(data, address, message.vmta, (message.number, entries))

    async def _fold(self, number: int, entries: list[int], address: str) -> None:
        async with asyncio.timeout(SPOOL_TIMEOUT_S):
            dropped = await asyncio.wrap_future(
                self._spool.fold_notice(number, entries, address, MAX_DIGEST)
            )
        self._counts.notices_folded += 1
        self._counts.notices_waived += dropped
        if dropped:
            logger.warning(
                "the digest for an address is full: nobody is told of these recipients",
                address=address,
                recipients=dropped,
                message=format_message_id(self._spool.uuid, number),
            )

    # Digests

    async def _write_digests(self, now: float) -> int:
        rate = self._rules().notice_rate
        written, last = 0, ""
        while addresses := await asyncio.wrap_future(self._spool.digests(last, MAX_DIGESTS)):
            for address in addresses:
                if self._limit.may_tell(address, rate, now):
                    written += await self._tell_digest(address)
                self._look_again_at(max(now, self._limit.free_at(address, rate, now)))
            last = addresses[-1]
        return written

    async def _tell_digest(self, address: str) -> bool:
        told, over = await asyncio.wrap_future(self._spool.digest(address, MAX_TOLD))
        entries = [each.attempt.entry for each in told] + list(over)
        try:
            wanted = [each for each in told if not self._rule_of(each).is_never]
            if wanted:
                names = [
                    format_message_id(self._spool.uuid, each.attempt.message) for each in wanted
                ]
                rule = self._rule_of(wanted[0])
                wording = choose_language(rule.language, "", self._wordings())
                data = compose_digest(wanted, names, self._heading(address, wording))
                return await self._submit(data, address, wanted[0].attempt.vmta, (0, entries))
        except OSError:
            raise
        except Exception:  # a task border: one digest's fault must not stop the others
            self._counts.bugs += 1
            logger.exception("a fault of ours in a digest", address=address)
        self._spool.forget_owed(0, entries)
        return False

    def _rule_of(self, told: Told) -> NoticeRule:
        attempt = told.attempt
        return self._book().rule(attempt.sender, attempt.user, attempt.source_feeder_ip)

    # Both

    def _look_again_at(self, at: float) -> None:
        self._look_at = min(self._look_at, at)

    def _heading(self, address: str, wording: Wording) -> Heading:
        hostname = self._rules().hostname
        return Heading(address, hostname, wording, secrets.token_hex(12), self._clock.wall())

    async def _submit(
        self, data: bytes, to: str, vmta: str, answers: tuple[int, Sequence[int]]
    ) -> bool:
        """Whether the notice is stored, or else what is owed is forgotten: it never can be.

        `answers`: of which message, and what is no longer owed then. Raises OSError if that must be tried again.
        """
        message, entries = answers
        try:
            domain = parse_address(to, utf8=True).domain
        except AddressError as error:
            logger.warning("nobody can be told by mail of this sender", to=to, error=str(error))
            self._spool.forget_owed(message, entries)
            return False
        hostname = self._rules().hostname
        arrival = self._intake.begin(
            Submission(
                Admission(ListenerRules("", vmta=vmta), ()),
                Peer("127.0.0.1", "", is_listed=False),
                sender="",
                sender_domain="",
                recipients=[RcptTo(to, domain, notify="NEVER")],
                source_kind=NOTICE,
                source_name=hostname,
                protocol="local",
                answers=(message, list(entries)),
                utf8=not to.isascii(),
            )
        )
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        arrival.add(data)
        arrival.finish(lambda answer: None if reply.done() else reply.set_result(answer))
        # Without a deadline: the notice might be stored after it, and be written again. The watchdog minds the spool.
        answer = await reply
        if 400 <= answer.code < 500:
            raise OSError(str(answer))
        if answer.code != 250:
            logger.error("a notice of ours was refused by ourselves", to=to, reply=str(answer))
            self._spool.forget_owed(message, entries)
            return False
        self._counts.notices += 1
        return True
