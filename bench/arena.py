"""What every scenario is run with: how often, how much, where; a new directory for each run."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.signature import SigningKey


@dataclass(frozen=True, slots=True)
class Arena:
    """The conditions of one report."""

    directory: Path  # on the file system that is measured
    keys: Mapping[str, SigningKey]  # by algorithm: RSA and ED25519 of bench.signature
    runs: int
    quick: bool
    peers: frozenset[str]  # names on the command line; empty: all
    workers: int  # of Sluice, where a scenario does not say
    keep: bool  # leave the directories of all runs
    say: Callable[[str], None]  # progress
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def wants(self, peer: str) -> bool:
        """Whether the operator asked for this peer."""
        return not self.peers or peer in self.peers

    @contextmanager
    def place(self) -> Iterator[Path]:
        """A new directory that everybody may enter (Postfix's processes do); removed afterwards, unless kept."""
        # Short: a Unix socket's path may have 107 bytes.
        place = self.directory / f"{next(self._numbers)}"
        place.mkdir(mode=0o755)
        try:
            yield place
        finally:
            if not self.keep:
                shutil.rmtree(place, ignore_errors=True)
