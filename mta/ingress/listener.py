"""A listening address: what its sessions share, and who is at the other end of a connection behind a proxy.

Where a listener has `proxy_from`, every connection begins with the PROXY header of one of these proxies; nobody else is
served, for whoever could write a header could be anybody.
"""

import socket
import ssl
from collections.abc import Container
from dataclasses import replace

import structlog

from mta.ingress.gate import Client
from mta.ingress.refusals import RefusalLog
from mta.io.preface import read_proxy_header
from mta.metrics.counts import Counts
from mta.model.errors import ProtocolError
from mta.model.reply import a_reply
from mta.policy.admission import Admission
from mta.policy.rules import (
    BareNewline,
    ClientCertificate,
    ListenerRules,
    ListenerTls,
    SelectionRules,
)
from mta.smtp.extensions import ServerOffer
from mta.smtp.proxy import Proxied
from mta.smtp.replies import encode_reply

logger = structlog.get_logger()

# A proxy sends its header with its first packet; that one may be lost and sent again (the PROXY protocol, §2: at least 3 s).
PROXY_TIMEOUT_S = 10.0

MAX_HOLD = 999_999_999  # RFC 4865 §3: nine digits

PROXIES_ONLY = a_reply(554, "5.7.1", "Only the proxies of this server may connect here")


class Listener:
    """One listening address: its rules, its TLS context, and what its sessions share."""

    def __init__(
        self,
        rules: ListenerRules,
        *,
        hostname: str,
        banner: str,
        context: ssl.SSLContext | None,
        vmtas: Container[str],
        selection: SelectionRules = SelectionRules(),
        dsn: bool = False,
    ) -> None:
        """`vmtas`: the names of all virtual MTAs and pools. `dsn`: senders are told of failures."""
        self.rules = rules
        self.admission = Admission(rules, vmtas, selection)
        self.context = context
        self.implicit_tls = rules.tls is ListenerTls.IMPLICIT
        self.offer = ServerOffer(
            hostname=hostname,
            banner=banner,
            max_size=rules.max_size,
            tls_available=context is not None and not self.implicit_tls,
            tls_required=rules.tls_client is ClientCertificate.REQUIRED,
            auth_available=bool(rules.users),
            max_recipients=rules.max_recipients,
            max_hold=min(int(rules.max_hold), MAX_HOLD),
            dsn=dsn,
            normalize=rules.bare_newline is BareNewline.NORMALIZE,
        )

    def greet_with(self, banner: str) -> None:
        """Say this behind the host's name from the next client on."""
        self.offer = replace(self.offer, banner=banner)

    def tell_of_handshake(self, error: Exception, address: str = "") -> None:
        """Log why a handshake failed where certificates of clients matter; elsewhere it is everyday noise."""
        if self.rules.tls_client_ca and isinstance(error, ssl.SSLError):
            reason = error.reason or str(error)
            logger.info("a client's TLS handshake failed", peer=address, reason=reason)


async def read_preface(
    sock: socket.socket, listener: Listener, counts: Counts, refusals: RefusalLog
) -> Proxied | None:
    """Who is behind the proxy at the other end; None: it is no proxy of ours, or says nothing that can be believed.

    Raises OSError when it is gone.
    """
    address = sock.getpeername()[0]
    admission = listener.admission
    if not admission.is_proxy(address):
        counts.connections_in_refused += 1
        refusals.note(Client(admission, admission.peer(address)), "PROXY", PROXIES_ONLY)
        if not listener.implicit_tls:
            sock.send(encode_reply(PROXIES_ONLY))
        return None
    try:
        return await read_proxy_header(sock, PROXY_TIMEOUT_S)
    except (ProtocolError, TimeoutError) as error:
        counts.protocol_errors_in += 1
        reason = str(error) or "no PROXY header came in time"
        logger.warning("a connection of a proxy was closed", peer=address, reason=reason)
        return None
