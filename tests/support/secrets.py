"""Certificates, users and DKIM keys as files, for servers that tests configure."""

import os
from pathlib import Path

from mta.dkim.keys import dns_record, generate, load_key
from mta.lab.certificate import make_certificate
from mta.policy.passwords import hash_password


def write_certificate(place: Path, name: str = "mta.test.example") -> tuple[Path, Path]:
    """`cert.pem` and `key.pem` in `place`; their paths."""
    certificate, key = make_certificate(name)
    paths = place / "cert.pem", place / "key.pem"
    for path, content in zip(paths, (certificate, key), strict=True):
        path.touch(0o600)
        path.write_bytes(content)
    return paths


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
