"""Which limit counts: configured, set since, or the schedule's; and what a restart makes of it."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trio

from gatewayfs.config import ThrottleOptions
from gatewayfs.daemon.throttling import Throttling
from gatewayfs.errors import UserError
from gatewayfs.meta.env import MetaStore
from gatewayfs.runtime.clock import ManualClock
from gatewayfs.runtime.throttle import Throttle
from tests.component.meta.stores import crashed_copy, new_store, open_store

MONDAY_NOON = int(datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp()) * 1_000_000_000
WORK = {
    "DaysOfWeek": [1, 2, 3, 4, 5],
    "StartHourOfDay": 8,
    "StartMinuteOfHour": 0,
    "EndHourOfDay": 17,
    "EndMinuteOfHour": 59,
    "AverageUploadRateLimitInBitsPerSec": 8_000_000,
}


class Share:
    """One life of a daemon, as far as bandwidth goes."""

    def __init__(self, meta: MetaStore, now_ns: int = MONDAY_NOON, **options: Any) -> None:
        self.throttle = Throttle()
        self.clock = ManualClock(now_ns)
        self.throttling = Throttling(self.throttle, meta, self.clock, ThrottleOptions.model_validate(options))

    @property
    def limits(self) -> tuple[int | None, int | None]:
        return self.throttle.upload.limit, self.throttle.download.limit

    async def call(self, name: str, **args: Any) -> dict[str, Any]:
        result = await self.throttling.handlers()[name](args, lambda frame: None)
        return dict(json.loads(json.dumps(result)))  # as it goes over the socket

    async def sources(self) -> tuple[str, str]:
        result = await self.call("throttle")
        return result["upload"]["limit_from"], result["download"]["limit_from"]


@pytest.fixture
def meta(tmp_path: Path) -> MetaStore:
    return new_store(tmp_path / "a")


async def test_the_configuration_says_what_counts_first(meta: MetaStore) -> None:
    assert Share(meta).limits == (None, None)
    share = Share(meta, upload="40Mbit", download="1MB/s")
    assert share.limits == (5_000_000, 1_000_000)
    assert await share.sources() == ("configuration", "configuration")


async def test_a_limit_that_is_set_counts_at_once_and_after_a_crash(meta: MetaStore, tmp_path: Path) -> None:
    share = Share(meta, upload="40Mbit", download="40Mbit")
    answer = await share.call("throttle-set", upload_bytes_per_s=1_000_000)
    assert share.limits == (1_000_000, 5_000_000)
    assert answer["upload"]["limit_bytes_per_s"] == 1_000_000
    assert await share.sources() == ("set", "configuration")
    again = Share(open_store(crashed_copy(meta, tmp_path / "b")), upload="40Mbit", download="40Mbit")
    assert again.limits == (1_000_000, 5_000_000)


async def test_off_is_kept_as_well(meta: MetaStore, tmp_path: Path) -> None:
    await Share(meta, upload="40Mbit").call("throttle-set", upload_bytes_per_s=None)
    assert Share(open_store(crashed_copy(meta, tmp_path / "b")), upload="40Mbit").limits == (None, None)


async def test_a_changed_configuration_wins_over_what_was_set_before_it_for_its_direction_only(meta: MetaStore) -> None:
    await Share(meta, upload="40Mbit").call(
        "throttle-set", upload_bytes_per_s=1_000_000, download_bytes_per_s=2_000_000
    )
    assert Share(meta, upload="80Mbit").limits == (10_000_000, 2_000_000)
    assert Share(meta, upload="40Mbit", download="8Mbit").limits == (1_000_000, 1_000_000)
    assert Share(meta, download="off").limits == (None, 2_000_000)


@pytest.mark.parametrize("limit", [6_399, 0, -1, "40Mbit", 1e6, True])
async def test_a_limit_that_is_none_is_refused_and_nothing_changes(meta: MetaStore, limit: object) -> None:
    share = Share(meta)
    with pytest.raises(UserError, match="upload limit must be at least 6400"):
        await share.call("throttle-set", download_bytes_per_s=1_000_000, upload_bytes_per_s=limit)
    assert share.limits == (None, None)


async def test_an_interval_counts_for_the_directions_it_names_and_only_while_it_lasts(
    meta: MetaStore, autojump_clock: trio.testing.MockClock
) -> None:
    share = Share(meta, upload="40Mbit", download="40Mbit")
    answer = await share.call("throttle-schedule", intervals=[WORK])
    assert answer["intervals"] == [WORK]
    assert answer["interval"] == "Mon,Tue,Wed,Thu,Fri 08:00-17:59"
    assert share.limits == (1_000_000, 5_000_000)
    assert await share.sources() == ("schedule", "configuration")
    share.clock.advance(6 * 3600 - 1)  # 17:59:59
    share.throttling.apply()
    assert share.limits == (1_000_000, 5_000_000)
    share.clock.advance(1)
    share.throttling.apply()
    assert share.limits == (5_000_000, 5_000_000)
    assert (await share.call("throttle"))["interval"] is None


async def test_a_limit_set_during_an_interval_counts_after_it(meta: MetaStore) -> None:
    share = Share(meta)
    await share.call("throttle-schedule", intervals=[WORK])
    await share.call("throttle-set", upload_bytes_per_s=3_000_000)
    assert share.limits == (1_000_000, None)
    share.clock.advance(6 * 3600)
    share.throttling.apply()
    assert share.limits == (3_000_000, None)


async def test_the_schedule_is_kept_and_goes_by_the_clock_of_the_shares_zone(meta: MetaStore, tmp_path: Path) -> None:
    await Share(meta).call("throttle-schedule", intervals=[WORK])
    kept = open_store(crashed_copy(meta, tmp_path / "b"))
    assert Share(kept).limits == (1_000_000, None)
    assert Share(kept, time_zone="Pacific/Auckland").limits == (None, None)  # 1 in the morning there


async def test_the_schedule_is_followed_to_the_second(meta: MetaStore, autojump_clock: trio.testing.MockClock) -> None:
    class TrioClock(ManualClock):
        def time_ns(self) -> int:
            return self.now_ns + int(trio.current_time() * 1e9)

    share = Share(meta)
    await share.call("throttle-schedule", intervals=[WORK])
    share.throttling._clock = TrioClock(MONDAY_NOON + 1_500_000_000)  # not on a full minute
    began_s = trio.current_time()
    share.throttling._clock.now_ns -= int(began_s * 1e9)  # type: ignore[attr-defined]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(share.throttling.run)
        await trio.sleep(6 * 3600 - 1.5 - 0.01)
        assert share.limits == (1_000_000, None)
        await trio.sleep(0.02)
        assert share.limits == (None, None)
        nursery.cancel_scope.cancel()


async def test_a_bad_schedule_is_refused_and_the_old_one_stays(meta: MetaStore) -> None:
    share = Share(meta)
    await share.call("throttle-schedule", intervals=[WORK])
    with pytest.raises(UserError, match="overlap"):
        await share.call("throttle-schedule", intervals=[WORK, WORK])
    with pytest.raises(UserError, match="not a schedule"):
        await share.call("throttle-schedule")
    assert (await share.call("throttle"))["intervals"] == [WORK]
    assert (await share.call("throttle-schedule", intervals=[]))["intervals"] == []
    assert share.limits == (None, None)
