"""The whole share is refreshed at the moments the configuration names."""

import pytest
import trio

from gatewayfs.config import RefreshOptions
from gatewayfs.daemon.refreshing import Scheduled
from gatewayfs.errors import UserError
from gatewayfs.runtime.clock import ManualClock

SUNDAY_0259_NS = 1_800_154_740 * 10**9
"""2027-01-17 02:59:00 UTC."""


class JobsStandIn:
    def __init__(self) -> None:
        self.begun: list[tuple[tuple[str, ...], bool, str]] = []

    async def start(self, folders: list[str], *, recursive: bool, cause: str) -> None:
        self.begun.append((tuple(folders), recursive, cause))
        if len(self.begun) == 1:
            raise UserError("two refreshes are running")


async def follow(options: RefreshOptions, minutes: int) -> list[int]:
    """The minutes after 02:59 in which a refresh began."""
    clock, jobs, found = ManualClock(SUNDAY_0259_NS), JobsStandIn(), []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Scheduled(jobs, clock, options).run)  # type: ignore[arg-type]
        for minute in range(minutes):
            before = len(jobs.begun)
            for _ in range(4):  # the loop looks twice a minute or oftener
                await trio.sleep(15)
                clock.advance(15)
            found += [minute] * (len(jobs.begun) - before)
        nursery.cancel_scope.cancel()
    assert {tuple(each) for each in jobs.begun} <= {(("/",), True, "schedule")}
    return found


@pytest.mark.parametrize(
    ("schedule", "zone", "minutes"),
    [
        (["daily 03:00"], "UTC", [1]),
        (["Sun 3:00", "Mon,Sun 03:02"], "UTC", [1, 3]),
        (["Mon,Sat 03:00"], "UTC", []),
        (["Sun 04:00"], "Europe/Berlin", [1]),
        ([], "UTC", []),
    ],
)
async def test_each_moment_begins_one_refresh(
    schedule: list[str], zone: str, minutes: list[int], autojump_clock: trio.testing.MockClock
) -> None:
    options = RefreshOptions.model_validate({"schedule": schedule, "time_zone": zone})
    assert await follow(options, 6) == minutes
