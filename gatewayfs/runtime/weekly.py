"""A weekly bandwidth schedule, in the shape of AWS Storage Gateway's UpdateBandwidthRateLimitSchedule.

At most twenty intervals. Each names days (0 is Sunday), a start and an end within a day, and limits. The end is
inclusive: an interval ends at the *end* of its minute, so 9:00 to 17:59 is nine hours and 23:59 is midnight. Intervals
neither overlap nor pass midnight (two of them do), so that at any minute of the week at most one is in effect.

Times are those of a wall clock in some zone. What the schedule says for an hour that the clock skips does not happen;
for an hour that the clock repeats it happens twice.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from gatewayfs.config.units import DAYS
from gatewayfs.errors import UserError

INTERVALS_MAX = 20
BITS_PER_S_MIN = 51_200
DAY_MINUTES = 24 * 60
_LIST = "BandwidthRateLimitIntervals"


class Interval(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One line of a schedule. Limits are bits per second; None leaves that direction as it is outside of intervals."""

    days: tuple[int, ...] = msgspec.field(name="DaysOfWeek")
    start_hour: int = msgspec.field(name="StartHourOfDay")
    start_minute: int = msgspec.field(name="StartMinuteOfHour")
    end_hour: int = msgspec.field(name="EndHourOfDay")
    end_minute: int = msgspec.field(name="EndMinuteOfHour")
    upload_bits_per_s: int | None = msgspec.field(default=None, name="AverageUploadRateLimitInBitsPerSec")
    download_bits_per_s: int | None = msgspec.field(default=None, name="AverageDownloadRateLimitInBitsPerSec")

    @property
    def start(self) -> int:
        """First minute of the day."""
        return self.start_hour * 60 + self.start_minute

    @property
    def end(self) -> int:
        """Last minute of the day, inclusive."""
        return self.end_hour * 60 + self.end_minute

    @property
    def upload_bytes_per_s(self) -> int | None:
        return None if self.upload_bits_per_s is None else self.upload_bits_per_s // 8

    @property
    def download_bytes_per_s(self) -> int | None:
        return None if self.download_bits_per_s is None else self.download_bits_per_s // 8

    def covers(self, day: int, minute: int) -> bool:
        return day in self.days and self.start <= minute <= self.end

    def __str__(self) -> str:
        days = ",".join(DAYS[day] for day in sorted(self.days))
        return f"{days} {self.start_hour:02}:{self.start_minute:02}-{self.end_hour:02}:{self.end_minute:02}"


class Schedule(msgspec.Struct, frozen=True):
    """Checked intervals; empty says nothing at any time."""

    intervals: tuple[Interval, ...] = ()

    def at(self, day: int, minute: int) -> Interval | None:
        """The interval in effect in that minute (of the day) of that day of the week."""
        return next((interval for interval in self.intervals if interval.covers(day, minute)), None)

    def plain(self) -> list[dict[str, Any]]:
        """As it is written in JSON."""
        plain: list[dict[str, Any]] = msgspec.json.decode(msgspec.json.encode(self.intervals))
        return plain


def parse_schedule(data: object) -> Schedule:
    """Read and check a schedule.

    Args:
        data: decoded JSON: a list of intervals, or an object that holds one under "BandwidthRateLimitIntervals", as
            AWS's own tools print and take it.

    Raises:
        UserError: it is not one, or breaks a rule; one line for each mistake, counting intervals from 1.
    """
    if isinstance(data, dict) and _LIST in data:
        data = data[_LIST]
    try:
        intervals = tuple(msgspec.convert(data, list[Interval]))
    except msgspec.ValidationError as error:
        raise UserError(f"not a schedule: {error}", "see `gatewayfs throttle --help` for an example") from None
    mistakes = []
    if len(intervals) > INTERVALS_MAX:
        mistakes.append(f"{len(intervals)} intervals are too many; at most {INTERVALS_MAX}")
    for number, interval in enumerate(intervals, 1):
        mistakes += (f"interval {number}: {mistake}" for mistake in _mistakes(interval))
    if mistakes or (mistakes := list(_overlaps(intervals))):
        raise UserError("\n".join(mistakes))
    return Schedule(intervals)


def zone(name: str) -> tzinfo:
    """The time zone of that name; UTC needs no database. Raises ZoneInfoNotFoundError."""
    return UTC if name == "UTC" else ZoneInfo(name)


def minute_of_week(wall_ns: int, where: tzinfo) -> tuple[int, int]:
    """What a clock there shows at that time: the day (0 is Sunday) and the minute of the day."""
    local = datetime.fromtimestamp(wall_ns // 1_000_000_000, where)
    return local.isoweekday() % 7, local.hour * 60 + local.minute


def _mistakes(interval: Interval) -> Iterator[str]:
    if not 1 <= len(interval.days) <= 7 or len(set(interval.days)) != len(interval.days):
        yield "DaysOfWeek must name one to seven different days"
    if not all(0 <= day <= 6 for day in interval.days):
        yield "DaysOfWeek are 0 (Sunday) to 6 (Saturday)"
    hours, minutes = (interval.start_hour, interval.end_hour), (interval.start_minute, interval.end_minute)
    if not all(0 <= hour <= 23 for hour in hours) or not all(0 <= minute <= 59 for minute in minutes):
        yield "hours are 0 to 23, minutes 0 to 59; the last minute of a day is 23:59"
    elif interval.end < interval.start:
        yield "it ends before it starts; split what passes midnight into one interval to 23:59 and one from 0:00"
    limits = (interval.upload_bits_per_s, interval.download_bits_per_s)
    if limits == (None, None):
        yield "it limits nothing; give AverageUploadRateLimitInBitsPerSec or AverageDownloadRateLimitInBitsPerSec"
    if any(limit is not None and limit < BITS_PER_S_MIN for limit in limits):
        yield f"limits are at least {BITS_PER_S_MIN} bits per second"


def _overlaps(intervals: tuple[Interval, ...]) -> Iterator[str]:
    for second, later in enumerate(intervals, 1):
        for first, earlier in enumerate(intervals[: second - 1], 1):
            days = set(earlier.days) & set(later.days)
            if days and earlier.start <= later.end and later.start <= earlier.end:
                yield f"intervals {first} and {second} overlap on {DAYS[min(days)]}"
