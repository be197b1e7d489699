"""`sluice messages export` and `import`: between the running server and an archive on this machine's disk."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import msgspec
import typer

from mta.cli.archive import Archive, BadArchive, Message, new_temporary, open_archive, read_archive
from mta.cli.ask import Row, ask, fail, stream
from mta.control.archive import PART, Envelope, Parcel

BATCH_BYTES = 500_000  # of messages in one request; base64 makes a third more of it, and a line has a megabyte
BATCH = 500  # messages


class Exporter:
    """Puts parcels together to messages and these into an archive."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._envelope: Envelope | None = None
        self._data: IO[bytes] | None = None
        self._size = 0
        self.messages = 0
        self.recipients = 0
        self.gone = 0  # ended while they were read

    def take(self, parcels: Iterable[Parcel]) -> None:
        """All of an export."""
        for parcel in parcels:
            current = self._envelope
            if current is not None and parcel.id == current.id:
                if parcel.envelope is not None:  # more recipients of the same message
                    current.recipients += parcel.envelope.recipients
                self._add(parcel)
                continue
            self._end()
            self._envelope, self._data = parcel.envelope, new_temporary()
            self._size = 0
            self._add(parcel)
        self._end()
        self._archive.close()

    def _add(self, parcel: Parcel) -> None:
        # A message whose recipients are of several pages comes once with each page.
        if self._data is not None and parcel.offset == self._size:
            self._data.write(parcel.data)
            self._size += len(parcel.data)

    def _end(self) -> None:
        envelope, data = self._envelope, self._data
        if envelope is None or data is None:
            return
        with data:
            if self._size != envelope.size:
                self.gone += 1
                return
            data.seek(0)
            self._archive.add(envelope, data)
        self.messages += 1
        self.recipients += len(envelope.recipients)


def export(path: Path, chosen: Row, config: Path | None, socket: Path | None) -> Row:
    """Write what matches to a directory or a tar; the counts."""
    try:
        exporter = Exporter(open_archive(path))
        items = stream("messages.export", config, socket, **chosen)
        exporter.take(msgspec.convert(each, Parcel) for each in items)
    except OSError as error:
        fail(f"cannot write {path}: {error}")
    counts = ("messages", "recipients", "gone")
    return {name: getattr(exporter, name) for name in counts}


def import_(path: Path, config: Path | None, socket: Path | None) -> Row:
    """Hand all of an archive to the server; the counts, and what was refused with the reasons."""
    taken = known = 0
    refused: dict[str, str] = {}
    try:
        for parcels in _requests(read_archive(path)):
            answer = ask("messages.import", config, socket, parcels=parcels)
            taken += len(answer["taken"])
            known += len(answer["known"])
            refused.update(answer["refused"])
    except BadArchive as error:
        fail(f"{error}; {taken} messages were taken", "import it again once it is whole")
    return {"taken": taken, "known": known, "refused": refused}


def _requests(messages: Iterable[Message]) -> Iterator[list[Any]]:
    """The parcels of each request: many small messages, or a part of a large one."""
    batch: list[Any] = []
    size = 0
    for message in messages:
        with message:
            envelope = message.envelope
            weight = envelope.size + 300 * len(envelope.recipients)
            if batch and (size + weight > BATCH_BYTES or len(batch) >= BATCH):
                yield batch
                batch, size = [], 0
            if weight > BATCH_BYTES:
                yield from _parts(message)
                continue
            data = message.data.read()
            batch.append(_plain(Parcel(envelope.id, 0, data, envelope)))
            size += weight
    if batch:
        yield batch


def _parts(message: Message) -> Iterator[list[Any]]:
    envelope, offset = message.envelope, 0
    while True:
        data = message.data.read(PART)
        is_last = offset + len(data) >= envelope.size or not data
        first = envelope if offset == 0 else None
        yield [_plain(Parcel(envelope.id, offset, data, first, is_last))]
        offset += len(data)
        if is_last:
            return


def _plain(parcel: Parcel) -> Any:
    return msgspec.to_builtins(parcel)


def show_export(answer: Row, path: Path) -> None:
    """For people."""
    counts = f"{answer['messages']} messages with {answer['recipients']} recipients"
    typer.echo(f"{counts} written to {path}")
    if answer["gone"]:
        typer.echo(f"{answer['gone']} were delivered or deleted while they were read")


def show_import(answer: Row) -> None:
    """For people; what was refused is said message by message."""
    typer.echo(f"{answer['taken']} messages taken, {answer['known']} were here already")
    for name, why in answer["refused"].items():
        typer.secho(f"{name} was not taken: {why}", err=True, fg="red")
