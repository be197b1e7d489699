"""A self-signed certificate for the lab's servers, made at start and never kept: RFC 5280 by `cryptography`."""

import datetime
import ssl
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LIFETIME = datetime.timedelta(days=7)


def make_certificate(*names: str) -> tuple[bytes, bytes]:
    """(certificate, private key) in PEM for these host names; ECDSA P-256, because RSA takes 100 ms to make."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - LIFETIME)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM), key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def make_server_context(*names: str) -> ssl.SSLContext:
    """A server's TLS context with a fresh self-signed certificate."""
    certificate, key = make_certificate(*names)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "lab.pem"  # the ssl module reads certificates from files only
        path.touch(0o600)
        path.write_bytes(certificate + key)
        context.load_cert_chain(path)
    return context
