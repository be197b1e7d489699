"""`python -m bench.license_pairs`: the whole daemon with licensing against the same without, pair by pair.

A round runs daemons of one command under one load: lab mode twice (no guard: what is measured against, and against itself), an
Enterprise licence (decided, not metered), a Volume licence (each delivery takes an Email and is counted in the ledger); and a
Standard licence, 3 connections, against lab mode with as many. Only lab mode's switch and the licence differ. Each round begins
one further on, so that none always has the warm cache.

The noise is what lab mode differs from itself: the greatest distance from 1 of the A/A pairs. Asked: the median of the A/B pairs
is no further from 1 than that. A pair whose run failed is left out, and fails the whole. No vendor is reached: what a report
costs stands in `bench.license_server`, and one a minute is nobody's message.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from bench.arena import Arena
from bench.contest import Contestant
from bench.load import ROOT, Load
from bench.peers import Setup
from bench.peers.sluice import START_S, RunningSluice, Sluice, format_config
from bench.processes import Child, free_port, wait_for_banner
from bench.results import Run
from bench.throughput import describe, run_once
from licensing.model.license import Kind, LeaseTerms, License
from tests.support.vendor import Vendor
from tests.support.vendored import COMMAND

ROUNDS = 5
LAB, AGAIN, LAB_OF_3 = "lab", "lab again", "lab, 3 connections"
MEASURES = {"Enterprise": LAB, "Volume": LAB, "Standard": LAB_OF_3}  # who against whom
PLENTY = 1 << 40  # Emails, granted at once: the end of a volume is not measured here
LICENSE = """
[license]
dir = "license.d"
state_dir = "license"
endpoint = "https://127.0.0.1:9"
"""


@dataclass(frozen=True, slots=True)
class Under(Sluice):
    """Sluice under a licence of this kind; None: in lab mode."""

    kind: Kind | None
    vendor: Vendor

    @property
    def settings(self) -> str:
        return f"{super().settings}; {self.kind or 'lab mode'}"

    @contextmanager
    def start(self, setup: Setup) -> Iterator[RunningSluice]:
        port, place = free_port(), setup.directory
        text = format_config(setup, port)
        if self.kind is not None:
            text = text.replace("lab = true", "lab = false") + LICENSE
            self._install(place / "license.d")
        (place / "sluice.toml").write_text(text)
        (place / "root.json").write_bytes(self.vendor.root_bytes)
        (place / "spool").mkdir(exist_ok=True)
        command = [*COMMAND, "run", "--config", str(place / "sluice.toml")]
        surroundings = {"PYTHONPATH": str(ROOT)}
        with Child("sluice", command, place / "sluice.log", env=surroundings) as child:
            wait_for_banner(port, child, START_S)
            yield RunningSluice(port, child, setup)

    def _install(self, folder: Path) -> None:
        assert self.kind is not None
        folder.mkdir(mode=0o700)
        path = folder / "bench.lic"
        path.touch(mode=0o600)
        path.write_bytes(self.vendor.file(self.kind, **_terms(self.vendor.license(self.kind))))


def _terms(plain: License) -> dict[str, object]:
    """A term that has begun, and Emails in plenty."""
    now = datetime.now(UTC).replace(microsecond=0)
    changes: dict[str, object] = {
        "issued_at": now - timedelta(days=2),
        "not_before": now - timedelta(days=1),
        "expires_at": now + timedelta(days=300),
        "terminate_at": now + timedelta(days=330),
    }
    if plain.limits.volume is not None:
        volume = msgspec.structs.replace(
            plain.limits.volume, emails=PLENTY, lease=LeaseTerms(min=PLENTY)
        )
        changes["limits"] = msgspec.structs.replace(plain.limits, volume=volume)
    return changes


def contestants(vendor: Vendor) -> list[Contestant]:
    """Who runs in a round, the measure first."""
    return [
        Contestant(LAB, Under(None, vendor)),
        Contestant(AGAIN, Under(None, vendor)),
        Contestant("Enterprise", Under(Kind.ENTERPRISE_SERVER, vendor)),
        Contestant("Volume", Under(Kind.VOLUME, vendor)),
        Contestant(LAB_OF_3, Under(None, vendor), {"total_connections": 3}),
        Contestant("Standard", Under(Kind.STANDARD_SERVER, vendor)),
    ]


def measure(arena: Arena, load: Load) -> dict[str, list[Run]]:
    """All runs, by label, in the order of the rounds."""
    every = contestants(Vendor())
    runs: dict[str, list[Run]] = defaultdict(list)
    for number in range(arena.runs):
        first = number % len(every)
        for each in every[first:] + every[:first]:
            run = run_once(each, load, arena)
            runs[each.label].append(run)
            arena.say(f"{number + 1}/{arena.runs} {each.label}: {describe(run)}")
    return runs


def ratios(
    runs: dict[str, list[Run]], label: str, measure: str, figure: Callable[[Run], float]
) -> Sequence[float]:
    """This contestant's figure over that of its measure, round by round."""
    pairs = zip(runs[label], runs[measure], strict=True)
    return [figure(ours) / figure(theirs) for ours, theirs in pairs if ours.ok and theirs.ok]


def judge(runs: dict[str, list[Run]], say: Callable[[str], None]) -> bool:
    """Print the pairs and whether the licensed ones are within the noise; whether all are."""
    figures: dict[str, Callable[[Run], float]] = {
        "msg/s": lambda run: run.rate,
        "CPU a message": lambda run: run.cpu_ms,
    }
    holds = all(run.ok for each in runs.values() for run in each)
    for name, figure in figures.items():
        itself = ratios(runs, AGAIN, LAB, figure)
        if not itself:
            return False
        noise = max(abs(each - 1) for each in itself)
        say(f"{name}: {LAB} against itself {_shown(itself)}, noise ±{noise:.1%}")
        for label, measure in MEASURES.items():
            found = ratios(runs, label, measure, figure)
            if not found:
                return False
            middle = statistics.median(found)
            within = abs(middle - 1) <= noise
            holds = holds and within
            verdict = "within the noise" if within else "BEYOND the noise"
            pairs = f"{label} against {measure} {_shown(found)}"
            say(f"{name}: {pairs}, median {middle:.3f}: {verdict}")
    return holds


def _shown(found: Sequence[float]) -> str:
    return " ".join(f"{each:.3f}" for each in found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--count", type=int, default=60_000, help="messages of each run")
    parser.add_argument("--workers", type=int, default=1)
    words = parser.parse_args()
    load = Load(words.count, 4096)
    with tempfile.TemporaryDirectory(prefix="sluice-pairs-") as folder:
        arena = Arena(
            Path(folder), {}, words.rounds, False, frozenset(), words.workers, False, print
        )
        runs = measure(arena, load)
    return 0 if judge(runs, print) else 1


if __name__ == "__main__":
    sys.exit(main())
