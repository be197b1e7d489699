"""The time by which licences are judged: it only goes forward, whatever the machine's clock says. Design 3.8.

The wall clock is a claim. What counts is an anchor (the vendor's signed time, else the wall clock when first seen) and what
CLOCK_BOOTTIME has counted since, which no administrator sets. The wall clock may lead that line by ten minutes at most; if it is
further ahead it must say so for a day, in one boot, or the vendor's signed time must agree: a clock that jumps to 2036 for five
minutes expires nothing (A13). If it is behind, the line is kept: rolling back gains nothing (A12). Neither stops mail.

Never asked on the hot path. Nothing is written here: `state` is a small value that the ledger keeps. Residual risk, told in the
documentation: with no contact at all, and the machine off or its clock faked over a reboot, only what was kept is known (A14).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

STEP_S = 600.0  # a wall clock so far off has been set, it has not drifted
AGREEMENT_S = 86_400.0  # so long must a wall clock that is ahead say the same
UNSEEN_S = 3_600.0  # nobody looked for so long: no agreement is known of that time
BEHIND_NOTICE_S = 86_400.0
FRESH_S = 60.0  # an answer comes within seconds; the HTTP client gives up before

CLOCK_STEP = "clock_step"


@dataclass(frozen=True, slots=True)
class Reading:
    """What the machine says: seconds since 1970, seconds since it booted (sleep included), and which boot that is."""

    wall: float
    boottime: float
    boot_id: str


def read_machine() -> Callable[[], Reading]:
    """A reader of this machine's clocks. The boot's name is read once: it does not change while we run."""
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    return lambda: Reading(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME), boot_id)


class ClockState(msgspec.Struct, frozen=True, kw_only=True):
    """What must be known after a restart. `base` is the trusted time at `boottime` of `boot_id`, by anchor and BOOTTIME alone.

    `shown` is the latest time that was ever told; `floor` the newest `issued_at` of a statement of the vendor: it is later than
    that. `ahead_by` and `ahead_since` (BOOTTIME) describe a wall clock that runs ahead and is not believed yet.
    """

    base: float
    shown: float
    floor: float
    boottime: float
    boot_id: str
    ahead_by: float | None = None
    ahead_since: float = 0.0


class TrustedClock:
    """`now()` never goes back, but when the vendor's signed time says that it was ahead."""

    def __init__(
        self,
        read: Callable[[], Reading],
        state: ClockState | None = None,
        *,
        told: Callable[[str, str], None] = lambda code, text: None,
    ) -> None:
        """`told` hears of events: a code and words. A `state` of another boot is carried over, one of none begins at the wall."""
        self._read = read
        self._told = told
        reading = read()
        self._state = _begin(reading) if state is None else _carried_over(state, reading)
        self._offset = 0.0
        self._is_off = False
        self.now()

    def now(self) -> float:
        """Seconds since 1970, for decisions about licences only."""
        reading = self._read()
        line = _moved_on(self._state, reading)
        self._offset = reading.wall - line.base
        if self._offset > STEP_S:
            line = self._unbelieved(line, reading)
        elif line.ahead_by is not None:
            line = msgspec.structs.replace(line, ahead_by=None, ahead_since=0.0)
        lead = reading.wall if abs(reading.wall - line.base) <= STEP_S else 0.0
        shown = max(line.shown, line.base, line.floor, lead)
        self._state = msgspec.structs.replace(line, shown=shown)
        self._note_step()
        return shown

    def signed(self, server_time: float, *, asked_at: float) -> None:
        """The vendor's signed time, of an answer to what this node asked at `asked_at` (trusted time; 0: long ago).

        An answer to a question asked just now may set the clock back. One that was delayed, on its way or on purpose, only says
        that it is not earlier: else answers kept in a drawer would give a licence its term again.
        """
        now, reading = self.now(), self._read()
        at = max(server_time, self._state.floor)
        if at < now and not 0 <= now - asked_at <= FRESH_S:
            return
        self._state = ClockState(
            base=at,
            shown=at,
            floor=self._state.floor,
            boottime=reading.boottime,
            boot_id=reading.boot_id,
        )
        self.now()

    def at_least(self, issued_at: float) -> None:
        """A statement of the vendor was issued then: it is not earlier now. For an `issued_at` that was verified."""
        if issued_at > self._state.floor:
            line = _moved_on(self._state, self._read())
            self._state = msgspec.structs.replace(
                line, floor=issued_at, base=max(line.base, issued_at)
            )
            self.now()

    @property
    def state(self) -> ClockState:
        """To be kept over a restart, after each flush."""
        return self._state

    @property
    def offset(self) -> float:
        """By how much the wall clock was ahead of the trusted line, in seconds, when it was read last. For metrics."""
        return self._offset

    @property
    def is_long_behind(self) -> bool:
        """The wall clock is more than a day behind: worth a notice, never a stop (a dead battery, a bad NTP server)."""
        return self._offset < -BEHIND_NOTICE_S

    def _unbelieved(self, line: ClockState, reading: Reading) -> ClockState:
        """The wall clock is ahead: believed when it has said the same for a day of this boot."""
        if line.ahead_by is None or abs(self._offset - line.ahead_by) > STEP_S:
            return msgspec.structs.replace(
                line, ahead_by=self._offset, ahead_since=reading.boottime
            )
        if reading.boottime - line.ahead_since < AGREEMENT_S:
            return line
        self._offset = 0.0
        return msgspec.structs.replace(line, base=reading.wall, ahead_by=None, ahead_since=0.0)

    def _note_step(self) -> None:
        was_off, self._is_off = self._is_off, abs(self._offset) > STEP_S
        if self._is_off and not was_off:
            word = "ahead of" if self._offset > 0 else "behind"
            self._told(
                CLOCK_STEP,
                f"this machine's clock is {abs(self._offset):.0f} s {word} the time known here: it was set, or the machine off."
                " Licences are judged by the time known; make sure that the clock is right (NTP)",
            )


def _begin(reading: Reading) -> ClockState:
    return ClockState(
        base=reading.wall,
        shown=reading.wall,
        floor=0.0,
        boottime=reading.boottime,
        boot_id=reading.boot_id,
    )


def _carried_over(state: ClockState, reading: Reading) -> ClockState:
    """After a boot at least its BOOTTIME has passed since the state was kept; how long the machine was off is not known."""
    if reading.boot_id == state.boot_id:
        return state
    return msgspec.structs.replace(
        state, boottime=0.0, boot_id=reading.boot_id, ahead_by=None, ahead_since=0.0
    )


def _moved_on(state: ClockState, reading: Reading) -> ClockState:
    # BOOTTIME never goes back in a boot; a virtual machine's snapshot may make it seem so, and that gains nothing.
    passed = max(0.0, reading.boottime - state.boottime)
    line = msgspec.structs.replace(state, base=state.base + passed, boottime=reading.boottime)
    if passed > UNSEEN_S and line.ahead_by is not None:
        return msgspec.structs.replace(line, ahead_by=None, ahead_since=0.0)
    return line
