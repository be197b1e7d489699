"""Export and import of the queued messages of one worker.

An export only reads. A message that ends while it is read is left out: it was delivered, bounced or deleted. An import passes
the same bars as any mail (room, licence, clean lines, addresses) and is on disk, with the id it had, before it is told as taken:
the id and the message are one transaction.
"""

import asyncio
import functools
from asyncio import wrap_future
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mta.control.archive import MAX_MESSAGE, PART, ArchivedRecipient, Envelope, Page, Parcel, Taken
from mta.ingress.collect import SPILL_AT
from mta.model.address import parse_address
from mta.model.envelope import (
    Content,
    Draft,
    Entry,
    Message,
    Priority,
    QueueKey,
    SpillFile,
    format_message_id,
    is_message_id,
)
from mta.model.errors import AddressError, SpoolError
from mta.model.event import Received
from mta.runtime.worker import Worker
from mta.smtp.dots import stuff
from mta.spool.queries import Queries
from mta.spool.store import Spool
from mta.spool.words import Filter, Listed

ENTRIES = 200  # of an export's page
MAX_RECIPIENTS = 100_000  # of an imported message
MAX_TEXT = 1000  # characters of an envelope's values
_PRIORITIES = frozenset(map(int, Priority))
HELD_DUE = 1e10  # not before the hold is written; a release makes it due


class WorkerArchive:
    """Queued messages out of one worker, and into it."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    # -- out ------------------------------------------------------------------------------------

    async def export_page(self, which: Filter, place: tuple[int, int]) -> Page:
        """The next messages that match; `place`: (spool, entry number), from (-1, 0) on."""
        number, after = place
        numbers = sorted(self._worker.spools)
        if number < 0:
            number = numbers[0]
        spool, now = self._worker.spools[number], self._worker.clock.now()
        search = functools.partial(
            Queries.search, wanted=which, limit=ENTRIES, after=after, now=now
        )
        found, go_on = await wrap_future(spool.call(search))
        parcels = [await self._parcel(spool, each) for each in _by_message(found)]
        following: tuple[int, int] | None = None
        if go_on is not None:
            following = number, go_on
        elif number != numbers[-1]:
            following = numbers[numbers.index(number) + 1], 0
        return Page(number, [each for each in parcels if each is not None], following)

    async def export_part(self, spool: int, message: int, offset: int) -> bytes | None:
        """The next bytes of a message, at most `PART`; None: it has gone."""
        return await wrap_future(self._worker.spools[spool].content(message, offset, PART))

    async def _parcel(self, spool: Spool, listed: Sequence[Listed]) -> Parcel | None:
        message = listed[0].entry.message
        data = await wrap_future(spool.content(message.number, 0, PART))
        if data is None:
            return None
        envelope = _envelope(spool, listed)
        return Parcel(envelope.id, 0, data, envelope, is_last=message.size <= len(data))

    # -- in -------------------------------------------------------------------------------------

    async def imported(self, ids: list[str]) -> list[str]:
        """Those of these messages that are here, or were."""
        known: set[str] = set()
        for spool in self._worker.spools.values():
            here = await wrap_future(spool.imported(ids))
            known |= here
        return sorted(known)

    async def import_messages(self, parcels: list[Parcel]) -> list[Taken]:
        """Take these whole messages; each is on disk, or was refused, when this returns."""
        refused = await asyncio.gather(*map(self._take, parcels))
        return [Taken(each.id, why) for each, why in zip(parcels, refused, strict=True)]

    async def _take(self, parcel: Parcel) -> str:
        """Why it is not taken; "" once it is on disk."""
        refusal = self._worker.house.refusal()
        if refusal is not None:
            return str(refusal)
        # A large one is looked at in a thread: nothing on the loop runs long.
        is_large = len(parcel.data) > SPILL_AT
        why = await asyncio.to_thread(self._why_not, parcel) if is_large else self._why_not(parcel)
        if why:
            return why
        try:
            await self._store(parcel)
        except SpoolError as error:
            return str(error)
        return ""

    def _why_not(self, parcel: Parcel) -> str:
        envelope = parcel.envelope
        if envelope is None or envelope.id != parcel.id or not is_message_id(parcel.id):
            return f"{parcel.id!r} is no message id, or not that of its envelope"
        if len(parcel.data) != envelope.size or envelope.size > MAX_MESSAGE:
            return f"it has {len(parcel.data)} bytes, not {envelope.size}"
        if self._worker.settings.book.vmta(envelope.vmta) is None:
            return f"there is no [vmta.{envelope.vmta}] in the configuration"
        if not 0 < len(envelope.recipients) <= MAX_RECIPIENTS:
            return f"it has {len(envelope.recipients)} recipients"
        try:
            stuff(parcel.data)  # what egress would refuse is refused here
            parse_address(envelope.sender, null_allowed=True, utf8=True)
            for each in envelope.recipients:
                parse_address(each.address, utf8=True)
            _check_texts(envelope)
        except (ValueError, AddressError) as error:
            return str(error)
        return ""

    async def _store(self, parcel: Parcel) -> None:
        worker, envelope = self._worker, parcel.envelope
        assert envelope is not None
        spool, now = worker.spool, worker.clock.now()
        draft = _draft(envelope, parcel.data, spool, now)
        if len(parcel.data) > SPILL_AT:
            draft.body = await _spilled(spool, parcel.data)
        stored: asyncio.Future[SpoolError | None] = asyncio.get_running_loop().create_future()
        spool.accept(draft, stored.set_result)
        error = await stored
        if error is not None:
            raise error
        worker.counts.messages_in += 1
        number = draft.message.number
        free: list[Entry] = []
        for entry, each in zip(draft.entries, envelope.recipients, strict=True):
            if each.held is None:
                free.append(entry)
            else:
                one = Filter(message=number, entry=entry.number)
                await wrap_future(spool.hold(one, each.held or "held where it was exported"))
        worker.accepted(replace(draft, entries=free))


def _by_message(found: Sequence[Listed]) -> list[list[Listed]]:
    groups: dict[int, list[Listed]] = {}
    for each in found:
        groups.setdefault(each.entry.message.number, []).append(each)
    return list(groups.values())


def _envelope(spool: Spool, listed: Sequence[Listed]) -> Envelope:
    message = listed[0].entry.message
    return Envelope(
        id=format_message_id(spool.uuid, message.number),
        sender=message.sender,
        recipients=[
            ArchivedRecipient(
                address=each.entry.address,
                domain=each.entry.key.domain,
                notify=each.entry.notify,
                orcpt=each.entry.orcpt,
                attempts=each.entry.attempts,
                held=each.hold_reason if each.held else None,
                last_reply=each.reply,
            )
            for each in listed
        ],
        size=message.size,
        vmta=message.vmta,
        received_at=message.received_at,
        job=message.job,
        envid=message.envid,
        ret=message.ret,
        content=int(message.content),
        source_kind=message.source_kind,
        source_ip=message.source_ip,
        source_name=message.source_name,
        user=message.user,
        release_at=message.release_at,
        priority=int(message.priority),
    )


def _draft(envelope: Envelope, data: bytes, spool: Spool, now: float) -> Draft:
    content = Content(envelope.content & 3)
    message = Message(
        spool.number,
        spool.next_message_number(),
        envelope.sender,
        len(data),
        min(envelope.received_at, now),
        envelope.vmta,
        job=envelope.job,
        envid=envelope.envid,
        ret=envelope.ret,
        content=content if data.isascii() else content | Content.EIGHT_BIT,
        source_kind="import",
        source_ip=envelope.source_ip,
        source_name=envelope.source_name,
        user=envelope.user,
        release_at=envelope.release_at,
        priority=Priority(envelope.priority)
        if envelope.priority in _PRIORITIES
        else Priority.NORMAL,
    )
    due = max(now, message.release_at)
    entries = [
        Entry(
            message,
            QueueKey(parse_address(each.address, utf8=True).domain, envelope.vmta),
            each.address,
            notify=each.notify,
            orcpt=each.orcpt,
            due=due if each.held is None else HELD_DUE,
        )
        for each in envelope.recipients
    ]
    event = Received(
        now,
        message.number,
        message.sender,
        len(entries),
        message.size,
        message.vmta,
        message.job,
        message.envid,
        message.source_kind,
        message.source_ip,
        message.source_name,
        message.user,
    )
    return Draft(message, entries, b"", data, event, origin=envelope.id)


async def _spilled(spool: Spool, data: bytes) -> SpillFile:
    """The body as a file on disk. Raises SpoolError."""
    spill = spool.new_spill()
    finished: asyncio.Future[SpillFile | BaseException] = asyncio.get_running_loop().create_future()
    spill.write(data)
    spill.finish(finished.set_result)
    result = await finished
    if isinstance(result, BaseException):
        raise SpoolError(f"its body cannot be written: {result}")
    return result


def _check_texts(envelope: Envelope) -> None:
    """Nothing in it may reach a command or a record as more than text. Raises ValueError."""
    texts: list[Any] = [envelope.job, envelope.envid, envelope.source_ip, envelope.source_name]
    texts += [envelope.user, envelope.vmta]
    for each in envelope.recipients:
        texts += [each.notify, each.orcpt, each.held or ""]
    if any(not text.isprintable() or len(text) > MAX_TEXT for text in texts):
        raise ValueError("its envelope has a value that is too long or cannot be printed")
    if envelope.ret not in ("", "FULL", "HDRS"):
        raise ValueError(f"RET is FULL or HDRS, not {envelope.ret!r}")
    kinds = {"NEVER", "SUCCESS", "FAILURE", "DELAY", ""}
    for each in envelope.recipients:
        if not set(each.notify.upper().split(",")) <= kinds or " " in each.orcpt:
            raise ValueError(f"NOTIFY or ORCPT of {each.address} is none (RFC 3461)")
    if " " in envelope.envid:
        raise ValueError("ENVID holds no blanks (RFC 3461 section 4.4)")
