"""What the supervisor and its processes say to each other over their links; each a line on the wire, decoded by its tag.

Governor calls name a request by the worker's own number: a lease has the number of the request it was granted for. Times are
`Clock.now()`, the same in all processes of a server (`Start.clock_offset`).
"""

from typing import Any

import msgspec

from mta.model.units import Rate
from mta.runtime.license import LAB, Entitlement

# Spelt out: msgspec reads types at run time, and a NamedTuple is an array to it.
Keys = tuple[tuple[str, int], ...]
Rates = tuple[tuple[str, Rate], ...]


class _Message(msgspec.Struct, tag=True, array_like=True, gc=False):
    """Each kind is an array with its name first."""


# -- both ways: a question and its answer


class Call(_Message):
    """Do this and answer under the same number."""

    number: int
    method: str
    arguments: dict[str, Any] = {}


class Answer(_Message):
    """What came of a call."""

    number: int
    result: Any = None


class Fault(_Message):
    """A call failed; `kind` is the exception's name."""

    number: int
    kind: str
    text: str


# -- supervisor → process


class Start(_Message):
    """The first message: what the process needs to build itself. `settings` is pickled `Settings`."""

    settings: bytes
    spools: tuple[int, ...]  # of a worker: its own first, then those it adopted
    clock_offset: float
    owns_core: bool = False  # there are as many workers as cores
    entitlement: Entitlement = LAB
    is_counted: bool = False  # deliveries are told to the licence


class Granted(_Message):
    """The lease is yours."""

    request: int


class GrantedTokens(_Message):
    """So many attempts may start until this time."""

    ask: int
    count: int
    until: float


class QuotaAnswer(_Message):
    """Counted, or refused."""

    ask: int
    is_granted: bool


class Entitled(_Message):
    """The licence allows this from now on."""

    entitlement: Entitlement


class GivenEmails(_Message):
    """So many Emails are the worker's, of those it asked for; perhaps none."""

    ask: int
    count: int


class Wanted(_Message):
    """How a full key stands (`mta.queue.limits.Wanted`)."""

    key: str
    waiting: int
    yielding: int


# -- worker → supervisor, and on to all other workers


class Told(_Message):
    """How a destination stands (`mta.queue.actions.Tell`)."""

    site: str
    vmta: str
    until: float
    attempts: int
    reason: str


# -- worker → supervisor


class Started(_Message):
    """The process serves; its spools are open. `spools`: (number, UUID)."""

    spools: tuple[tuple[int, str], ...] = ()
    last_events: dict[str, int] = {}  # by UUID: the last that an earlier life has committed


class Beat(_Message):
    """Once a second, from the loop: the spool threads answered so many seconds ago, and what is open."""

    spool_age_s: float
    clients: int  # SMTP connections in
    adopted: int  # connections that came through the door, ever


class Request(_Message):
    """`Governor.request`."""

    number: int
    destination: str
    demand: Keys
    rates: Rates = ()


class Withdraw(_Message):
    """`Governor.withdraw`."""

    number: int


class Connected(_Message):
    """`Governor.connected`."""

    lease: int


class Release(_Message):
    """`Governor.release`."""

    lease: int
    connected: bool


class AskTokens(_Message):
    """`Governor.tokens`."""

    number: int
    rates: Rates
    count: int


class ReturnTokens(_Message):
    """`Governor.return_tokens`."""

    rates: Rates
    count: int
    until: float


class AskQuotas(_Message):
    """`Governor.quotas`."""

    number: int
    wanted: Rates


class AskEmails(_Message):
    """`EmailSource.ask`."""

    number: int
    count: int


class ReturnEmails(_Message):
    """`EmailSource.give_back`."""

    count: int


FromSupervisor = (
    Call
    | Answer
    | Fault
    | Start
    | Granted
    | GrantedTokens
    | GivenEmails
    | Entitled
    | QuotaAnswer
    | Wanted
    | Told
)
FromProcess = (
    Call
    | Answer
    | Fault
    | Started
    | Beat
    | Request
    | Withdraw
    | Connected
    | Release
    | AskTokens
    | ReturnTokens
    | AskQuotas
    | AskEmails
    | ReturnEmails
    | Told
)

of_supervisor: "msgspec.msgpack.Decoder[Any]" = msgspec.msgpack.Decoder(FromSupervisor)
of_process: "msgspec.msgpack.Decoder[Any]" = msgspec.msgpack.Decoder(FromProcess)
