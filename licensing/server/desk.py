"""What every clerk has at hand: the book of licences, the signer, the trust, the audit log. No state of its own."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from licensing.server.book import Book
from licensing.server.chain import GENESIS, link
from licensing.server.rows import AuditRow
from licensing.server.signer import Signer
from licensing.server.store import Store
from licensing.trust import Trust


def fresh_token() -> str:
    """The token of an answer: nobody can guess it, so whoever shows it has read that answer."""
    return "t_" + secrets.token_urlsafe(16)


@dataclass(frozen=True, slots=True)
class Desk:
    """`token` makes the token of an answer; `latest_version` is told to nodes (C21)."""

    book: Book
    signer: Signer
    trust: Trust
    latest_version: str = ""
    token: Callable[[], str] = fresh_token


def note(store: Store, at: float, actor: str, what: str, **details: str | int) -> None:
    """Append to the audit log. `actor`: a name from a certificate, or `server`."""
    last = store.last_audit()
    number, prev = (last.number + 1, last.hash) if last else (1, GENESIS)
    record = msgspec.json.encode({"at": int(at), "actor": actor, "what": what, **details})
    store.put_audit(AuditRow(number, record, prev, link(prev, record)))
