"""The weekly schedule: what it refuses, and what counts at any minute, through midnight and clock changes."""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayfs.errors import UserError
from gatewayfs.runtime.weekly import DAY_MINUTES, INTERVALS_MAX, minute_of_week, parse_schedule, zone


def interval(days: list[int], start: tuple[int, int], end: tuple[int, int], **more: Any) -> dict[str, Any]:
    limits = more or {"AverageUploadRateLimitInBitsPerSec": 40_000_000}
    return {
        "DaysOfWeek": days,
        "StartHourOfDay": start[0],
        "StartMinuteOfHour": start[1],
        "EndHourOfDay": end[0],
        "EndMinuteOfHour": end[1],
    } | limits


WORK = interval([1, 2, 3, 4, 5], (8, 0), (17, 59))


def mistake_of(data: object) -> str:
    with pytest.raises(UserError) as caught:
        parse_schedule(data)
    return caught.value.message


def test_an_interval_begins_with_its_first_minute_and_ends_at_the_end_of_its_last() -> None:
    schedule = parse_schedule([WORK])
    monday = [minute for minute in range(DAY_MINUTES) if schedule.at(1, minute)]
    assert (monday[0], monday[-1], len(monday)) == (8 * 60, 17 * 60 + 59, 600)
    assert not any(schedule.at(day, minute) for day in (0, 6) for minute in range(DAY_MINUTES))


def test_two_intervals_carry_a_night_through_midnight_without_a_gap() -> None:
    schedule = parse_schedule([interval([6], (22, 0), (23, 59)), interval([0], (0, 0), (5, 59))])
    night = [(6, minute) for minute in range(22 * 60, DAY_MINUTES)] + [(0, minute) for minute in range(6 * 60)]
    assert all(schedule.at(*when) for when in night)
    assert schedule.at(6, 22 * 60 - 1) is None
    assert schedule.at(0, 6 * 60) is None


def test_the_output_of_aws_tools_is_taken_and_given_back() -> None:
    both = WORK | {"AverageDownloadRateLimitInBitsPerSec": 51_200}
    schedule = parse_schedule({"GatewayARN": "arn:aws:...", "BandwidthRateLimitIntervals": [both]})
    assert schedule.plain() == [both]
    assert parse_schedule([WORK]).plain() == [WORK]
    assert (schedule.intervals[0].upload_bytes_per_s, schedule.intervals[0].download_bytes_per_s) == (5_000_000, 6_400)


@pytest.mark.parametrize(
    "wrong, told",
    [
        (WORK | {"EndHourOfDay": 7}, "split what passes midnight"),
        (interval([1], (10, 1), (10, 0)), "split what passes midnight"),
        (WORK | {"StartHourOfDay": 24}, "hours are 0 to 23"),
        (WORK | {"StartHourOfDay": -1}, "hours are 0 to 23"),
        (WORK | {"EndMinuteOfHour": 60}, "minutes 0 to 59"),
        (WORK | {"DaysOfWeek": []}, "one to seven different days"),
        (WORK | {"DaysOfWeek": [1, 1]}, "one to seven different days"),
        (WORK | {"DaysOfWeek": [7]}, "0 (Sunday) to 6"),
        (WORK | {"AverageUploadRateLimitInBitsPerSec": 51_199}, "at least 51200"),
        (WORK | {"AverageUploadRateLimitInBitsPerSec": 0}, "at least 51200"),
        (WORK | {"AverageUploadRateLimitInBitsPerSec": None}, "it limits nothing"),
        (WORK | {"AverageUploadRateLimitInBitsPerSec": 4e7 + 0.5}, "Expected `int | null`"),
        (WORK | {"StartHourOfDay": "8"}, "Expected `int`"),
        (WORK | {"StartHourOfDay": True}, "Expected `int`"),
        (WORK | {"StartSecond": 1}, "unknown field `StartSecond`"),
        ({key: value for key, value in WORK.items() if key != "EndMinuteOfHour"}, "`EndMinuteOfHour`"),
    ],
)
def test_an_interval_that_breaks_a_rule_is_refused_by_name(wrong: dict[str, Any], told: str) -> None:
    assert told in mistake_of([wrong])


@pytest.mark.parametrize("wrong", [None, 3, "x", {"Intervals": []}, [3]])
def test_what_is_no_schedule_is_refused(wrong: object) -> None:
    assert mistake_of(wrong).startswith("not a schedule")


def test_all_mistakes_are_told_with_the_number_of_their_interval() -> None:
    lines = mistake_of([WORK, WORK | {"DaysOfWeek": [9]}, WORK | {"EndHourOfDay": 25}]).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["interval 2", "interval 3"]


def test_overlaps_are_refused_even_of_one_minute_and_neighbours_are_not() -> None:
    ends = interval([1, 2], (8, 0), (9, 59))
    assert mistake_of([ends, interval([2, 3], (9, 59), (12, 0))]) == "intervals 1 and 2 overlap on Tue"
    assert len(parse_schedule([ends, interval([2, 3], (10, 0), (12, 0))]).intervals) == 2
    assert len(parse_schedule([ends, interval([3], (8, 0), (9, 59))]).intervals) == 2


def test_twenty_intervals_are_taken_and_twenty_one_refused() -> None:
    many = [interval([1], (0, minute), (0, minute)) for minute in range(INTERVALS_MAX + 1)]
    assert len(parse_schedule(many[:-1]).intervals) == 20
    assert mistake_of(many) == "21 intervals are too many; at most 20"


SPANS = st.tuples(
    st.sets(st.integers(0, 6), min_size=1), st.integers(0, DAY_MINUTES - 1), st.integers(0, DAY_MINUTES - 1)
)


@given(st.lists(SPANS, max_size=4))
def test_a_schedule_is_taken_exactly_when_no_minute_of_the_week_has_two_intervals(
    spans: list[tuple[set[int], int, int]],
) -> None:
    spans = [(days, min(start, end), max(start, end)) for days, start, end in spans]
    data = [interval(sorted(days), divmod(start, 60), divmod(end, 60)) for days, start, end in spans]
    week: dict[tuple[int, int], int] = {}
    twice = False
    for number, (days, start, end) in enumerate(spans):
        for day in days:
            for minute in range(start, end + 1):
                twice |= week.setdefault((day, minute), number) != number
    if twice:
        assert "overlap" in mistake_of(data)
        return
    schedule = parse_schedule(data)
    for day in range(7):
        for minute in range(DAY_MINUTES):
            found = schedule.at(day, minute)
            number = week.get((day, minute))
            assert found == (None if number is None else schedule.intervals[number])


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000_000


def test_the_day_and_minute_are_those_of_the_zone() -> None:
    assert minute_of_week(ns("2026-11-22T23:30"), zone("UTC")) == (0, 23 * 60 + 30)
    assert minute_of_week(ns("2026-11-22T23:30"), ZoneInfo("Europe/Berlin")) == (1, 30)
    assert minute_of_week(ns("2026-11-22T23:30:59") + 999_999_999, ZoneInfo("Asia/Kolkata")) == (1, 5 * 60)


def test_an_hour_the_clock_skips_does_not_happen_and_one_it_repeats_happens_twice() -> None:
    """Berlin, 2026: 29 March has no 2:00 to 2:59, 25 October has it twice; both are Sundays."""
    schedule, berlin = parse_schedule([interval([0], (2, 0), (2, 59))]), ZoneInfo("Europe/Berlin")

    def minutes_of(first: str) -> int:
        begin = ns(first)
        return sum(
            schedule.at(*minute_of_week(begin + minute * 60_000_000_000, berlin)) is not None
            for minute in range(2 * DAY_MINUTES)
        )

    assert minutes_of("2026-03-22T00:00") == 60
    assert minutes_of("2026-03-28T12:00") == 0
    assert minutes_of("2026-10-24T12:00") == 120


def test_in_utc_nothing_needs_a_time_zone_database() -> None:
    assert zone("UTC") is UTC
