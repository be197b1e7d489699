"""The key that makes this installation itself: an Ed25519 key of its own, made at the first start. Design 3.4.

Identity is this key and not a MAC address or a machine id: those are copied with a disk, and guessed. It lies as PKCS8 in a
file of mode 0600, or comes as a systemd credential (`LoadCredentialEncrypted=node.key:…`), which a copied disk cannot open.
It never leaves the machine; what others see is its public half and signatures. A key that others can read is refused (C17).
"""

import base64
import contextlib
import hashlib
import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from licensing.envelope import Envelope, raw_key, sign
from licensing.errors import LicenseError
from licensing.files import (
    make_private_folder,
    read_bounded,
    read_private,
    sync_folder,
    write_atomically,
)

MAX_KEY_BYTES = 4096  # a PKCS8 PEM of Ed25519 has about 120
FILE_NAME = "node.key"
ID_LENGTH = 26  # 130 bits of the digest: as many as a ULID shows


def node_id(public: bytes) -> str:
    """What a node is called: base32 of the SHA-256 of its 32 raw bytes, in small letters."""
    return base64.b32encode(hashlib.sha256(public).digest()).decode("ascii")[:ID_LENGTH].lower()


class NodeKey:
    """One installation's key. Whoever holds it is that installation."""

    def __init__(self, key: Ed25519PrivateKey, path: Path | None = None) -> None:
        """`path`: where it lies, if this process may replace it there."""
        self._key = key
        self.path = path
        raw = raw_key(key.public_key())
        self.id = node_id(raw)
        self.public = base64.b64encode(raw).decode("ascii")

    @classmethod
    def create(cls, path: Path) -> "NodeKey":
        """Make a key and write it, synced, where none is yet. Raises LicenseError, OSError."""
        if path.exists():
            raise LicenseError("node_key", f"{path} is there already: a node key is never replaced")
        return cls.replace(path)

    @classmethod
    def replace(cls, path: Path) -> "NodeKey":
        """Make a key and write it, synced, in the place of what is there: this is another node then. Raises OSError."""
        key = Ed25519PrivateKey.generate()
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        make_private_folder(path.parent)
        write_atomically(path, pem)
        return cls(key, path)

    @classmethod
    def load(cls, path: Path) -> "NodeKey":
        """Read a key nobody else may read. Raises LicenseError, OSError."""
        found = cls._read(path, read_private(path, MAX_KEY_BYTES))
        found.path = path
        return found

    @classmethod
    def _read(cls, path: Path, data: bytes) -> "NodeKey":
        try:
            key = load_pem_private_key(data, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise LicenseError(
                "node_key",
                f"{path} is not an Ed25519 key in PKCS8 PEM: put back the file that was there;"
                " without it this is a new node, which needs a seat of its own",
            )
        return cls(key)

    @staticmethod
    def is_there(state_dir: Path, credentials: Path | None = None) -> bool:
        """Whether `of` would find a key and make none."""
        folders = (state_dir,) if credentials is None else (credentials, state_dir)
        return any((folder / FILE_NAME).exists() for folder in folders)

    @classmethod
    def of(cls, state_dir: Path, credentials: Path | None = None) -> "NodeKey":
        """The key of this installation: of `credentials` ($CREDENTIALS_DIRECTORY), of the state directory, or a new one there."""
        if credentials is not None and (credentials / FILE_NAME).exists():
            # systemd's folder is closed to others; an ACL's mask on the file looks like rights of the group.
            given = credentials / FILE_NAME
            return cls._read(given, read_bounded(given, MAX_KEY_BYTES))
        path = state_dir / FILE_NAME
        return cls.load(path) if path.exists() else cls.create(path)

    def sign(self, payload_type: str, payload: bytes) -> Envelope:
        """An envelope of these bytes, signed by this node."""
        return sign(payload_type, payload, [self._key])


def shred(path: Path) -> None:
    """Make a key on disk useless: written over, synced, gone. On copy-on-write disks and snapshots old blocks may remain."""
    with contextlib.suppress(FileNotFoundError):
        with path.open("r+b") as file:
            file.write(os.urandom(path.stat().st_size))
            file.flush()
            os.fsync(file.fileno())
        path.unlink()
        sync_folder(path.parent)
