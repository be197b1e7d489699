"""The report on disk: written whole after each scenario, so that a bench that was stopped goes on where it stopped.

Every scenario in it says how it was measured: when, at which commit of the product, how often, with how many
workers, how busy the machine was before, and how long it took. A scenario that is measured anew takes the place
of the one that stood there; the others stay as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.results import Result, to_json


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a scenario is measured under; another measurement can stand for it only under the same."""

    commit: str
    workers: int
    quick: bool
    peers: Sequence[str]  # those that take part, with their versions


@dataclass(frozen=True, slots=True)
class Measured:
    """How one scenario of a report came about."""

    at: str
    runs: int
    load_before: float
    took_s: float
    under: Conditions


class Record:
    """A report: the machine, and scenarios by name in the order of the table."""

    def __init__(self, path: Path, order: Sequence[str]) -> None:
        """What stands in the file already is kept."""
        self.path = path
        self.machine: dict[str, Any] = {}
        self._order = order
        self._scenarios: dict[str, dict[str, Any]] = {}
        if path.exists():
            report = json.loads(path.read_text())
            self.machine = report["machine"]
            self._scenarios = {one["name"]: one for one in report["scenarios"]}

    def report(self) -> dict[str, Any]:
        """All of it as plain data."""
        known = [name for name in self._order if name in self._scenarios]
        return {
            "machine": self.machine,
            "scenarios": [self._scenarios[name] for name in known],
        }

    def add(self, result: Result, measured: Measured) -> None:
        """Put a scenario in and write the file; it appears complete or not at all."""
        self._scenarios[result.name] = {**to_json(result), "measured": asdict(measured)}
        self.write()

    def write(self) -> None:
        """Write the file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_suffix(".tmp")
        draft.write_text(json.dumps(self.report(), indent=2, ensure_ascii=False) + "\n")
        draft.replace(self.path)

    def holds(self, name: str, runs: int, under: Conditions) -> bool:
        """Whether `name` stands here whole: under the same conditions, as often at least, without a failure."""
        known = self._scenarios.get(name)
        measured = self._measured(name)
        return (
            known is not None
            and measured.get("under") == json.loads(json.dumps(asdict(under)))
            and measured["runs"] >= runs
            and not known["failure"]
            and all(run["ok"] for run in known["runs"])
        )

    def took_s(self, name: str, runs: int, *, quick: bool) -> float | None:
        """How long `runs` runs took by the last measurement of the same size; None without one."""
        measured = self._measured(name)
        if not measured or measured["under"]["quick"] != quick:
            return None
        return float(measured["took_s"] / measured["runs"] * runs)

    def _measured(self, name: str) -> Mapping[str, Any]:
        known = self._scenarios.get(name) or {}
        # Reports of 0.1.0 do not say it: they stand for no measurement of today.
        measured: Mapping[str, Any] = known.get("measured") or {}
        return measured
