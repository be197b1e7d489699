"""Durations, sizes and rates as an operator writes them: `4d12h`, `250M`, `600/min`."""

import math
import re
from typing import NamedTuple

_DURATION = re.compile(r"(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")
_DURATION_SECONDS = (604_800, 86_400, 3_600, 60, 1)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kKMGT]?)(?:i?B)?")
_SIZE_FACTORS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_RATE = re.compile(r"(\d+)/(?:(\d+))?(d|h|min|m|s)")
_RATE_SECONDS = {"d": 86_400.0, "h": 3_600.0, "min": 60.0, "m": 60.0, "s": 1.0}


class Rate(NamedTuple):
    """At most `count` in any `per_s` seconds."""

    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody asks a rate
    per_s: float

    @property
    def per_second(self) -> float:
        return self.count / self.per_s

    def __str__(self) -> str:
        names = {86_400.0: "d", 3_600.0: "h", 60.0: "min", 1.0: "s"}
        return f"{self.count}/{names.get(self.per_s, f'{self.per_s:g}s')}"


def parse_duration(text: str | float) -> float:
    """Seconds of `4d12h`, `90s`, `10m`, `1.5s` or a plain number of seconds. Raises ValueError."""
    if isinstance(text, int | float) and not isinstance(text, bool):
        if not 0 <= text < math.inf:  # TOML has inf and nan
            raise ValueError("a duration is a finite number of seconds, not negative")
        return float(text)
    stripped = str(text).strip().replace(" ", "")
    found = _DURATION.fullmatch(stripped)
    if not stripped or found is None:
        raise ValueError(f"{text!r} is no duration; write it like 90s, 10m, 1h30m or 4d12h")
    return float(
        sum(
            float(number) * seconds
            for number, seconds in zip(found.groups(), _DURATION_SECONDS, strict=True)
            if number
        )
    )


def format_duration(seconds: float) -> str:
    """The shortest exact form in whole seconds (`1h30m`); below ten seconds with one decimal.

    `for ever` for infinity: a wait that only an operator ends.
    """
    if seconds < 0:
        return "-" + format_duration(-seconds)
    if seconds == math.inf:
        return "for ever"
    if seconds < 10 and seconds != int(seconds):
        return f"{seconds:.1f}s"
    left = round(seconds)
    parts = []
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        number, left = divmod(left, length)
        if number:
            parts.append(f"{number}{unit}")
    return "".join(parts) or "0s"


def parse_size(text: str | int) -> int:
    """Bytes of `250M`, `64k`, `1.5G` or a plain number (powers of 1024). Raises ValueError."""
    if isinstance(text, int) and not isinstance(text, bool):
        if text < 0:
            raise ValueError("a size cannot be negative")
        return text
    found = _SIZE.fullmatch(str(text).strip())
    if found is None:
        raise ValueError(f"{text!r} is no size; write it like 64k, 250M or 1G")
    return int(float(found.group(1)) * _SIZE_FACTORS[found.group(2).upper()])


def format_size(size: float) -> str:
    """A size for people: `1.5 MB` in powers of 1024."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1024 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError("unreachable")


def parse_rate(text: str) -> Rate:
    """`600/min`, `10/s`, `5/10s` as a Rate. Raises ValueError."""
    found = _RATE.fullmatch(str(text).strip().replace(" ", ""))
    if found is None:
        raise ValueError(f"{text!r} is no rate; write it like 10/s, 600/min, 5000/h or 1/10s")
    count, multiple, unit = found.groups()
    if int(count) == 0 or multiple == "0":
        raise ValueError(f"{text!r} would stop all mail; pause the queue instead")
    return Rate(int(count), _RATE_SECONDS[unit] * int(multiple or 1))


def parse_share(text: str | int | float) -> float | int:
    """`10%` as the float 0.1, anything else as a size in bytes, an int. Raises ValueError."""
    if isinstance(text, float):  # 0.1 would be read as no byte at all
        raise ValueError(f"{text!r} is neither a share nor a size; write it like 10% or 5G")
    if isinstance(text, str) and text.strip().endswith("%"):
        try:
            share = float(text.strip()[:-1]) / 100
        except ValueError:
            raise ValueError(f"{text!r} is no share; write it like 10%") from None
        if not 0 <= share < 1:
            raise ValueError(f"{text!r}: a share lies between 0% and 100%")
        return share
    return parse_size(text)
