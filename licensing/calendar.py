"""Days and moments in UTC: as reports name them, as people read them, and as days of cure are counted (C24)."""

from datetime import UTC, datetime

DAY_S = 86_400.0
SATURDAY = 5  # datetime.weekday()
EPOCHS_WEEKDAY = 3  # 1970-01-01 was a Thursday


def business_days_after(since: float, days: int) -> float:
    """The end (UTC midnight) of the given number of business days after the day of `since` (C24).

    Saturdays and Sundays do not count. Public holidays differ from place to place and are not known here: the vendor clears a
    finding by hand where one falls into the time.
    """
    day = int(since // DAY_S)
    left = days
    while left > 0:
        day += 1
        left -= (day + EPOCHS_WEEKDAY) % 7 < SATURDAY
    return (day + 1) * DAY_S


def say_time(at: float) -> str:
    """A moment as people read it: `2026-12-01 00:00 UTC`."""
    # isoformat takes a fifth of strftime's time, and a judgement may say a dozen moments.
    return f"{datetime.fromtimestamp(at, UTC).isoformat(' ', 'minutes')[:16]} UTC"


def day_of(at: float) -> str:
    """The UTC day of a moment, as reports name it: `2026-12-01`."""
    return datetime.fromtimestamp(at, UTC).date().isoformat()


def start_of_day(day: str) -> float:
    """The UTC midnight at which a day ("2026-12-01") begins."""
    return datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()


def next_midnight(at: float) -> float:
    """The end of the UTC day of `at`."""
    return (at // DAY_S + 1) * DAY_S
