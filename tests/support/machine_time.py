"""A machine whose clocks a test turns: the same readings as `licensing.clock.read_machine`."""

from licensing.clock import Reading

MOMENT = 1_795_000_000.0  # 2026-11-18 10:26:40 UTC


class MachineTime:
    """`true` is the time it really is; `wall_error` is what somebody did to the wall clock."""

    def __init__(self, true: float = MOMENT) -> None:
        self.true = true
        self.wall_error = 0.0
        self.boottime = 1_000.0
        self.boots = 1

    def read(self) -> Reading:
        return Reading(self.true + self.wall_error, self.boottime, f"boot-{self.boots}")

    def passes(self, seconds: float) -> None:
        self.true += seconds
        self.boottime += seconds

    def reboots(self, off_s: float = 60.0) -> None:
        self.true += off_s
        self.boottime = 5.0
        self.true += 5.0
        self.boots += 1
