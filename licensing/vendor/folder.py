"""The vendor's folder: public halves, drafts, what was issued, and the log of it. Private keys lie here or on sticks elsewhere.

    roots/N.root.json      each root, with the signatures it has so far
    keys/NAME.pem, .pub    keys made here
    delegations/NAME.json  what the key of this name may sign
    issued/*.lic           every licence, as it was sent
    issued.jsonl           the issuance log: appended to and synced before a file is handed out, never rewritten
    activations.jsonl      the same for offline activations
    revocations.json       the newest list

After a theft the log is what tells genuine licences from forged ones (3.14), so nothing is issued that is not in it.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from licensing.envelope import (
    Envelope,
    decode_closed,
    decode_envelope,
    encode_envelope,
    format_armour,
    parse_armour,
)
from licensing.errors import LicenseError
from licensing.files import (
    make_private_folder,
    read_bounded,
    read_private,
    sync_folder,
    write_atomically,
)
from licensing.model.license import License
from licensing.model.trust import Revocations
from licensing.trust import MAX_ROOT_BYTES, MAX_ROOTS, Trust

MAX_LOG_BYTES = 256 * 1024 * 1024
MAX_FILE_BYTES = 256 * 1024

Line = TypeVar("Line", bound=msgspec.Struct)


class Issued(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the issuance log. `sha256` of the signed bytes; `at` seconds since 1970."""

    at: float
    sha256: str
    license_id: str
    revision: int
    key_id: str
    kind: str
    order_ref: str


class Activated(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the log of offline activations. `seats` 0: given back."""

    at: float
    sha256: str
    key_id: str
    activation_id: str
    license_id: str
    node_id: str
    seats: int


class VendorFolder:
    """The files of one vendor. Reading checks nothing but shape and size; believing is `trust`'s."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.keys = path / "keys"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Only one command at a time changes the folder. Raises LicenseError at once when another is at it."""
        make_private_folder(self.path)
        with (self.path / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LicenseError("busy", f"another command is at work in {self.path}") from None
            yield

    # -- roots and delegations ------------------------------------------------------------------------

    def roots(self) -> list[Envelope]:
        """Every root, ascending, also one that is not signed enough yet."""
        found = []
        for version in range(1, MAX_ROOTS + 1):
            path = self._root(version)
            if not path.exists():
                break
            data = read_bounded(path, MAX_ROOT_BYTES)
            found.append(decode_envelope(data, max_bytes=MAX_ROOT_BYTES))
        return found

    def put_root(self, version: int, envelope: Envelope) -> Path:
        """Write a root, or what signatures it has so far."""
        path = self._root(version)
        make_private_folder(path.parent)
        write_atomically(path, encode_envelope(envelope), mode=0o644)
        return path

    def trust(self) -> Trust:
        """What customers believe that have the first root built in: as far as roots are signed enough. Raises LicenseError."""
        roots = self.roots()
        if not roots:
            raise LicenseError(
                "root", f"{self.path} has no root: run `sluice-license root init` first"
            )
        trust = Trust.load(encode_envelope(roots[0]))
        for envelope in roots[1:-1]:
            trust = trust.advance([envelope])
        try:
            return trust.advance(roots[1:])
        except LicenseError:
            return trust  # the last is a draft still

    def _root(self, version: int) -> Path:
        return self.path / "roots" / f"{version}.root.json"

    def delegations(self) -> dict[str, Envelope]:
        """By the name of the key, also those not signed enough yet."""
        folder = self.path / "delegations"
        return {
            path.stem: decode_envelope(read_bounded(path, MAX_FILE_BYTES))
            for path in sorted(folder.glob("*.json"))
        }

    def put_delegation(self, name: str, envelope: Envelope) -> Path:
        """Write a delegation, or what signatures it has so far."""
        path = self.path / "delegations" / f"{name}.json"
        make_private_folder(path.parent)
        write_atomically(path, encode_envelope(envelope), mode=0o644)
        return path

    # -- what was issued ------------------------------------------------------------------------------

    def put_issued(self, line: Issued, envelope: Envelope) -> None:
        """Into the log, synced, and only then into a file."""
        self._append("issued.jsonl", line)
        path = self.path / "issued" / f"{line.license_id}-r{line.revision}.lic"
        make_private_folder(path.parent)
        write_atomically(path, format_armour(envelope).encode())

    def issued(self) -> list[Issued]:
        """The issuance log, oldest first."""
        return self._lines("issued.jsonl", Issued)

    def revisions(self, license_id: str) -> list[tuple[Issued, License]]:
        """Every revision of a licence, as it was issued, ascending. Raises LicenseError when there is none."""
        lines = [each for each in self.issued() if each.license_id == license_id]
        if not lines:
            raise LicenseError("unknown_license", f"{license_id} is not in the issuance log")
        ordered = sorted(lines, key=lambda each: each.revision)
        return [(line, self._issued_license(line)) for line in ordered]

    def _issued_license(self, line: Issued) -> License:
        path = self.path / "issued" / f"{line.license_id}-r{line.revision}.lic"
        try:
            envelope = parse_armour(read_bounded(path, MAX_FILE_BYTES))
        except FileNotFoundError:
            raise LicenseError(
                "missing", f"{path} is in the issuance log and not there: put it back"
            ) from None
        if envelope.payload_sha256() != line.sha256:
            raise LicenseError("altered", f"{path} is not what the issuance log says was issued")
        return decode_closed(envelope.payload_bytes(), License)

    def put_activated(self, line: Activated) -> None:
        """Into the log of offline activations, synced."""
        self._append("activations.jsonl", line)

    def activated(self) -> list[Activated]:
        """The log of offline activations, oldest first."""
        return self._lines("activations.jsonl", Activated)

    # -- revocations ----------------------------------------------------------------------------------

    def revocations(self) -> Revocations | None:
        """The newest list, or None."""
        try:
            data = read_bounded(self.path / "revocations.json", MAX_FILE_BYTES)
        except FileNotFoundError:
            return None
        return decode_closed(decode_envelope(data).payload_bytes(), Revocations)

    def put_revocations(self, envelope: Envelope) -> None:
        """Write the newest list."""
        write_atomically(self.path / "revocations.json", encode_envelope(envelope), mode=0o644)

    # -- inside ---------------------------------------------------------------------------------------

    def _append(self, name: str, line: msgspec.Struct) -> None:
        make_private_folder(self.path)
        path = self.path / name
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with open(descriptor, "ab") as file:
            file.write(msgspec.json.encode(line) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        sync_folder(self.path)

    def _lines(self, name: str, kind: type[Line]) -> list[Line]:
        try:
            data = read_private(self.path / name, MAX_LOG_BYTES)
        except FileNotFoundError:
            return []
        found = []
        for number, line in enumerate(data.splitlines(), 1):
            try:
                found.append(decode_closed(line, kind))
            except LicenseError as error:
                raise LicenseError(
                    "log", f"{self.path / name}, line {number}: {error}; the log is never edited"
                ) from None
        return found
