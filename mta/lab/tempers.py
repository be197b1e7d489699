"""How a receiving server behaves: the moments of a dialogue and what a script does at them. Values only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Moment(StrEnum):
    """When the server has something to say."""

    GREETING = "greeting"
    EHLO = "ehlo"
    STARTTLS = "starttls"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    DOT = "dot"
    RSET = "rset"
    QUIT = "quit"


@dataclass(frozen=True, slots=True)
class Temper:
    """A receiving server's script; the default is polite.

    At a moment, the first of `stall`, `deaf`, `drop`, `garbage`, `endless`, `long_line`, `refuse` that names it applies.
    """

    listens: bool = True  # False: the port is closed
    stall: Moment | None = None  # says nothing more, reads on
    deaf: Moment | None = None  # answers, and reads nothing from then on: half of a connection
    drop: Moment | None = None  # closes instead of answering; at DOT the message has been taken
    drop_every: int = 1  # only at every n-th such moment of this server
    garbage: Moment | None = None  # a line that is no reply
    endless: Moment | None = None  # a multi-line reply without end
    long_line: Moment | None = None  # a reply of a megabyte in one line
    reset_after: int | None = None  # bytes of ours, then a reset
    refuse: Mapping[Moment, str] = field(default_factory=dict)  # "554 5.7.1 no": a 421 closes, too
    refuse_times: int | None = None  # the first n only; None: always
    greylist_s: float | None = (
        None  # a (sender, recipient) gets 451 until this long after its first try
    )
    messages_per_connection: int | None = None  # then 421
    # The beginning of a local part → what such a recipient is answered: "550 5.1.1 user unknown".
    refuse_recipients: Mapping[str, str] = field(default_factory=dict)
    max_recipients: int | None = None  # a transaction; beyond it: `too_many`
    too_many: str = "452 4.5.3 too many recipients"  # RFC 5321 §4.5.3.1.10; old hosts say 552
    delay_s: float = 0.0  # before every reply
    drip_s: float = 0.0  # between the bytes of a reply
    offers_tls: bool = False
    requires_tls: bool = False  # 530 5.7.0 until STARTTLS
    tls_hangs: bool = False  # 220 to STARTTLS, and then no handshake
    tls_injects: bool = False  # a reply in the clear behind that 220, to be believed inside TLS
    pipelining: bool = True
    eight_bit: bool = True
    esmtp: bool = True  # False: EHLO gets 500
    max_size: int = 52_428_800


POLITE = Temper(offers_tls=True)
