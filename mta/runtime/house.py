"""Whether the house takes mail now: room on the disk, followers that keep up, a licence that allows it.

Asked at every MAIL, so it answers from what was last measured; a look at the file system once a second is enough, and no
statvfs stands on the hot path.
"""

from collections.abc import Callable
from typing import Protocol

import structlog

from mta.ingress.collect import IntakeMemory
from mta.model.reply import Reply, a_reply
from mta.model.units import format_size
from mta.runtime.license import LAB, Entitlement, Injection
from mta.smtp import replies
from mta.spool.words import FreeSpace

logger = structlog.get_logger()

RECORDS_BEHIND = a_reply(
    452, "4.3.1", "The records of earlier mail are not written yet, try again later"
)
# What the door says for the licence; clients are told no reason, `sluice license status` tells it.
OF_THE_LICENCE = {
    Injection.OPEN: None,
    Injection.UNTIL_FULL: None,  # held in the spool; `min_free` ends it with 452 4.3.1
    Injection.REFUSED: a_reply(451, "4.7.0", "The licence of this server allows no mail now"),
    Injection.STANDBY: a_reply(421, "4.3.2", "This server is a standby, try the active one"),
}


class MeasuredSpool(Protocol):
    """What is measured."""

    def free_space(self) -> FreeSpace: ...


class House:
    """Its `refusal` is what the gate answers at MAIL; None: come in."""

    def __init__(
        self,
        *,
        spool: MeasuredSpool,
        min_free: float | int,
        memory: IntakeMemory,
        records_behind: Callable[[], bool],
    ) -> None:
        self._spool = spool
        self.min_free = min_free
        self._memory = memory
        self._records_behind = records_behind
        self._entitlement: Entitlement = LAB
        self._closed: Reply | None = None  # by the licence
        self.free: FreeSpace | None = None
        self.low_because = ""

    @property
    def entitlement(self) -> Entitlement:
        """What the licence allows now."""
        return self._entitlement

    def entitle(self, entitlement: Entitlement) -> None:
        """The licence allows this from now on."""
        self._entitlement = entitlement
        self._closed = OF_THE_LICENCE[entitlement.injection]

    def refusal(self) -> Reply | None:
        """Why no mail is taken now; None: it is."""
        if self.low_because or self._memory.is_full:
            return replies.NO_SPACE
        if self._closed is not None:
            return self._closed
        return RECORDS_BEHIND if self._records_behind() else None

    def look_at_disk(self) -> None:
        """Measure what is free, in bytes and inodes."""
        before = self.low_because
        self.free = found = self._spool.free_space()
        self.low_because = ""
        if found.is_under(self.min_free):
            self.low_because = (
                f"{format_size(found.free_bytes)} and {found.free_inodes} inodes free"
                f" of {format_size(found.total_bytes)} and {found.total_inodes}"
            )
        if self.low_because and not before:
            logger.warning("intake stopped: min_free is not met", found=self.low_because)
        elif before and not self.low_because:
            logger.info("intake goes on: there is room in the spool again")
