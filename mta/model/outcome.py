"""What an attempt did: delivered, deferred or failed, and how far the refusal reaches.

Failure comes in four sizes (recipient, message, connection, site); `mta.policy.reaction` decides from the size what happens
to the entry and to its queue.
"""

from dataclasses import dataclass
from enum import Enum

from mta.model.reply import Reply


class Extent(Enum):
    """How much a refusal speaks about."""

    RECIPIENT = "recipient"
    MESSAGE = "message"
    CONNECTION = "connection"
    SITE = "site"


@dataclass(frozen=True, slots=True)
class Delivered:
    """The next hop took responsibility for the recipient."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Deferred:
    """Not now. `local`: we say so ourselves (DNS, connect, TLS, time-out, lost connection), not the remote host.

    `may_repeat`: the message may have been taken although we did not hear so (lost after the final dot).
    """

    reply: Reply
    extent: Extent = Extent.RECIPIENT
    local: bool = False
    may_repeat: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """Never. `local` as above (null MX, NXDOMAIN, 8-bit content to a 7-bit host, expired)."""

    reply: Reply
    extent: Extent = Extent.RECIPIENT
    local: bool = False


Outcome = Delivered | Deferred | Failed
