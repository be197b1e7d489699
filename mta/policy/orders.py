"""What an operator orders while the server runs: pauses, drains and limits of domains, sites, jobs and queues, for a time.

An order of a domain, site or queue is one more place in the book of policies, above all those of the configuration: so whatever
explains a value explains an order, with its end. Jobs cross all queues: the spools hold them.
"""

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mta.model.address import normalise_domain
from mta.model.envelope import parse_queue_key
from mta.model.units import parse_rate
from mta.policy.book import Book, Layer, Path
from mta.policy.rules import Place

PAUSE = "pause"
DRAIN = "drain"
LIMITS = ("max_connections", "connection_rate", "message_rate")
SCOPES = ("domain", "site", "job", "queue")
MAX_ORDERS = 10_000
MAX_TEXT = 200  # characters of a name or a reason
BY_OPERATOR = "paused by the operator"


@dataclass(frozen=True, slots=True)
class Order:
    """One order. `value`: a pause's reason, or a limit as an operator writes it; `until`: None for no end.

    `by`: the user who gave it, "" if that is not known, and `given_at` when.
    """

    scope: str
    name: str
    setting: str
    value: str = ""
    until: float | None = None
    by: str = ""
    given_at: float = 0.0

    @property
    def subject(self) -> tuple[str, str, str]:
        """There is one order for each."""
        return self.scope, self.name, self.setting

    def __str__(self) -> str:
        end = "" if self.until is None else f", until {_shown(self.until)}"
        return f"order of {self.by or 'the operator'} for {self.scope} {self.name}{end}"


def make_order(scope: str, name: str, setting: str, value: str, until: float | None) -> Order:
    """An order that can be carried out. Raises ValueError with what is wrong."""
    if scope not in SCOPES or setting not in (PAUSE, DRAIN, *LIMITS):
        raise ValueError(f"there is no {setting} of a {scope}")
    if scope == "job" and setting in LIMITS:
        raise ValueError(
            "a job can be paused and drained; limits are for domains, sites and queues"
        )
    for text in (name, value):
        if len(text) > MAX_TEXT or not text.isprintable():
            raise ValueError(f"at most {MAX_TEXT} printable characters, please")
    name = _name(scope, name)
    if setting in (PAUSE, DRAIN):
        return Order(scope, name, setting, value.strip(), until)
    _limit(setting, value)
    return Order(scope, name, setting, value.strip(), until)


def ending_of(order: Order) -> str:
    """The command that ends this order."""
    group = order.scope if order.scope == "queue" else f"{order.scope}s"
    verb = "unlimit" if order.setting in LIMITS else "resume"
    if order.scope == "queue" and order.setting == DRAIN:
        verb = "undrain"  # `queue resume` ends the pause of its row
    return f"sluice {group} {verb} {shlex.quote(order.name)}"


def stops_of(orders: Iterable[Order]) -> set[tuple[str, str, str]]:
    """The subjects of these that stop queues."""
    return {each.subject for each in orders if each.setting == PAUSE and each.scope != "job"}


def ordered_book(book: Book, orders: Iterable[Order]) -> Book:
    """The book with these orders above everything else."""
    layers: dict[Path, Layer] = {}
    values: dict[Path, dict[str, Any]] = {}
    places: dict[Path, list[Order]] = {}
    for order in orders:
        if order.scope == "job" or order.setting == DRAIN:
            continue  # jobs are the spools', drains the door's
        path = _path(order, book)
        what = "stopped" if order.setting == PAUSE else order.setting
        value = order.value or BY_OPERATOR if order.setting == PAUSE else _limit(what, order.value)
        values.setdefault(path, {})[what] = value
        places.setdefault(path, []).append(order)
    for path, found in places.items():
        # Orders of one subject may end at different times: each value has a place of its own.
        own = {
            "stopped" if each.setting == PAUSE else each.setting: Place("", str(each))
            for each in found
        }
        layers[path] = Layer(Place("", str(found[0])), values[path], own)
    return book.with_orders(layers)


def _path(order: Order, book: Book) -> Path:
    if order.scope == "queue":
        domain, vmta = parse_queue_key(order.name)
        return ("order", "vmta", vmta, "domain", domain)
    if order.scope == "site" and order.name in book.sites:
        return ("order", "site", order.name)
    return ("order", "domain", order.name)  # a site without a name is its domain


def _name(scope: str, name: str) -> str:
    name = name.strip()
    if not name:
        raise ValueError(f"which {scope}?")
    if scope == "queue":
        return str(parse_queue_key(name))
    if scope == "domain":
        return normalise_domain(name)
    return name.lower() if scope == "site" else name


def _limit(setting: str, text: str) -> Any:
    if setting != "max_connections":
        return parse_rate(text)
    if not text.strip().isdecimal() or not 0 < int(text) <= 100_000:
        raise ValueError(f"max_connections is a number from 1 to 100000, not {text!r}")
    return int(text)


def _shown(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"
