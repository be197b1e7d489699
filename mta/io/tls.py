"""TLS contexts: one for each listener, one for opportunistic and one for verified delivery.

TLS 1.2 at least (RFC 8996). No session tickets cross virtual MTAs: contexts are made once a process and tickets for the
client role are never kept.
"""

import ssl
from functools import lru_cache


def server_context(
    cert_file: str, key_file: str, *, client_ca: str = "", client_required: bool = False
) -> ssl.SSLContext:
    """What a listener shows its clients, and the authorities whose certificates it takes from them ("": it asks for none).

    Raises OSError or ssl.SSLError when a file does not load.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert_file, key_file)
    if client_ca:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED if client_required else ssl.CERT_OPTIONAL
    return context


@lru_cache(maxsize=100)  # configurations have a few
def verifying_context(ca_pem: str) -> ssl.SSLContext:
    """For a host that must prove its name; `ca_pem`: certificates to believe besides the system's. Raises ssl.SSLError."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_pem:
        context.load_verify_locations(cadata=ca_pem)
    return context


def certificate_names(certificate: object) -> list[str]:
    """The DNS names of a verified certificate in lower case, as `getpeercert` tells them; [] for none.

    Only the subjectAltName counts (RFC 6125 §6.4.4): a common name is a text.
    """
    if not isinstance(certificate, dict):
        return []
    return [value.lower() for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"]


def client_context() -> ssl.SSLContext:
    """For `opportunistic` and `require`: encrypted, the certificate not verified (RFC 7435: some beats none).

    Verified delivery is asked for by MTA-STS and DANE, which name whom to trust.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
