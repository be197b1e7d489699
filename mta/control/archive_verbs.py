"""`messages.export` and `messages.import`: queued messages as a stream of parcels, out of all workers and into one.

An import first asks every worker which messages it knows; who does not answer stops it, for the message may lie there. Imports
run one after the other, or two could take the same message side by side.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence

import msgspec

from mta.control.archive import MAX_MESSAGE, Page, Parcel, Taken
from mta.control.arguments import FilterArgs, make_filter
from mta.control.asking import ask_all
from mta.control.faces import Row, WorkerFace
from mta.control.protocol import ControlError
from mta.control.registry import Registry
from mta.model.envelope import parse_message_id
from mta.spool.words import Filter

EXPORT_S = 86_400.0  # as long as somebody reads
WORKER_S = 60.0  # of one page, or one batch: the disk may be busy
PARCELS_A_LINE = 20  # 7 MB at the most
MAX_PARCELS = 1000  # of one request


class ImportArgs(msgspec.Struct, forbid_unknown_fields=True):
    """`parcels`: whole messages, or the next part of one large one that a request has to itself."""

    parcels: list[Parcel]


class ArchiveVerbs:
    """Both of them."""

    def __init__(self, workers: Sequence[WorkerFace]) -> None:
        self._workers = workers
        self._importing = asyncio.Lock()
        self._turns = itertools.count()
        self._part: Parcel | None = None  # the beginning of a large message that is coming
        self._data = bytearray()

    def register(self, registry: Registry) -> None:
        """Teach them."""
        registry.add(
            "messages.export",
            FilterArgs,
            self.export,
            help="queued messages with their envelopes",
            deadline_s=EXPORT_S,
            items_per_line=PARCELS_A_LINE,
        )
        registry.add(
            "messages.import",
            ImportArgs,
            self.import_,
            help="take exported messages",
            changes=True,
            deadline_s=3 * WORKER_S,
        )

    async def export(self, args: FilterArgs) -> AsyncIterator[Parcel]:
        """Every message that matches, with those of its recipients that match."""
        which = make_filter(args)
        for worker in list(self._workers):
            place: tuple[int, int] | None = (-1, 0)
            while place is not None:
                page = await _page(worker, which, place)
                for parcel in page.parcels:
                    yield parcel
                    async for part in _rest(worker, page.spool, parcel):
                        yield part
                place = page.place

    async def import_(self, args: ImportArgs) -> Row:
        """Take whole messages that are not here yet. What is `taken` is on disk; `known` was here before."""
        if len(args.parcels) > MAX_PARCELS:
            raise ControlError(f"a request has at most {MAX_PARCELS} messages")
        async with self._importing:
            whole = self._whole(args.parcels)
            return await self._import(whole)

    async def _import(self, whole: list[Parcel]) -> Row:
        ids = list(dict.fromkeys(each.id for each in whole))
        _check_ids(ids)
        known: set[str] = set()
        answers = await ask_all(self._workers, lambda each: each.imported(ids), deadline_s=WORKER_S)
        if answers.silent:
            names = ", ".join(map(str, answers.silent))
            raise ControlError(
                f"worker {names} does not answer; it may have some of these messages",
                "import them again later: what was taken is not taken twice",
            )
        known.update(*answers.all)
        # Of one id twice in a request the first counts.
        new = list({each.id: each for each in reversed(whole) if each.id not in known}.values())
        taken = await self._give(new[::-1]) if new else []
        return {
            "taken": [each.id for each in taken if not each.refused],
            "known": sorted(known),
            "refused": {each.id: each.refused for each in taken if each.refused},
        }

    async def _give(self, parcels: list[Parcel]) -> list[Taken]:
        worker = self._workers[next(self._turns) % len(self._workers)]
        try:
            async with asyncio.timeout(WORKER_S):
                return await worker.import_messages(parcels)
        except (TimeoutError, ConnectionError) as error:
            raise ControlError(
                f"worker {worker.number} did not answer; some of these messages may be taken",
                "import them again: what was taken is not taken twice",
            ) from error

    def _whole(self, parcels: list[Parcel]) -> list[Parcel]:
        """The whole messages among these; the part of a large one is kept until its last has come."""
        if len(parcels) != 1 or (parcels[0].is_last and parcels[0].offset == 0):
            if not all(each.is_last and each.offset == 0 for each in parcels):
                raise ControlError("a part of a message comes alone in its request")
            return parcels
        part = parcels[0]
        if part.offset == 0:
            self._part, self._data = part, bytearray()
        first = self._part
        if first is None or first.id != part.id or part.offset != len(self._data):
            raise ControlError(
                f"the parts of {part.id} do not follow each other",
                "another import is under way: import again when it has ended",
            )
        if len(self._data) + len(part.data) > MAX_MESSAGE:
            raise ControlError(f"a message to import has at most {MAX_MESSAGE} bytes")
        self._data += part.data
        if not part.is_last:
            return []
        data, self._part, self._data = bytes(self._data), None, bytearray()
        return [Parcel(first.id, 0, data, first.envelope)]


async def _page(worker: WorkerFace, which: Filter, place: tuple[int, int]) -> Page:
    try:
        async with asyncio.timeout(WORKER_S):
            return await worker.export_page(which, place)
    except (TimeoutError, ConnectionError) as error:
        raise ControlError(
            f"worker {worker.number} did not answer; the export is not complete",
            "export again when sluice status shows all workers",
        ) from error


async def _rest(worker: WorkerFace, spool: int, parcel: Parcel) -> AsyncIterator[Parcel]:
    """The parts after the first. One that is gone in the middle ends without a last part."""
    offset = len(parcel.data)
    is_last = parcel.is_last
    _, number = parse_message_id(parcel.id)
    assert parcel.envelope is not None
    while not is_last:
        async with asyncio.timeout(WORKER_S):
            data = await worker.export_part(spool, number, offset)
        if not data:
            return
        offset += len(data)
        is_last = offset >= parcel.envelope.size
        yield Parcel(parcel.id, offset - len(data), data, is_last=is_last)


def _check_ids(ids: list[str]) -> None:
    for each in ids:
        try:
            spool, _ = parse_message_id(each)
        except ValueError as error:
            raise ControlError(str(error)) from None
        if not spool:
            raise ControlError(f"{each} does not name its spool; ids look like 1f2e3d4c-17")
