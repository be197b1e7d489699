"""What EHLO offers: ours as the server says it, theirs as the client reads it.

The offer depends on the moment: STARTTLS only in the clear, AUTH only inside TLS and only before it
has succeeded. DSN is said where notices are sent (RFC 3461 §4: who offers it must); its parameters
are taken and passed on in any case.

RFC 5321 §4.1.1.1, RFC 1870 (SIZE), RFC 2920 (PIPELINING), RFC 6152 (8BITMIME), RFC 6531 (SMTPUTF8), RFC 3030
(CHUNKING; BINARYMIME is not offered), RFC 2034 (ENHANCEDSTATUSCODES), RFC 3207, RFC 3461 (DSN),
RFC 4865 (FUTURERELEASE), RFC 4954.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from mta.model.reply import Reply


@dataclass(frozen=True, slots=True)
class ServerOffer:
    """What one listener offers; sizes in bytes."""

    hostname: str
    max_size: int = 104_857_600
    tls_available: bool = False
    tls_required: bool = False  # before MAIL
    auth_available: bool = False  # said inside TLS only
    max_recipients: int = 50_000  # a transaction; RFC 5321 §4.5.3.1.8: at least 100
    max_junk: int = 100  # errors and idle commands until a message is accepted, then 421
    banner: str = "ESMTP Sluice"
    max_hold: int = 0  # seconds ahead that a time of delivery may lie; 0: none is taken
    dsn: bool = False  # senders are told of failures
    normalize: bool = False  # a bare CR or LF becomes CRLF instead of a fault


def format_greeting(offer: ServerOffer) -> Reply:
    """The 220 (RFC 5321 §4.3.1)."""
    return Reply(220, "", (f"{offer.hostname} {offer.banner}",))


def format_hello(
    offer: ServerOffer, *, esmtp: bool, in_tls: bool, is_authenticated: bool, wall: float
) -> Reply:
    """The answer to EHLO, or to HELO, which offers nothing. `wall`: seconds since the epoch.

    RFC 2034 §4: no enhanced status here.
    """
    if not esmtp:
        return Reply(250, "", (offer.hostname,))
    lines = [
        offer.hostname,
        "PIPELINING",
        f"SIZE {offer.max_size}",
        "8BITMIME",
        "CHUNKING",
        "SMTPUTF8",
        "ENHANCEDSTATUSCODES",
    ]
    if offer.max_hold:
        until = datetime.fromtimestamp(int(wall) + offer.max_hold, UTC)
        lines.append(f"FUTURERELEASE {offer.max_hold} {until:%Y-%m-%dT%H:%M:%SZ}")
    if offer.dsn:
        lines.append("DSN")
    if offer.tls_available and not in_tls:
        lines.append("STARTTLS")
    if offer.auth_available and in_tls and not is_authenticated:
        lines.append("AUTH PLAIN LOGIN")
    return Reply(250, "", tuple(lines))


def parse_extensions(reply: Reply) -> dict[str, str]:
    """Keyword in upper case → its parameters, of a positive EHLO reply.

    Its first line is the host's name.
    """
    offered: dict[str, str] = {}
    for line in reply.lines[1:]:
        # Old hosts write AUTH=PLAIN; the first of two lines is the right one.
        keyword, _, rest = line.strip().replace("=", " ", 1).partition(" ")
        if keyword:
            offered.setdefault(keyword.upper(), rest.strip())
    return offered
