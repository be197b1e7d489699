"""Mail with UTF-8 in its addresses or header: how it is said to a host, or why it cannot be (RFC 6531).

A host that offers SMTPUTF8 gets it as it is. To any other go only addresses whose local part is ASCII, with their domains as
A-labels; the header is signed and never changed, so one with UTF-8 in it goes nowhere else. Mail that is ASCII never comes here.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

from mta.egress.transaction import Transaction
from mta.mime.headers import header_length
from mta.model.address import parse_address
from mta.model.envelope import Entry, SpillFile
from mta.model.errors import AddressError
from mta.model.outcome import Extent, Failed
from mta.model.reply import a_reply

MAX_HEADER = 262_144  # the intake takes no larger one


@dataclass(frozen=True, slots=True)
class Spoken:
    """What is said of one transaction instead of what stands in its envelope."""

    sender: str
    utf8: bool  # MAIL … SMTPUTF8
    recipients: dict[Entry, str] = field(default_factory=dict)


def decide_spoken(transaction: Transaction, offered: Collection[str]) -> Spoken | Failed:
    """How the host hears of this transaction; recipients it cannot be told of are refused in it. Failed: it cannot be said."""
    sender = transaction.entries[0].message.sender
    addresses = [entry.address for entry in transaction.entries]
    if "SMTPUTF8" in offered:
        # RFC 6531 §3.4: said where it is needed, and only there.
        is_needed = not (
            sender.isascii() and all(map(str.isascii, addresses)) and _has_plain_header(transaction)
        )
        return Spoken(sender, is_needed)
    if not _has_plain_header(transaction):
        reply = a_reply(550, "5.6.9", "the header is UTF-8 and the host does not offer SMTPUTF8")
        return Failed(reply, Extent.MESSAGE, local=True)
    plain_sender = _downgrade(sender)
    if plain_sender is None:
        reply = a_reply(553, "5.6.7", f"the host does not offer SMTPUTF8 for the sender {sender}")
        return Failed(reply, Extent.MESSAGE, local=True)
    spoken = Spoken(plain_sender, False)
    for entry in transaction.entries:
        plain = _downgrade(entry.address)
        if plain is None:
            reply = a_reply(553, "5.6.7", "the address is UTF-8 and the host offers no SMTPUTF8")
            transaction.refuse(entry, Failed(reply, Extent.RECIPIENT, local=True))
        else:
            spoken.recipients[entry] = plain
    return spoken


def _downgrade(address: str) -> str | None:
    """The address in ASCII, None where there is no such thing (RFC 6531 §3.2: a local part is its host's own)."""
    if address.isascii():
        return address
    try:
        plain = str(parse_address(address, utf8=True))
    except AddressError:
        return None
    return plain if plain.isascii() else None


def _has_plain_header(transaction: Transaction) -> bool:
    body = transaction.body
    if isinstance(body, SpillFile):
        try:
            with open(body.path, "rb") as file:
                body = file.read(MAX_HEADER)
        except OSError:
            return True  # who sends the body finds the same, and defers
    return transaction.prefix.isascii() and body[: header_length(body)].isascii()
