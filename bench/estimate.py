"""How long it will take, roughly: from rates that peers commonly reach on two cores.

Only for the one who waits; a scenario that was measured before is taken at the time it took then (bench.record).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bench.arena import Arena
from bench.contest import Contestant
from bench.load import Load

START_S = 6.0  # start, warm-up, the wait for a message too many, the end
RATES = {  # 4 KB messages a second
    "sluice": 4_000.0,
    "postfix": 650.0,
    "postfix+opendkim": 400.0,
    "haraka": 450.0,
    "exim": 200.0,
    "opensmtpd": 500.0,
}
SIZE_THAT_HALVES = 100_000  # bytes of a message
LOOK_S = 15.0  # an empty daemon read, mail at rest, the commands timed
RESTART_S = 5.0


def seconds_of_runs(contestants: Sequence[Contestant], load: Load, arena: Arena) -> float:
    """Of all runs of those that take part."""
    return arena.runs * sum(
        START_S + replace(load, **contestant.load).count / rate_of(contestant.peer.name, load)
        for contestant in contestants
        if arena.wants(contestant.peer.name) and not contestant.peer.missing()
    )


def rate_of(peer: str, load: Load) -> float:
    """Messages of this size a second."""
    return RATES[peer] / (1 + load.size_bytes / SIZE_THAT_HALVES)


def seconds_to_queue(count: int) -> float:
    """Until so many messages wait for a dead destination."""
    return count / RATES["sluice"]


def format_minutes(seconds: float) -> str:
    """As one says it: "40 s", "12 min", "2 h 05 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"
