"""Bandwidth limits as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayfs.config import ConfigError, load
from gatewayfs.config.units import RATE_BYTES_PER_S_MIN, format_rate, parse_rate_limit


@pytest.mark.parametrize(
    "written, bytes_per_s",
    [
        ("40Mbit", 5_000_000),
        ("40 Mbit/s", 5_000_000),
        ("40Mbps", 5_000_000),
        ("5MB/s", 5_000_000),
        ("64KB/s", 64_000),
        ("64KiB", 65_536),
        ("1.5Gbit", 187_500_000),
        (6400, 6400),
        ("51.2kbit", 6400),
        ("off", None),
        (" OFF ", None),
    ],
)
def test_a_limit_is_bytes_per_second_or_none(written: object, bytes_per_s: int | None) -> None:
    assert parse_rate_limit(written) == bytes_per_s


@pytest.mark.parametrize("written", ["fast", "", "40 Mbit per second", "-1MB", True, None, "0", 6399, "51kbit"])
def test_anything_else_is_refused_with_how_to_write_it(written: object) -> None:
    with pytest.raises(ValueError, match='"off"'):
        parse_rate_limit(written)


@given(st.integers(RATE_BYTES_PER_S_MIN, 10**12))
def test_a_written_limit_reads_back_the_same(rate: int) -> None:
    assert parse_rate_limit(format_rate(rate)) == rate


def test_a_share_has_limits_and_a_zone_of_its_own() -> None:
    sets = ["throttle.upload=40Mbit", "throttle.download=off", "throttle.time_zone=Europe/Berlin"]
    throttle = load(sets=sets, flags={"share.bucket": "photos"}, env={}, euid=0).throttle
    assert (throttle.upload, throttle.download, throttle.time_zone) == (5_000_000, None, "Europe/Berlin")


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../../etc/passwd", "/etc/localtime", "Europe"])
def test_an_unknown_time_zone_is_refused(zone: str) -> None:
    with pytest.raises(ConfigError, match="write a zone that this machine knows"):
        load(sets=[f"throttle.time_zone={zone}"], flags={"share.bucket": "photos"}, env={}, euid=0)
