"""Numbers as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayfs.config import units


@pytest.mark.parametrize(
    "written, expected",
    [
        ("64MiB", 64 << 20),
        ("1.5 GiB", 3 << 29),
        ("5MB", 5_000_000),
        ("5mb", 5_000_000),
        ("64K", 64 << 10),
        ("12kB", 12_000),
        ("7", 7),
        ("7B", 7),
        (7, 7),
        ("9007199254740993", 9007199254740993),  # beyond a float's whole numbers
    ],
)
def test_sizes_are_bytes(written: object, expected: int) -> None:
    assert units.parse_size(written) == expected


@pytest.mark.parametrize("written", ["", "MiB", "-1", "64 potatoes", "1e3", "0.5", "1,5MiB", True, None, [1], "64Mbit"])
def test_what_is_no_size_is_refused_with_the_way_to_write_it(written: object) -> None:
    with pytest.raises(ValueError, match="write a size like"):
        units.parse_size(written)


@pytest.mark.parametrize(
    "written, expected",
    [
        ("40Mbit", 5_000_000),
        ("40 Mbit/s", 5_000_000),
        ("40Mbps", 5_000_000),
        ("8kbit", 1_000),
        ("8bit", 1),
        ("5MB/s", 5_000_000),
        ("1MiB / s", 1 << 20),
        ("1.5Gbit", 187_500_000),
        (1000, 1000),
    ],
)
def test_rates_are_bytes_per_second(written: object, expected: int) -> None:
    assert units.parse_rate(written) == expected


@pytest.mark.parametrize("written", ["fast", "40Mbit/h", "", None, True])
def test_what_is_no_rate_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="write a rate like"):
        units.parse_rate(written)


@pytest.mark.parametrize(
    "written, expected",
    [
        ("2s", 2.0),
        ("500ms", 0.5),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("1d", 86400.0),
        ("2.5", 2.5),
        (3, 3.0),
        (0.5, 0.5),
    ],
)
def test_durations_are_seconds(written: object, expected: float) -> None:
    assert units.parse_duration(written) == pytest.approx(expected)


@pytest.mark.parametrize(
    "written", ["", "soon", "5 weeks", "-2s", -2, float("nan"), float("inf"), "2s later", True, None]
)
def test_what_is_no_duration_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="write a duration like"):
        units.parse_duration(written)


@pytest.mark.parametrize("written, expected", [("0666", 0o666), ("755", 0o755), ("0o1777", 0o1777)])
def test_modes_are_octal(written: str, expected: int) -> None:
    assert units.parse_mode(written) == expected


@pytest.mark.parametrize("written", [666, 0o666, "0888", "66", "0o66666", "rw-r--r--", True])
def test_a_bare_number_is_no_mode_because_toml_reads_it_as_decimal(written: object) -> None:
    with pytest.raises(ValueError, match="octal digits in quotes"):
        units.parse_mode(written)


@given(st.integers(0, 1 << 60))
def test_a_formatted_size_reads_back_exactly(value: int) -> None:
    assert units.parse_size(units.format_size(value)) == value


@given(st.integers(0, 10_000_000).map(lambda ms: ms / 1000))
def test_a_formatted_duration_reads_back(value: float) -> None:
    assert units.parse_duration(units.format_duration(value)) == pytest.approx(value, rel=1e-5)


@given(st.integers(0, 0o7777))
def test_a_formatted_mode_reads_back(value: int) -> None:
    assert units.parse_mode(units.format_mode(value)) == value
