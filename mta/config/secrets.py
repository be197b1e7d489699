"""Reads the files with secrets that the configuration names – TLS keys, DKIM keys, users' password
hashes – and checks that they are sound and that others cannot read them. A file that does not load
is a mistake told at start, never a surprise in the middle of the night.
"""

import ssl
import stat
import tomllib
from pathlib import Path

from mta.config.files import KeyPath
from mta.config.report import Report
from mta.dkim.keys import load_key
from mta.policy.passwords import check_hash


def read_secret(path: Path, key: KeyPath, report: Report) -> bytes | None:
    """The file's bytes, or None with a problem reported at `key`. Others must not be able to read
    it.
    """
    try:
        mode = path.stat().st_mode
        data = path.read_bytes()
    except OSError as error:
        report.problem(key, f"{path} cannot be read: {error.strerror or error}")
        return None
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        report.problem(
            key,
            f"everybody on this machine may read or change {path}; "
            f"give it to the server's user and run: chmod 600 {path}",
        )
    return data


def read_password(path: Path, key: KeyPath, report: Report) -> str:
    """The first line of a file, a password; "" with a problem reported."""
    data = read_secret(path, key, report)
    if data is None:
        return ""
    try:
        password = data.decode("utf-8").partition("\n")[0].rstrip("\r")
    except UnicodeDecodeError:
        report.problem(key, f"{path} is no text in UTF-8")
        return ""
    if not password or "\0" in password:
        report.problem(key, f"{path} must have the password in its first line")
    return password


def read_certificates(path: Path, key: KeyPath, report: Report) -> str:
    """Certificates to believe, as PEM; "" with a problem reported."""
    try:
        pem = path.read_text("ascii")
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem)
    except OSError as error:
        # ssl.SSLError is one of these, without a number of its own that says anything.
        why = "holds no certificates" if isinstance(error, ssl.SSLError) else error.strerror
        report.problem(key, f"{path} {why or error}")
        return ""
    except ValueError:
        report.problem(key, f"{path} holds no certificates")
        return ""
    return pem


def read_dkim_key(path: Path, key: KeyPath, report: Report) -> bytes:
    """A private key to sign with, as PEM; b"" with a problem reported."""
    pem = read_secret(path, key, report)
    if pem is None:
        return b""
    try:
        load_key(pem)
    except ValueError as error:
        report.problem(key, f"{path}: {error}")
    return pem


def check_certificate(certificate: Path, private_key: Path, key: KeyPath, report: Report) -> None:
    """A certificate and its key must load and belong together. `key`: the listener's path."""
    is_there = read_secret(private_key, (*key, "tls_key"), report) is not None
    try:
        certificate.read_bytes()
    except OSError as error:
        text = f"{certificate} cannot be read: {error.strerror or error}"
        report.problem((*key, "tls_cert"), text)
        return
    if not is_there:
        return
    try:
        # The empty password keeps an encrypted key from asking on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            certificate, private_key, password=""
        )
    except ssl.SSLError as error:
        report.problem((*key, "tls_cert"), _tls_words(error, certificate, private_key))


def check_authorities(authorities: Path, key: KeyPath, report: Report) -> None:
    """A file of certificates to verify clients by must load, and hold one at least."""
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_verify_locations(authorities)
    except ssl.SSLError as error:
        report.problem(key, f"{authorities} holds no PEM certificates: {error.reason or error}")
    except OSError as error:
        report.problem(key, f"{authorities} cannot be read: {error.strerror or error}")


def _tls_words(error: ssl.SSLError, certificate: Path, private_key: Path) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"{private_key} is not the key of {certificate}"
    return (
        f"{certificate} and {private_key} do not load as a PEM certificate chain with its "
        f"unencrypted key: {error.reason or error}"
    )


def read_users(path: Path, key: KeyPath, report: Report) -> dict[str, str]:
    """The users that may log in and their password hashes; each mistake is reported."""
    data = read_secret(path, key, report)
    if data is None:
        return {}
    try:
        users = tomllib.loads(data.decode("utf-8"))
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError
        report.problem(key, f"{path} is no valid TOML: {error}")
        return {}
    for user, stored in users.items():
        try:
            check_hash(stored if isinstance(stored, str) else "")
        except ValueError as error:
            report.problem(key, f"{path}: user {user!r}: {error}")
    if not users:
        report.problem(key, f"{path} names no user")
    return {user: stored for user, stored in users.items() if isinstance(stored, str)}
