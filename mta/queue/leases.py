"""The scheduler's side of the governor: what was asked for, who waits to ask, and who should make room.

At most `MAX_REQUESTS` requests are out, at most four of them waiting at the same full key: the governor then orders few, and
what a queue no longer wants is not asked for. Of the four, two are for queues without a connection and two for those that
want one more. (In one common line, the greedy took all four places, got nothing, for they have their share, and kept out those
for whom holders would have made room.) Among the greedy, who has fewer connections takes the place of who has more. The others
are parked at that key, in order; so are requests beyond the four, once it is heard that the key is full.

A parked queue whose turn has come may find another of its keys full. It goes to the end of its line, that key remembers the line,
and the line rests until something happens at one of the two. The version that failed moved the queue to the line of the other
key and let the next one try: with 5,000 destinations and 3 connections all of them walked from the line of the server to that of
the unproven and back, at 1.6 ms of CPU for each message delivered.

All of it is counted in scans of at most 64 requests; never over queues.
"""

from collections import deque
from typing import NamedTuple

from mta.policy.rules import Demand
from mta.queue.actions import RateDemand, RequestLease
from mta.queue.limits import UNPROVEN
from mta.queue.queue import Connection, Queue

MAX_REQUESTS = 64
MAX_GREEDY = 48  # of these, for queues that have a connection already
PLACES_AT_A_KEY = 2  # for each of the two kinds


class Cell:
    """A governor's key, as far as this worker knows it."""

    __slots__ = (
        "blocks",
        "closing",
        "idle",
        "name",
        "opening",
        "parked",
        "refs",
        "waiting",
        "yielding",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.waiting = 0  # requests of all workers that wait for it; above 0 it is full
        self.yielding = 0  # so many holders should make room
        self.closing = 0  # so many of ours are about to
        self.idle: dict[Connection, None] = {}
        self.opening: dict[Connection, None] = {}  # to the unproven, with all the time there is
        self.parked: tuple[deque[Queue], deque[Queue]] = (deque(), deque())
        self.refs = 0  # our requests and connections that name it
        self.blocks: dict[str, None] = {}  # keys in whose lines somebody waits for this one

    @property
    def room_wanted(self) -> int:
        """Holders that should still make room."""
        return self.yielding - self.closing

    @property
    def is_unused(self) -> bool:
        return not (self.refs or self.waiting or self.parked[0] or self.parked[1] or self.blocks)


class Turn(NamedTuple):
    """A parked queue may ask now: from which line it came (None: from that of the 64)."""

    cell: Cell | None
    kind: int


class _Asked:
    """A request that is out."""

    __slots__ = ("cells", "is_greedy", "queue")

    def __init__(self, queue: Queue, cells: list[Cell], is_greedy: bool) -> None:
        self.queue = queue
        self.cells = cells
        self.is_greedy = is_greedy


class LeaseDesk:
    """What this worker wants of the governor, and what it holds."""

    def __init__(self) -> None:
        self.cells: dict[str, Cell] = {}
        self.is_wanted = False  # some key wants room: the one look of the hot path
        self._yielding: set[str] = set()
        self._asked: dict[int, _Asked] = {}
        self._next_number = 1
        self._displaced: list[int] = []
        # Parked because 64 are out, not at any key.
        self._line: tuple[deque[Queue], deque[Queue]] = (deque(), deque())

    def __len__(self) -> int:
        return len(self._asked)

    def ask(self, queue: Queue, demand: Demand, rates: RateDemand) -> RequestLease | None:
        """A request for one more connection, or None: the queue is parked and will be marked when it is its turn.

        Look at `take_displaced` then.
        """
        is_greedy = bool(queue.connections or queue.requests)
        names = sorted((name for name, _ in demand), key=lambda name: not name.endswith(UNPROVEN))
        full = next((c for c in map(self.cells.get, names) if c is not None and c.waiting), None)
        if full is not None and self._places(full, is_greedy) <= 0:
            richest = self._richest(full) if is_greedy else None
            if richest is None or _wealth(self._asked[richest].queue) < _wealth(queue) + 2:
                self._park_at(full, queue, is_greedy)
                return None
            self._displace(richest, full)
        if len(self._asked) >= (MAX_GREEDY if is_greedy else MAX_REQUESTS):
            self._park(queue, self._line, is_greedy)
            return None
        number = self._next_number
        self._next_number += 1
        cells = [self._cell(name) for name in names]
        for cell in cells:
            cell.refs += 1
        self._asked[number] = _Asked(queue, cells, is_greedy)
        queue.requests.add(number)
        return RequestLease(number, queue.key, demand, rates)

    def answered(self, number: int) -> tuple[Queue, list[Cell]] | None:
        """A lease came: its queue and its keys, which the connection holds from now on. None: nobody wants it."""
        asked = self._asked.pop(number, None)
        if asked is None:
            return None
        asked.queue.requests.discard(number)
        return asked.queue, asked.cells

    def withdraw(self, queue: Queue) -> tuple[list[int], list[Cell]]:
        """The queue wants nothing more: its requests, void now, and the keys they named."""
        numbers = list(queue.requests)
        cells: dict[Cell, None] = {}
        for number in numbers:
            asked = self._asked.pop(number)
            cells.update(dict.fromkeys(asked.cells))
            self.let_go(asked.cells)
        queue.requests.clear()
        queue.parked = None
        return numbers, list(cells)

    def let_go(self, cells: list[Cell]) -> None:
        """A lease or a request is over."""
        for cell in cells:
            cell.refs -= 1
            self._drop_if_unused(cell)

    def proven(self, connection: Connection) -> None:
        """The destination answered: the governor has dropped the keys of the unproven, and so do we."""
        dropped = [cell for cell in connection.cells if cell.name.endswith(UNPROVEN)]
        if dropped:
            connection.cells = [c for c in connection.cells if not c.name.endswith(UNPROVEN)]
            self.let_go(dropped)

    def wanted(self, name: str, waiting: int, yielding: int) -> Cell | None:
        """How a key stands; the cell, if we have to do with it."""
        cell = self.cells.get(name) or (self._cell(name) if waiting else None)
        if cell is None:
            return None
        cell.waiting, cell.yielding = waiting, yielding
        if waiting:
            for is_greedy in (False, True):
                here = [
                    n for n, asked in self._asked.items() if _waits_at(asked, is_greedy) is cell
                ]
                for number in here[PLACES_AT_A_KEY:]:
                    self._displace(number, cell)
        if yielding:
            self._yielding.add(name)
        else:
            self._yielding.discard(name)
        self.is_wanted = bool(self._yielding)
        self._drop_if_unused(cell)
        return cell

    def next_parked(self, cells: list[Cell]) -> list[Queue]:
        """Queues that may ask now, after something happened at these keys."""
        found: list[Queue] = []
        concerned: list[Cell | None] = [*self._with_blocked(cells), None]
        for kind in (0, 1):
            for cell in concerned:
                found += self._unpark(Turn(cell, kind), 2 * PLACES_AT_A_KEY)
        for cell in concerned:
            if cell is not None:
                self._drop_if_unused(cell)
        return found

    def pass_turn(self, queue: Queue, turn: Turn) -> list[Queue]:
        """It was its turn, and it asked for nothing: who is next in that line, unless it stands there again."""
        if turn.cell is not None and any(queue.parked is line for line in turn.cell.parked):
            return []
        return self._unpark(turn, 1)

    def _with_blocked(self, cells: list[Cell]) -> dict[Cell, None]:
        """These keys, and those in whose lines somebody waits for one of them."""
        found = dict.fromkeys(cells)
        for cell in cells:
            names, cell.blocks = cell.blocks, {}
            found.update((self.cells[name], None) for name in names if name in self.cells)
        return found

    def is_contested(self, demand: Demand) -> bool:
        """Whether others wait for one of these keys, those of the unproven above all.

        A queue waits at the first full key, so that others want the share of the unproven may show at a wider key only.
        """
        for cell in map(self.cells.get, (name for name, _ in demand)):
            if cell is None:
                continue
            if cell.waiting or any(cell.parked):
                return True
            if cell.refs > 1 and cell.name.endswith(UNPROVEN):
                return True
        return False

    def _places(self, cell: Cell, is_greedy: bool) -> int:
        """Places of this kind still free at a full key."""
        taken = sum(1 for a in self._asked.values() if _waits_at(a, is_greedy) is cell)
        return PLACES_AT_A_KEY - taken

    def _richest(self, cell: Cell) -> int | None:
        """The greedy request at this key whose queue has the most connections."""
        here = [number for number, a in self._asked.items() if _waits_at(a, True) is cell]
        return max(here, key=lambda n: _wealth(self._asked[n].queue), default=None)

    def _displace(self, number: int, cell: Cell) -> None:
        """Take a request back and park its queue."""
        asked = self._asked.pop(number)
        asked.queue.requests.discard(number)
        self._displaced.append(number)
        self._park(asked.queue, cell.parked, asked.is_greedy)
        self.let_go(asked.cells)

    def take_displaced(self) -> list[int]:
        """Requests to withdraw, for others go first."""
        displaced, self._displaced = self._displaced, []
        return displaced

    def _park_at(self, full: Cell, queue: Queue, is_greedy: bool) -> None:
        """In the line of the full key; or, if its turn came in another line, back into that one."""
        turn = queue.turn
        if turn is None or turn.cell is None or turn.cell is full:
            self._park(queue, full.parked, is_greedy)
            return
        cell = self._cell(turn.cell.name)
        full.blocks[cell.name] = None
        self._park(queue, cell.parked, is_greedy)

    def _park(
        self, queue: Queue, lines: tuple[deque[Queue], deque[Queue]], is_greedy: bool
    ) -> None:
        line = lines[is_greedy]
        if queue.parked is not line:
            queue.parked = line
            line.append(queue)

    def _unpark(self, turn: Turn, most: int) -> list[Queue]:
        """At most so many queues of this line, as far as there is room for their requests."""
        cell, kind = turn.cell, turn.kind
        line = self._line[kind] if cell is None else cell.parked[kind]
        found: list[Queue] = []
        if not line:
            return found
        if cell is None:
            room = (MAX_GREEDY if kind else MAX_REQUESTS) - len(self._asked)
        else:
            room = min(most, self._places(cell, bool(kind))) if cell.waiting else most
        while line and len(found) < room:
            queue = line.popleft()
            if queue.parked is line:  # else it left the line, or stands in another
                queue.parked = None
                queue.turn = turn
                found.append(queue)
        return found

    def _cell(self, name: str) -> Cell:
        cell = self.cells.get(name)
        if cell is None:
            cell = self.cells[name] = Cell(name)
        return cell

    def _drop_if_unused(self, cell: Cell) -> None:
        if cell.is_unused and self.cells.get(cell.name) is cell:
            del self.cells[cell.name]


def _waits_at(asked: _Asked, is_greedy: bool) -> Cell | None:
    """Where a request of this kind waits: at the first full one of its keys."""
    if asked.is_greedy is not is_greedy:
        return None
    return next((cell for cell in asked.cells if cell.waiting), None)


def _wealth(queue: Queue) -> int:
    return len(queue.connections)
