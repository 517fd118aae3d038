"""Bandwidth limits of one share: what was configured, what was set since, and what the weekly schedule says now.

Whatever was said last counts, for each direction on its own: a limit set by a call is kept with the configured value of
that moment, and counts until the configuration says something else. During an interval of the schedule the limits the
interval names count instead.
"""

import logging
from collections.abc import Mapping
from typing import Any

import msgspec
import trio

from gatewayfs.config import ThrottleOptions
from gatewayfs.config.units import RATE_BYTES_PER_S_MIN
from gatewayfs.control import calls
from gatewayfs.control.server import Handler
from gatewayfs.control.server import Progress as Tell
from gatewayfs.errors import UserError
from gatewayfs.meta.env import MetaStore
from gatewayfs.runtime.clock import Clock
from gatewayfs.runtime.throttle import Throttle, Valve
from gatewayfs.runtime.weekly import Interval, Schedule, minute_of_week, parse_schedule, zone

log = logging.getLogger(__name__)

SETTING = "throttle"
"""Setting: ``Kept`` as JSON."""

LOOK_S_MAX = 30.0
"""Should the wall clock be set, the schedule follows within this time."""

DIRECTIONS = ("upload", "download")


class KeptLimit(msgspec.Struct, frozen=True):
    """A limit that was set by a call, in bytes per second, and what the configuration said then; None: no limit."""

    limit: int | None
    configured: int | None


class Kept(msgspec.Struct, frozen=True):
    """What outlives the daemon."""

    limits: dict[str, KeptLimit] = {}
    schedule: Schedule = Schedule()


class Throttling:
    """Sets the valves, at once and by the schedule.

    Args:
        throttle: the valves of the share's client.
        meta: where what was set is kept.
    """

    def __init__(self, throttle: Throttle, meta: MetaStore, clock: Clock, options: ThrottleOptions) -> None:
        self._valves: dict[str, Valve] = {"upload": throttle.upload, "download": throttle.download}
        self._configured = {"upload": options.upload, "download": options.download}
        self._zone_name = options.time_zone
        self._zone = zone(options.time_zone)
        self._meta = meta
        self._clock = clock
        raw = meta.setting(SETTING)
        self._kept = msgspec.json.decode(raw, type=Kept) if raw else Kept()
        self._interval: Interval | None = None
        self.apply()

    def __repr__(self) -> str:
        return f"<Throttling {self._valves} by {self._interval}>"

    def handlers(self) -> Mapping[str, Handler]:
        """For the control server."""
        return {
            calls.THROTTLE: self._show,
            calls.THROTTLE_SET: self._set,
            calls.THROTTLE_SCHEDULE: self._schedule,
        }

    async def run(self) -> None:
        """Follow the schedule, for ever."""
        while True:
            self.apply()
            left_s = 60 - self._clock.time_ns() % 60_000_000_000 / 1e9
            await trio.sleep(min(left_s, LOOK_S_MAX))

    def apply(self) -> None:
        """Make the valves say what counts now."""
        interval = self._kept.schedule.at(*minute_of_week(self._clock.time_ns(), self._zone))
        if interval != self._interval:
            log.info("bandwidth schedule: %s", interval or "no interval")
        self._interval = interval
        for direction, valve in self._valves.items():
            limit = self._limit(direction)
            if limit != valve.limit:
                log.info("%s limit: %s", direction, "none" if limit is None else f"{limit} bytes/s")
                valve.set_limit(limit)

    def status(self) -> dict[str, Any]:
        """Limits and rates of this moment, for ``status``."""
        return {direction: self._state(direction) for direction in DIRECTIONS} | {
            "interval": str(self._interval) if self._interval is not None else None,
        }

    async def _show(self, _args: dict[str, Any], _progress: Tell) -> dict[str, Any]:
        return self.status() | {"time_zone": self._zone_name, "intervals": self._kept.schedule.plain()}

    async def _set(self, args: dict[str, Any], progress: Tell) -> dict[str, Any]:
        limits = dict(self._kept.limits)
        for direction in DIRECTIONS:
            name = f"{direction}_bytes_per_s"
            if name in args:
                limits[direction] = KeptLimit(_checked(direction, args[name]), self._configured[direction])
        self._keep(msgspec.structs.replace(self._kept, limits=limits))
        return await self._show({}, progress)

    async def _schedule(self, args: dict[str, Any], progress: Tell) -> dict[str, Any]:
        self._keep(msgspec.structs.replace(self._kept, schedule=parse_schedule(args.get("intervals"))))
        return await self._show({}, progress)

    def _keep(self, kept: Kept) -> None:
        with self._meta.transaction() as tx:
            tx.put_setting(SETTING, msgspec.json.encode(kept))
        self._kept = kept
        self.apply()

    def _state(self, direction: str) -> dict[str, Any]:
        valve = self._valves[direction]
        return {
            "limit_bytes_per_s": valve.limit,
            "limit_from": self._source(direction) if valve.limit is not None else None,
            "rate_bytes_per_s": valve.rate_bytes_per_s(),
            "total_bytes": valve.total_bytes,
        }

    def _limit(self, direction: str) -> int | None:
        scheduled = self._scheduled(direction)
        if scheduled is not None:
            return scheduled
        kept = self._set_later(direction)
        return self._configured[direction] if kept is None else kept.limit

    def _source(self, direction: str) -> str:
        if self._scheduled(direction) is not None:
            return "schedule"
        return "configuration" if self._set_later(direction) is None else "set"

    def _scheduled(self, direction: str) -> int | None:
        interval = self._interval
        if interval is None:
            return None
        return interval.upload_bytes_per_s if direction == "upload" else interval.download_bytes_per_s

    def _set_later(self, direction: str) -> KeptLimit | None:
        """The limit that was set, unless the configuration has changed since."""
        kept = self._kept.limits.get(direction)
        return kept if kept is not None and kept.configured == self._configured[direction] else None


def _checked(direction: str, limit: object) -> int | None:
    if limit is None:
        return None
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < RATE_BYTES_PER_S_MIN:
        raise UserError(f"the {direction} limit must be at least {RATE_BYTES_PER_S_MIN} bytes per second, or null")
    return limit
