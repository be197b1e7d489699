"""What the control verbs ask: one worker's answers, and the server's as a whole.

Plain values only – a worker may stand behind a socket – and every call may raise ConnectionError when its process is gone. A
*row* is a mapping as JSON has it.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from mta.control.archive import Page, Parcel, Taken
from mta.follow.refused import Question
from mta.model.envelope import QueueKey
from mta.policy.orders import Order
from mta.spool.words import Filter

Row = dict[str, Any]


class QueueSource(Protocol):
    """Something that holds queues and can list them: a worker, or one spool of it."""

    @property
    def number(self) -> int: ...

    async def queues(self, *, sort: str, limit: int, match: str) -> tuple[int, list[Row]]:
        """How many queues match, and the first `limit` of them. Fewer rows than `limit`: these are all."""

    async def queues_named(self, keys: Sequence[QueueKey]) -> list[Row]:
        """The rows of those of these queues that there are."""

    async def queue_names(self, match: str, limit: int) -> list[str]:
        """The names of up to `limit` queues that match, in no order."""


class WorkerFace(QueueSource, Protocol):
    """What one worker answers."""

    async def status(self) -> Row: ...

    async def send_letter(self, recipient: str, subject: str, text: str) -> str:
        """A notice of ours, outside of the queues; "" or why it was not taken."""

    async def metrics(self) -> Row:
        """Its numbers by name: a snapshot, as `mta.metrics.catalogue` describes it."""

    async def groups(self, *, kind: str, sort: str, match: str) -> list[Row]:
        """What is queued by domain, site or job: the first `MAX_GROUPS` of them."""

    async def queue(self, key: QueueKey) -> Row | None:
        """One queue with its waits and its policy, or None."""

    async def pause(self, key: QueueKey) -> bool:
        """False: there is neither this queue nor its virtual MTA."""

    async def resume(self, key: QueueKey) -> bool: ...

    async def retry(self, key: QueueKey) -> int:
        """Try now: how many entries became due."""

    async def messages(self, which: Filter, limit: int) -> list[Row]:
        """Recipients that match, oldest first: up to `limit` of each of its spools."""

    async def count(self, which: Filter) -> int:
        """How many recipients match."""

    async def hold(self, which: Filter, reason: str) -> int:
        """Stop them until they are released: how many."""

    async def release(self, which: Filter) -> int: ...

    async def delete(self, which: Filter) -> int: ...

    async def reroute(self, which: Filter, to: str, dry_run: bool) -> int:
        """Move what matches to this virtual MTA or pool: how many recipients were, or would be, moved."""

    async def vmtas(self) -> list[Row]:
        """The virtual MTAs that there are or that have mail: state, what is queued, connections, rate."""

    async def look_at_vmtas(self) -> bool:
        """The operator has changed something about them."""

    async def retry_messages(self, which: Filter) -> int:
        """Try them now, and their queues: how many."""

    async def export_page(self, which: Filter, place: tuple[int, int]) -> Page:
        """The next messages that match; `place`: (-1, 0) to begin, then as the last page says."""

    async def export_part(self, spool: int, message: int, offset: int) -> bytes | None:
        """The next bytes of a message; None: it has gone."""

    async def imported(self, ids: list[str]) -> list[str]:
        """Those of these exported messages that are here, or were imported before."""

    async def import_messages(self, parcels: list[Parcel]) -> list[Taken]:
        """Take whole messages; they are on disk, or refused, when it answers."""

    async def trace_begin(self, queues: list[tuple[str, str]]) -> int:
        """Listen to these queues' connections ("" for any virtual MTA): a number, 0 if too many listen."""

    async def trace_read(self, number: int) -> tuple[list[Row], int] | None:
        """What was said since, and how many lines were lost; None: there is no such trace."""

    async def trace_end(self, number: int) -> None: ...

    async def explain_queue(self, key: QueueKey) -> list[Row]: ...

    async def explain_message(self, number: int, spool: str = "") -> list[Row]:
        """`spool`: how the UUID of its spool begins; "": any that it has."""

    async def resolve(self, key: QueueKey) -> Row: ...


class LicenseFace(Protocol):
    """What the licence answers."""

    async def status(self) -> Row:
        """What it is, allows and counts. Never raises."""

    async def ask(self, what: str, **arguments: Any) -> Any:
        """A verb of the guard. Raises ControlError with why not, and what to do."""


class VmtaFace(Protocol):
    """What the server as a whole answers of virtual MTAs and pools."""

    def vmta_rows(self) -> list[Row]:
        """The virtual MTAs of the configuration: name, addresses, EHLO name, totals, the pools it is in."""

    def pool_names(self) -> list[str]: ...

    async def put_vmta_state(self, name: str, state: str, by: str) -> None:
        """Keep it on disk. Raises OSError."""


class ConfigurationFace(Protocol):
    """What the server answers of its configuration."""

    async def reload(self) -> list[str]:
        """What changed, in words. Raises ConfigError and changes nothing."""

    def configuration(self) -> dict[str, dict[str, str]]:
        """The configuration that runs: section → key → value as TOML, no secrets."""


class OrdersFace(Protocol):
    """What the server answers of the operator's orders."""

    def orders(self) -> list[Order]:
        """The operator's orders in force."""

    async def give_orders(self, orders: Sequence[Order]) -> None:
        """From now on these hold. Raises OSError or ValueError, and changes nothing."""

    async def recall_orders(self, subjects: Sequence[tuple[str, str, str]]) -> int:
        """These hold no longer; how many of them there were. Raises OSError."""


class ServerFace(Protocol):
    """What the server as a whole answers."""

    async def status(self) -> Row: ...

    async def rotate(self) -> dict[str, str]:
        """Accounting set → the file that was finished."""

    async def refused(self, question: Question) -> Row:
        """What the statistics say of refusals. Raises SpoolError."""

    def shutdown(self, *, drain: bool) -> None: ...
