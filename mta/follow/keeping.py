"""Finished record files: compressed, and removed when they are old or too many. Never the file being written.

A thread of its own, at the lowest priority: a file of 250 MB takes seconds, and neither mail nor the next record waits for it.
What it has to do is read off the directory each time, so nothing is remembered and a crash is no special case:

- `acct-2019-02-08-0000.csv` becomes `….csv.gz`: written as `….csv.gz.part`, synced, renamed, the directory synced, and only
  then is the first one removed. A crash leaves the whole original, a `.part` that the next round writes anew, or both whole
  files: then the compressed one is complete, and the other is removed.
- Only names that a rotation gives are touched, only regular files, and none that was written to a moment ago: if an operator
  renamed the current file by hand, the follower goes on writing to it until it notices.
- Removal goes by the time of the last record (the file's own time, which compressing keeps).
"""

import gzip
import os
import re
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from mta.follow.follower import Time
from mta.follow.recordfile import FILE_MODE
from mta.io.files import DISK, Disk, fsync_directory
from mta.policy.rules import AccountingRules

logger = structlog.get_logger()

ROUND_S = 10.0
SETTLED_S = 5.0  # the follower notices within a second or so that its file was renamed
STOP_S = 5.0
GZIP = ".gz"
_PART = ".part"
_LEVEL = 6
_CHUNK = 1 << 18  # so often a stop is noticed
_LOWEST = 19  # nice(2)


class _Stopped(Exception):
    """The server stops; the file is compressed after the next start."""


@dataclass(frozen=True, slots=True)
class _Finished:
    path: Path
    size: int
    modified: float


class FileKeeper:
    """Keeps the finished files of one accounting set. `tidy` on one thread."""

    def __init__(
        self,
        rules: AccountingRules,
        disk: Disk = DISK,
        should_stop: Callable[[], bool] = lambda: False,
        settled_s: float = SETTLED_S,
    ) -> None:
        path = Path(rules.path)
        self._rules = rules
        self._directory = path.parent
        self._disk = disk
        self._should_stop = should_stop
        self._settled_s = settled_s
        name = rf"{re.escape(path.stem)}-\d{{4}}-\d\d-\d\d-\d{{4,9}}{re.escape(path.suffix)}"
        self._is_plain = re.compile(name).fullmatch
        self._is_part = re.compile(name + re.escape(GZIP + _PART)).fullmatch
        self._is_finished = re.compile(rf"{name}(?:{re.escape(GZIP)})?").fullmatch

    def tidy(self, wall: float) -> None:
        """Remove what is too old or too much, compress what was finished. Raises OSError."""
        # In this order: on a full disk nothing can be compressed, and something can be removed.
        self._remove_surplus(wall)
        for part in self._find(self._is_part):  # of a crash
            part.path.unlink(missing_ok=True)
        if self._rules.compress:
            for each in self._find(self._is_plain):
                if each.modified <= wall - self._settled_s:
                    self._compress(each)

    def _find(self, is_meant: Callable[[str], object]) -> list[_Finished]:
        """The files whose names are meant, the oldest first."""
        found = []
        with os.scandir(self._directory) as entries:
            for entry in entries:
                if is_meant(entry.name) and entry.is_file(follow_symlinks=False):
                    with suppress(FileNotFoundError):  # somebody else may tidy up here, too
                        status = entry.stat(follow_symlinks=False)
                        found.append(_Finished(Path(entry.path), status.st_size, status.st_mtime))
        return sorted(found, key=lambda each: (each.modified, each.path.name))

    def _compress(self, finished: _Finished) -> None:
        target = finished.path.with_name(finished.path.name + GZIP)
        if not target.exists():
            part = target.with_name(target.name + _PART)
            try:
                self._write_compressed(finished.path, part)
                os.utime(part, (finished.modified, finished.modified))
                part.rename(target)
            except (FileNotFoundError, _Stopped):  # taken away meanwhile; or later
                return
            finally:  # nothing to do where it got its name
                part.unlink(missing_ok=True)
        fsync_directory(self._directory, self._disk)
        try:
            finished.path.unlink()
        except (
            FileNotFoundError
        ):  # whoever took it has the records: they must not stand here as well
            target.unlink(missing_ok=True)

    def _write_compressed(self, source: Path, part: Path) -> None:
        descriptor = self._disk.create(part, FILE_MODE)
        with os.fdopen(descriptor, "wb") as raw, source.open("rb") as plain:
            # No name and no time within: the same records give the same bytes.
            with gzip.GzipFile("", "wb", _LEVEL, raw, mtime=0) as packed:
                while chunk := plain.read(_CHUNK):
                    if self._should_stop():
                        raise _Stopped
                    packed.write(chunk)
            raw.flush()
            self._disk.fsync(descriptor)

    def _remove_surplus(self, wall: float) -> None:
        finished = self._find(self._is_finished)
        left = sum(each.size for each in finished)
        removed = []
        for each in finished:
            is_old = self._rules.keep_s is not None and each.modified < wall - self._rules.keep_s
            is_much = self._rules.keep_size is not None and left > self._rules.keep_size
            if is_old or is_much:
                each.path.unlink(missing_ok=True)
                removed.append(each.path.name)
                left -= each.size
        if removed:
            logger.info("old accounting files removed", accounting=self._rules.name, files=removed)


class Keeping:
    """The thread that keeps the finished files of all sets that ask for it."""

    def __init__(
        self, all_rules: Sequence[AccountingRules], clock: Time, round_s: float = ROUND_S
    ) -> None:
        self._stopping = threading.Event()
        self._clock = clock
        self._round_s = round_s
        self._keepers = {
            rules.name: FileKeeper(rules, should_stop=self._stopping.is_set)
            for rules in all_rules
            if rules.compress or rules.keep_s is not None or rules.keep_size is not None
        }
        self._troubles: dict[str, str] = {}
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Keep them until `stop`; no thread where there is nothing to keep."""
        if self._keepers:
            self._thread = threading.Thread(target=self._run, name="keep-files", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End. What is not done is done after the next start. Blocks for a moment: not on the loop."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(STOP_S)

    def tidy(self) -> None:
        """One round over all sets; trouble of one is told once, and is not the others'."""
        for name, keeper in self._keepers.items():
            try:
                keeper.tidy(self._clock.wall())
                trouble = ""
            except OSError as error:
                trouble = str(error)
            except Exception as error:  # the thread's border: a bug must not end it
                trouble = f"our fault: {type(error).__name__}"
                logger.exception("accounting files cannot be kept", accounting=name)
            if trouble and trouble != self._troubles.get(name):
                logger.warning("accounting files cannot be kept", accounting=name, error=trouble)
            self._troubles[name] = trouble

    def _run(self) -> None:
        with suppress(OSError):  # Linux: nice(2) of this thread alone
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST)
        while not self._stopping.is_set():
            self.tidy()
            self._stopping.wait(self._round_s)
