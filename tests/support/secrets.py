"""Certificates, users and DKIM keys as files, for servers that tests configure."""

import datetime
import os
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mta.dkim.keys import dns_record, generate, load_key
from mta.lab.certificate import LIFETIME, make_certificate
from mta.policy.passwords import hash_password
from tests.support.wire import trusting


def write_certificate(place: Path, name: str = "mta.test.example") -> tuple[Path, Path]:
    """`cert.pem` and `key.pem` in `place`; their paths."""
    certificate, key = make_certificate(name)
    paths = place / "cert.pem", place / "key.pem"
    for path, content in zip(paths, (certificate, key), strict=True):
        path.touch(0o600)
        path.write_bytes(content)
    return paths


class Authority:
    """A certificate authority of the test's own: `ca.pem` in `place`, and certificates for clients."""

    def __init__(self, place: Path, name: str = "ca") -> None:
        self.place = place
        self.path = place / f"{name}.pem"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._builder(self._name, self._key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        self.path.write_bytes(self._signed(certificate))

    def client(self, *names: str) -> ssl.SSLContext:
        """The context of a client with a certificate for these DNS names; it believes every server."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        certificate = self._builder(subject, key.public_key()).add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False
        )
        path = self.place / f"client-{names[0].replace('*', 'any')}.pem"
        path.touch(0o600)
        path.write_bytes(
            self._signed(certificate)
            + key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        context = trusting()
        context.load_cert_chain(path)
        return context

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - LIFETIME)
            .not_valid_after(now + LIFETIME)
        )

    def _signed(self, certificate: x509.CertificateBuilder) -> bytes:
        return certificate.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def write_users(place: Path, **passwords: str) -> Path:
    """`users.toml` in `place` for `auth_users`."""
    path = place / "users.toml"
    path.touch(0o600)
    path.write_text(
        "".join(
            f'"{user}" = "{hash_password(password, os.urandom(16))}"\n'
            for user, password in passwords.items()
        )
    )
    return path


def write_dkim_key(path: Path, algorithm: str = "rsa") -> str:
    """A private key at `path`; the text of its DNS record."""
    pem = generate(algorithm, 2048)
    path.touch(0o600)
    path.write_bytes(pem)
    return dns_record(load_key(pem))
