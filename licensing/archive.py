"""Where old records of the ledger go: a file a month, JSON lines, compressed; synced before the ledger lets go of them.

A crash between the two leaves records in both places; they carry numbers and hashes, so a reader finds them twice, not wrong.
"""

import gzip
import os
from itertools import groupby
from pathlib import Path

import msgspec

from licensing.calendar import day_of
from licensing.files import sync_folder

# seq, trusted time, kind, record, prev, hash
ArchivedRow = tuple[int, float, str, str, str, str]


def export(archive: Path, rows: list[ArchivedRow]) -> None:
    """Append records to the files of their months; on disk when it returns. Raises OSError."""
    archive.mkdir(mode=0o700, parents=True, exist_ok=True)
    for month, group in groupby(rows, key=lambda row: day_of(row[1])[:7].replace("-", "")):
        lines = [
            msgspec.json.encode(
                {"seq": seq, "kind": kind, "record": record, "prev": prev, "hash": digest}
            )
            for seq, _, kind, record, prev, digest in group
        ]
        path = archive / f"ledger-{month}.jsonl.gz"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with open(descriptor, "ab") as file:
            file.write(gzip.compress(b"\n".join(lines) + b"\n"))
            file.flush()
            os.fsync(file.fileno())
    sync_folder(archive)
