"""Accounting: the sink that writes each event as a line of a file, and begins a new file when one
is full.

`records` makes the line, `recordfile` keeps the file, the follower keeps the place. A file is finished
at its size, when the UTC day changes, or on command; it gets the day it was begun and a number:
`acct-2019-02-08-0000.csv`. The size is looked at after each batch, so a file may exceed it by one
(about 300 kB). A file with no record in it is never finished. What becomes of a finished one is the
matter of `keeping`.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from mta.follow.inbox import Numbered
from mta.follow.recordfile import Place, RecordDisk, RecordFile
from mta.follow.records import Selection, make_format
from mta.policy.rules import AccountingRules


class AccountingSink:
    """A `Sink` that writes records to a file. On the follower's thread."""

    def __init__(self, rules: AccountingRules, disk: RecordDisk | None = None) -> None:
        self._rules = rules
        selection = Selection(rules.vmtas, rules.jobs, rules.domains)
        self._format = make_format(rules.format, rules.records, rules.fields, selection)
        self._file = RecordFile(
            Path(rules.path),
            self._format.header,
            disk or RecordDisk(),
            opening=self._format.opening,
        )
        self._finished = ""

    def open(self, place: str, wall: float) -> str:
        """See `Sink`. A place of another path is of no use: the operator has moved the file's
        setting."""
        saved = msgspec.json.decode(place, type=Place) if place else None
        if saved is not None and saved.file != self._rules.path:
            saved = None
        self._file.open(saved, _day(wall))
        return self.save()

    def write(self, spool: str, events: Sequence[Numbered]) -> None:
        """See `Sink`."""
        record = self._format.format
        text = "".join([record(spool, number, event) for number, event in events])
        if text:
            self._file.append(text.encode())

    def save(self) -> str:
        """See `Sink`."""
        return msgspec.json.encode(self._file.sync()).decode()

    def upkeep(self, wall: float, *, asked: bool) -> str | None:
        """See `Sink`: finish the file if it is full, of another day, or asked for."""
        self._finished = ""
        day = _day(wall)
        if not self._file.is_in_place():
            self._file.reopen(day)
        elif self._is_due(day, asked):
            self._finished = str(self._file.rotate(day))
        else:
            return None
        return self.save()

    def finished_file(self) -> str:
        """See `Sink`."""
        return self._finished

    def close(self) -> None:
        """See `Sink`."""
        self._file.close()

    def _is_due(self, day: str, asked: bool) -> bool:
        file = self._file
        if file.is_empty:
            file.day = day
            return False
        is_old = self._rules.rotate_daily and file.day != day
        return asked or is_old or file.offset >= self._rules.max_size


def _day(wall: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(wall))
