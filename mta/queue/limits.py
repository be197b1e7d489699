"""Connection limits as leases: who may hold how many of which key, and who comes next. Pure.

A request names several keys and gets all of them or none. Keys are strings, each with a limit; what they mean (site, virtual
MTA, server, the unproven together) is not known here.

Order. At each key the destinations that wait stand in a ring: the first whose oldest request can be granted is served and goes
to the end. So a destination with one message is served after at most one lease for each other destination, not after their
backlog. A request that waits for a narrow key holds nothing of a wide one meanwhile, and others pass it there.

The law. A request that could be granted is passed over on no key more often than that key has waiters. One that needs two keys
which are never free at the same moment could starve; so once it was passed over that often on *every* key it is short of, one
place of each other key is kept for it. Two versions failed: one kept a place as soon as the request was impatient on that key
alone, and a stuck destination left the whole server's places idle (a key that nobody gets is no reason to keep another); one
kept all free places instead of the one it needs, and took the turn of a request of the same destination for being passed over.

`wanted`. When a key is full and a request waits for it, holders are asked to make room; but not for a destination that already
has its share (nobody holds two more), or connections would change hands for ever and for nothing.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from mta.policy.rules import Demand

UNPROVEN = "|unproven"
MAX_IMPATIENT_LOOKED_AT = 64  # at one key; a look must not grow with a flood of waiters


class Wanted(NamedTuple):
    """How a full key stands: how many wait for it (0: no more), and for how many of them holders should make room."""

    key: str
    waiting: int
    yielding: int


class _Cell:
    """One key: who holds it, who waits for it."""

    __slots__ = (
        "granted",
        "holders",
        "limit",
        "lines",
        "name",
        "said",
        "sizes",
        "top",
        "used",
        "waiters",
    )

    def __init__(self, name: str, limit: int) -> None:
        self.name = name
        self.limit = limit
        self.used = 0
        self.granted = (
            0  # ever; the difference since a request arrived bounds how often it was passed over
        )
        self.holders: dict[str, int] = {}
        self.sizes: dict[int, int] = {}  # leases held → number of destinations that hold so many
        self.top = 0  # the most leases one destination holds
        self.lines: dict[str, dict[int, Request]] = {}  # the ring: destination → its requests
        self.waiters = 0  # requests in all lines
        self.said = (0, 0)

    def hold(self, destination: str, change: int) -> None:
        before = self.holders.get(destination, 0)
        after = before + change
        self.used += change
        sizes = self.sizes
        if before:
            sizes[before] -= 1
            if not sizes[before]:
                del sizes[before]
        if after:
            self.holders[destination] = after
            sizes[after] = sizes.get(after, 0) + 1
        else:
            del self.holders[destination]
        self.top = max(self.top, after)
        while self.top and self.top not in sizes:
            self.top -= 1


class Request:
    """A wish for one lease; once granted, the lease."""

    __slots__ = ("cells", "destination", "may_start", "number", "since")

    def __init__(
        self, number: int, destination: str, cells: list[_Cell], may_start: Callable[[], bool]
    ) -> None:
        self.number = number
        self.destination = destination
        self.cells = cells
        self.may_start = (
            may_start  # asked last, when every key is free; True takes what it stands for
        )
        self.since = [cell.granted for cell in cells]


def _always() -> bool:
    return True


class Limits:
    """All keys, leases and waiting requests; a key nobody holds or waits for is forgotten."""

    def __init__(self) -> None:
        self._cells: dict[str, _Cell] = {}
        self._fixed: Mapping[str, int] = {}
        self._waiting: dict[int, Request] = {}
        self._leases: dict[int, Request] = {}
        self._granted: list[int] = []
        self._touched: dict[_Cell, None] = {}
        self._keepers: dict[int, Request] = {}  # for whom a place was found kept

    def __len__(self) -> int:
        return len(self._cells)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def used(self, key: str) -> int:
        """How many leases hold this key now."""
        cell = self._cells.get(key)
        return cell.used if cell else 0

    def waiters(self, key: str) -> int:
        """How many requests that name this key wait (for it or for another of theirs)."""
        cell = self._cells.get(key)
        return cell.waiters if cell else 0

    def set_limits(self, limits: Mapping[str, int]) -> None:
        """Swap what is fixed for some keys over what requests say of them. Nobody is thrown out."""
        self._fixed = dict(limits)
        for name, limit in limits.items():
            cell = self._cells.get(name)
            if cell is not None:
                self._change_limit(cell, limit)

    def request(
        self,
        number: int,
        destination: str,
        demand: Demand,
        *,
        may_start: Callable[[], bool] = _always,
        may_wait: bool = True,
    ) -> bool:
        """Wish for a lease under this number; `take_granted` tells when it comes.

        `may_wait=False`: now or never. Returns whether it was granted at once.
        """
        # What is narrowest is waited for first, and nothing is narrower than the share of the unproven.
        names = sorted(demand, key=lambda pair: not pair[0].endswith(UNPROVEN))
        cells = [self._cell(name, limit) for name, limit in names]
        request = Request(number, destination, cells, may_start)
        self._touched.update(dict.fromkeys(cells))
        if self._may_have(request) and may_start():
            self._grant(request)
            return True
        if may_wait:
            self._waiting[number] = request
            for cell in cells:
                cell.lines.setdefault(destination, {})[number] = request
                cell.waiters += 1
        return False

    def withdraw(self, number: int) -> bool:
        """Nobody wants this request any more; False if it does not wait (it was granted, or never was)."""
        request = self._waiting.get(number)
        if request is None:
            return False
        self._leave_lines(request)
        self._serve(request.cells)  # what was kept for it is free again
        return True

    def release(self, number: int) -> None:
        """The lease is over. One that is unknown is none (it was released already)."""
        lease = self._leases.pop(number, None)
        if lease is not None:
            self._let_go(lease, lease.cells)

    def connected(self, number: int) -> None:
        """The destination answered: the lease holds the share of the unproven no longer."""
        lease = self._leases.get(number)
        if lease is not None:
            dropped = [cell for cell in lease.cells if cell.name.endswith(UNPROVEN)]
            lease.cells = [cell for cell in lease.cells if not cell.name.endswith(UNPROVEN)]
            self._let_go(lease, dropped)

    def serve(self, number: int) -> None:
        """Something outside that kept this request from starting has changed."""
        request = self._waiting.get(number)
        if request is not None and self._may_have(request) and self._try(request):
            self._serve(request.cells)

    def take_granted(self) -> list[int]:
        """The numbers granted since the last call, in order."""
        self._free_the_kept()
        granted, self._granted = self._granted, []
        return granted

    def take_wanted(self) -> list[Wanted]:
        """Keys whose standing changed since the last call. Forgets the keys nobody uses."""
        changed: list[Wanted] = []
        touched, self._touched = self._touched, {}
        for cell in list(touched):
            for line in cell.lines.values():
                for request in line.values():
                    touched.update(dict.fromkeys(request.cells))
        for cell in touched:
            says = self._standing(cell)
            if says != cell.said:
                cell.said = says
                changed.append(Wanted(cell.name, *says))
            if not cell.used and not cell.lines:
                self._cells.pop(cell.name, None)
        return changed

    # Who comes next

    def _may_have(self, request: Request) -> bool:
        return self._is_free(request) and not self._is_kept(request)

    def _is_free(self, request: Request) -> bool:
        return all(
            cell.used < cell.limit and self._is_its_turn(cell, request) for cell in request.cells
        )

    @staticmethod
    def _is_its_turn(cell: _Cell, request: Request) -> bool:
        """Whether no older request of the same destination waits for this key."""
        line = cell.lines.get(request.destination)
        return not line or request.number <= next(iter(line))

    def _is_kept(self, request: Request) -> bool:
        """Whether what is free of one of its keys is kept for those whose patience is over."""
        return any(
            self._kept(cell, request) >= cell.limit - cell.used
            for cell in request.cells
            if cell.lines
        )

    def _kept(self, cell: _Cell, other: Request) -> int:
        """Places of a key that are kept from this request."""
        kept = 0
        for request in self._impatient(cell):
            if request is other:
                break  # those behind it keep nothing from it
            if self._keeps(request):
                self._keepers[request.number] = request
                kept += 1
        return kept

    def _keeps(self, request: Request) -> bool:
        short = [at for at, cell in enumerate(request.cells) if cell.used >= cell.limit]
        return bool(short) and all(
            self._is_overdue(request, at) and self._is_its_turn(request.cells[at], request)
            for at in short
        )

    def _free_the_kept(self) -> None:
        """Serve whoever was kept off by a request that keeps nothing any more.

        More waiters mean more patience, and a further key may have become full: nobody's place changed hands, so nobody
        else would look.
        """
        while over := [
            number
            for number, request in self._keepers.items()
            if number not in self._waiting or not self._keeps(request)
        ]:
            for number in over:
                self._serve(self._keepers.pop(number).cells)

    def _impatient(self, cell: _Cell) -> Iterable[Request]:
        """Those passed over on this key as often as it has waiters, longest waiting first."""
        if cell.granted < cell.waiters:
            return []
        heads = [next(iter(line.values())) for line in cell.lines.values()]
        heads.sort(key=lambda request: request.number)
        return [
            request
            for request in heads[:MAX_IMPATIENT_LOOKED_AT]
            if self._is_overdue(request, request.cells.index(cell))
        ]

    def _is_overdue(self, request: Request, at: int) -> bool:
        cell = request.cells[at]
        return cell.granted - request.since[at] >= cell.waiters

    def _serve(self, cells: Iterable[_Cell]) -> None:
        """Grant what became possible at these keys.

        Whoever waits was short of one of them, or one was kept for somebody else: nobody else need be asked.
        """
        todo = list(dict.fromkeys(cells))
        while todo := [cell for cell in todo if cell.lines and cell.used < cell.limit]:
            # At all the keys at once: whose turn it is at one must not pass over somebody impatient at another.
            chosen = self._first(todo, self._impatient) or self._first(todo, self._in_turn)
            if chosen is None:
                return
            todo += [cell for cell in chosen.cells if cell not in todo]  # no longer kept for it

    def _first(
        self, cells: list[_Cell], line_up: Callable[[_Cell], Iterable[Request]]
    ) -> Request | None:
        for cell in cells:
            for request in line_up(cell):
                if self._is_free(request) and self._try(request):
                    return request
        return None

    def _in_turn(self, cell: _Cell) -> Iterable[Request]:
        """The oldest of each destination, as the ring stands, but for those from whom a place is kept."""
        for line in list(cell.lines.values()):
            request = next(iter(line.values()))
            if not self._is_kept(request):
                yield request

    def _try(self, request: Request) -> bool:
        if not request.may_start():
            return False
        self._leave_lines(request)
        self._grant(request)
        for cell in request.cells:
            line = cell.lines.pop(request.destination, None)
            if line is not None:
                cell.lines[request.destination] = line  # to the end of the ring
        return True

    def _grant(self, request: Request) -> None:
        self._leases[request.number] = request
        self._granted.append(request.number)
        for cell in request.cells:
            cell.hold(request.destination, 1)
            cell.granted += 1
            self._touched[cell] = None
            for other in cell.lines.get(request.destination, {}).values():
                if other.number > request.number:
                    other.since[other.cells.index(cell)] += 1  # its elder's turn: not passed over

    def _leave_lines(self, request: Request) -> None:
        del self._waiting[request.number]
        for cell in request.cells:
            line = cell.lines[request.destination]
            del line[request.number]
            if not line:
                del cell.lines[request.destination]
            cell.waiters -= 1
            self._touched[cell] = None

    # Keys

    def _let_go(self, lease: Request, cells: list[_Cell]) -> None:
        for cell in cells:
            cell.hold(lease.destination, -1)
            self._touched[cell] = None
        self._serve(cells)

    def _cell(self, name: str, limit: int) -> _Cell:
        limit = self._fixed.get(name, limit)
        cell = self._cells.get(name)
        if cell is None:
            cell = self._cells[name] = _Cell(name, limit)
        elif cell.limit != limit:
            self._change_limit(cell, limit)  # the newest request knows the newest book
        return cell

    def _change_limit(self, cell: _Cell, limit: int) -> None:
        grows, cell.limit = limit > cell.limit, limit
        self._touched[cell] = None
        if grows:
            self._serve([cell])

    def _standing(self, cell: _Cell) -> tuple[int, int]:
        """(how many wait at this key, for how many of them holders should make room)."""
        if cell.used < cell.limit:
            return 0, 0
        waiting = yielding = 0
        for destination, line in cell.lines.items():
            here = sum(1 for request in line.values() if self._waits_at(request) is cell)
            waiting += here
            held = cell.holders.get(destination, 0)
            # How many more it would take for this destination to have what the others have.
            if here and (held == 0 or held + 2 <= cell.top):
                yielding += min(here, max(1, (cell.top - held) // 2))
        # A limit that was lowered under what is held: those beyond it go, wanted by others or not.
        return waiting, max(yielding, cell.used - cell.limit)

    @staticmethod
    def _waits_at(request: Request) -> _Cell | None:
        """A request waits at the first of its keys that is full: to free a wider one would not help it."""
        return next((cell for cell in request.cells if cell.used >= cell.limit), None)
