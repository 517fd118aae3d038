"""``refresh-cache`` over the control socket (``control.calls`` describes the shapes)."""

import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import trio

from gatewayfs.config import RefreshOptions
from gatewayfs.config.units import parse_moment
from gatewayfs.control import calls
from gatewayfs.control.server import Handler
from gatewayfs.control.server import Progress as Tell
from gatewayfs.errors import FsError, GatewayError, UserError
from gatewayfs.events.envelope import utc
from gatewayfs.meta.env import MetaStore
from gatewayfs.refresh.jobs import Job, Jobs, Record
from gatewayfs.runtime.clock import Clock
from gatewayfs.runtime.weekly import minute_of_week, zone

log = logging.getLogger(__name__)

LOOK_S_MAX = 30.0
"""Should the wall clock be set, the schedule follows within this time."""

PROGRESS_S = 0.25
"""How often a waiting command line hears how far things are."""


class Refreshing:
    """Handlers of the refreshes of one share."""

    def __init__(self, jobs: Jobs, meta: MetaStore, clock: Clock) -> None:
        self._jobs, self._meta, self._clock = jobs, meta, clock

    def handlers(self) -> Mapping[str, Handler]:
        """For the control server."""
        return {calls.REFRESH: self._begin, calls.REFRESH_JOBS: self._list, calls.REFRESH_CANCEL: self._cancel}

    async def _begin(self, args: dict[str, Any], progress: Tell) -> dict[str, Any]:
        folders = args.get("folders") or [""]
        if not isinstance(folders, list) or not all(isinstance(item, str) for item in folders):
            raise UserError("folders must be a list of paths")
        try:
            job = await self._jobs.start(folders, recursive=bool(args.get("recursive", True)))
        except FsError as problem:
            raise UserError(str(problem)) from problem
        await self._meta.sync()
        if args.get("wait"):
            await self._wait(job, progress)
        return self._plain(job.record)

    async def _wait(self, job: Job, progress: Tell) -> None:
        """Tell how far it is until it has ended. Who leaves does not end it."""
        everything = job.record.folders == ("/",) and job.record.recursive
        while not job.ended.is_set():
            told = asdict(job.record.progress.report())
            if everything:
                told["names_total"] = self._meta.inode_count
            progress(told)
            with trio.move_on_after(PROGRESS_S):
                await job.ended.wait()

    async def _list(self, _args: dict[str, Any], _progress: Tell) -> dict[str, Any]:
        return {
            "running": [self._plain(record) for record in self._jobs.running],
            "recent": [self._plain(record) for record in self._jobs.recent()],
        }

    async def _cancel(self, args: dict[str, Any], _progress: Tell) -> dict[str, Any]:
        await self._jobs.cancel(str(args.get("notification_id", "")))
        return {}

    def _plain(self, record: Record) -> dict[str, Any]:
        """A ``calls.RefreshJob``."""
        started_ns = record.progress.since_ns
        return {
            "notification_id": record.identity,
            "state": record.state,
            "reason": record.reason,
            "folders": list(record.folders),
            "recursive": record.recursive,
            "cause": record.cause,
            "started": utc(started_ns),
            "completed": utc(record.completed_ns) if record.completed_ns else None,
            "elapsed_s": ((record.completed_ns or self._clock.time_ns()) - started_ns) / 1e9,
            "report": asdict(record.progress.report()),
        }


class Scheduled:
    """Refreshes the whole share at the moments the configuration names; what a stopped gateway misses is left out."""

    def __init__(self, jobs: Jobs, clock: Clock, options: RefreshOptions) -> None:
        self._jobs, self._clock = jobs, clock
        self._moments = [parse_moment(moment) for moment in options.schedule]
        self._zone = zone(options.time_zone)

    async def run(self) -> None:
        """Follow the schedule, for ever."""
        begun: tuple[int, int] | None = None
        while self._moments:
            day, minute = minute_of_week(self._clock.time_ns(), self._zone)
            due = any(day in days and minute == at for days, at in self._moments)
            if due and begun != (day, minute):
                begun = day, minute
                await self._begin()
            elif not due:
                begun = None
            left_s = 60 - self._clock.time_ns() % 60_000_000_000 / 1e9
            await trio.sleep(min(left_s, LOOK_S_MAX))

    async def _begin(self) -> None:
        try:
            await self._jobs.start(["/"], recursive=True, cause="schedule")
        except GatewayError as problem:
            log.warning("the scheduled refresh did not begin: %s", problem)
