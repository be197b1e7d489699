"""Where exported messages lie: a directory or a tar, with `ID.eml` and `ID.json` for each message.

In a directory the JSON comes last, after the message is on disk: an `.eml` without one is half a message, and is passed over.
"""

import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol, Self

import msgspec

from mta.control.archive import Envelope
from mta.io.files import fsync_directory, make_directory
from mta.model.envelope import is_message_id

TAR_ENDINGS = (".tar", ".tar.gz", ".tgz")
IN_MEMORY = 1 << 20


class BadArchive(Exception):
    """What cannot be read or written, in words for the operator."""


class Archive(Protocol):
    """Takes whole messages, one after the other."""

    def add(self, envelope: Envelope, data: IO[bytes]) -> None: ...

    def close(self) -> None:
        """All of it is on disk afterwards."""


class DirectoryArchive:
    """An export into a directory, made if need be."""

    def __init__(self, path: Path) -> None:
        self._path = path
        make_directory(path)

    def add(self, envelope: Envelope, data: IO[bytes]) -> None:
        """Two files, each on disk; one that is there already is written anew."""
        self._write(f"{envelope.id}.eml", data)
        self._write(f"{envelope.id}.json", io.BytesIO(_json(envelope)))

    def close(self) -> None:
        """The names are on disk as well."""
        fsync_directory(self._path)

    def _write(self, name: str, data: IO[bytes]) -> None:
        part = self._path / f"{name}.part"
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            shutil.copyfileobj(data, file)
            file.flush()
            os.fsync(file.fileno())
        part.rename(self._path / name)


class TarArchive:
    """An export into a tar, compressed if its name says so. It has its name only once it is whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(f"{path.name}.part")
        mode = "w:" if path.name.endswith(".tar") else "w:gz"
        self._file = os.fdopen(
            os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), "wb"
        )
        self._tar = tarfile.open(fileobj=self._file, mode=mode)  # type: ignore[call-overload]  # noqa: SIM115 - closed by close

    def add(self, envelope: Envelope, data: IO[bytes]) -> None:
        """Two members."""
        self._member(f"{envelope.id}.eml", envelope.size, envelope, data)
        text = _json(envelope)
        self._member(f"{envelope.id}.json", len(text), envelope, io.BytesIO(text))

    def close(self) -> None:
        """It is whole."""
        self._tar.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._part.rename(self._path)
        fsync_directory(self._path.parent)

    def _member(self, name: str, size: int, envelope: Envelope, data: IO[bytes]) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.mtime = size, 0o600, int(envelope.received_at)
        self._tar.addfile(info, data)


def new_temporary() -> IO[bytes]:
    """A file without a name, in memory while it is small."""
    return tempfile.SpooledTemporaryFile(IN_MEMORY)


def is_tar(path: Path) -> bool:
    """Whether an archive of this name is a tar."""
    return path.name.endswith(TAR_ENDINGS)


def open_archive(path: Path) -> Archive:
    """Where an export goes. Raises OSError."""
    return TarArchive(path) if is_tar(path) else DirectoryArchive(path)


class Message:
    """One message of an archive: its envelope, and a file with its bytes; a context manager."""

    def __init__(self, envelope: Envelope, data: IO[bytes]) -> None:
        self.envelope = envelope
        self.data = data

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.data.close()


def read_archive(path: Path) -> Iterator[Message]:
    """Every whole message there. Raises BadArchive."""
    try:
        yield from _read_tar(path) if path.is_file() else _read_directory(path)
    except (OSError, tarfile.TarError, EOFError, msgspec.MsgspecError) as error:
        raise BadArchive(f"{path} cannot be read: {error}") from error


def _read_directory(path: Path) -> Iterator[Message]:
    for found in sorted(path.iterdir()):
        if found.suffix == ".json" and is_message_id(found.stem):
            envelope = _envelope(found.name, found.read_bytes())
            yield Message(envelope, found.with_suffix(".eml").open("rb"))


def _read_tar(path: Path) -> Iterator[Message]:
    """In its own order: the bytes come before their envelope, and wait for it in a file without a name."""
    waiting: IO[bytes] | None = None
    name = ""
    with tarfile.open(path) as tar:
        for member in tar:
            stem, dot, kind = Path(member.name).name.rpartition(".")
            file = tar.extractfile(member) if member.isfile() else None
            if file is None or not dot or not is_message_id(stem):
                continue
            if kind == "eml":
                waiting, name = new_temporary(), stem
                shutil.copyfileobj(file, waiting)
                waiting.seek(0)
            elif kind == "json" and waiting is not None and stem == name:
                yield Message(_envelope(member.name, file.read()), waiting)
                waiting = None


def _envelope(name: str, text: bytes) -> Envelope:
    envelope = msgspec.json.decode(text, type=Envelope)
    if envelope.id != Path(name).stem:
        raise BadArchive(f"{name} holds the envelope of {envelope.id}")
    return envelope


def _json(envelope: Envelope) -> bytes:
    return msgspec.json.format(msgspec.json.encode(envelope)) + b"\n"
