"""What the control socket answers (``control.calls`` describes the shapes)."""

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import msgspec
import trio

from gatewayfs._version import __version__
from gatewayfs.cache.scrubmarks import report
from gatewayfs.control import calls
from gatewayfs.control.server import Handler
from gatewayfs.control.server import Progress as Tell
from gatewayfs.daemon.build import Parts
from gatewayfs.daemon.eventing import Notifying
from gatewayfs.daemon.lookingagain import LookingAgain
from gatewayfs.daemon.problems import Facts, Problem, problems
from gatewayfs.daemon.queueing import Queueing
from gatewayfs.daemon.refreshing import Refreshing
from gatewayfs.errors import ObjectDamaged
from gatewayfs.meta.check import check_online
from gatewayfs.upload.status import DrainReport, Progress

log = logging.getLogger(__name__)

PROGRESS_S = 0.25
"""How often a waiting command line hears how far things are."""

LEFT_SHOWN = 100


class Service:
    """Handlers of one running share.

    Args:
        started: when this gateway started, as it registered itself.
        stop: set to end the daemon.
    """

    def __init__(self, parts: Parts, mountpoint: Path, started: str, stop: trio.Event) -> None:
        self._parts = parts
        self._mountpoint = mountpoint
        self._stop = stop
        self._started = started
        self._queueing = Queueing(
            parts.uploader.operator, parts.filesystem.names, parts.meta, parts.filesystem.files.persist_all
        )
        share = parts.config.share
        self._looking_again = LookingAgain(parts.refresh.look_again, share.bucket, share.prefix)
        self._refreshing = Refreshing(parts.jobs, parts.meta, parts.clock)
        self._started_ns = parts.clock.time_ns()

    def handlers(self) -> Mapping[str, Handler]:
        """The table for the control server."""
        parts = self._parts
        return {
            calls.STATUS: self.status,
            calls.STATISTICS: self.statistics,
            calls.DRAIN: self.drain,
            calls.LOOK: self._looking_again.handle,
            calls.CHECK: self.check,
            calls.NOTIFY: Notifying(parts.events, parts.meta, parts.filesystem.files.persist_all).handle,
            calls.STOP: self.stop,
            **parts.throttling.handlers(),
            **self._refreshing.handlers(),
            **self._queueing.handlers(),
            **parts.pinning.keeping.handlers(),
            **parts.pinning.handlers(),
        }

    async def status(self, _args: dict[str, Any], _progress: Tell) -> dict[str, Any]:
        parts, config = self._parts, self._parts.config
        upload = parts.uploader.status()
        disk = os.statvfs(config.cache.directory)
        meta = parts.meta.statistics()
        store = parts.store.statistics()
        refresh = parts.refresh.statistics()
        events = parts.events.status()
        archives = parts.archives.status(config.share.prefix)
        return {
            "share": {
                "name": config.share.name,
                "bucket": config.share.bucket,
                "prefix": config.share.prefix,
                "read_only": config.share.read_only,
                "mountpoint": str(self._mountpoint),
                "pid": os.getpid(),
                "version": __version__,
                "started": self._started,
                "uptime_s": (parts.clock.time_ns() - self._started_ns) / 1e9,
                "endpoint_url": parts.http.endpoint_url,
            },
            "cache": {
                "directory": str(config.cache.directory),
                "free_bytes": disk.f_bavail * disk.f_frsize,
                **_plain(parts.cache.statistics()),
                "disk": _plain(parts.disk.status()),
                "scrub": parts.cache.integrity.scrub.status(),
                "pinned": _plain(parts.pinning.status()),
                "ahead_files": parts.filesystem.walking.brought_files,
                "ahead_used_files": parts.filesystem.walking.used_files,
            },
            "upload": _plain(upload),
            "s3": {
                "reachable": upload.unreachable is None,
                "clock_skew_s": parts.http.clock_skew_s,
                "capabilities": _plain(parts.http.capabilities),
                **_plain(store),
            },
            "archived": _plain(archives),
            "throttle": parts.throttling.status(),
            "events": _plain(events),
            "metadata": {**_plain(meta), **_plain(refresh)},
            **({"refresh": {"events": _plain(parts.following.status())}} if parts.following is not None else {}),
            "logs": {"audit": _plain(parts.telling.audit_statistics())},
            "problems": [problem.text for problem in found_problems(parts)],
        }

    async def statistics(self, _args: dict[str, Any], _progress: Tell) -> dict[str, Any]:
        """Raw counters, cheap enough to be asked every second."""
        parts = self._parts
        return {
            "meta": _plain(parts.meta.statistics()),
            "cache": _plain(parts.cache.statistics()),
            "store": _plain(parts.store.statistics()),
            "refresh": _plain(parts.refresh.statistics()),
            "cpu_s": time.process_time(),
            "rss_bytes": _rss_bytes(),
        }

    async def drain(self, args: dict[str, Any], progress: Tell) -> dict[str, Any]:
        parts = self._parts
        await parts.filesystem.files.persist_all()
        if not args.get("wait"):
            await parts.uploader.operator.hurry()
            left = parts.uploader.progress()
            held = parts.uploader.status().held.files
            return {"files_left": left.entries, "bytes_left": left.bytes, "held": held, "left": []}
        timeout_s = args.get("timeout_s")
        report: DrainReport | None = None
        with trio.move_on_after(float("inf") if timeout_s is None else float(timeout_s)):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._report, parts.uploader.progress(), progress)
                report = await parts.uploader.drain()
                nursery.cancel_scope.cancel()
        return self._undrained() if report is None else _drained(report)

    async def check(self, args: dict[str, Any], progress: Tell) -> dict[str, Any]:
        """Records against each other, and the cache files they name; beside running operations."""
        parts = self._parts
        if args.get("scrub"):
            tally = await parts.cache.integrity.scrub.whole(
                lambda _done, found: progress({"checked_bytes": found.checked_bytes})
            )
            return report(tally, parts.cache.integrity.damage.fences)
        found = await check_online(parts.meta)
        looked = after = 0
        while batch := parts.meta.inodes_after(after, 100):
            found += filter(None, map(parts.cache.verify, batch))
            after, looked = batch[-1].ino, looked + len(batch)
            progress({"inodes": looked})
            await trio.lowlevel.checkpoint()
        return {"problems": found, "inodes": looked}

    async def stop(self, args: dict[str, Any], _progress: Tell) -> dict[str, Any]:
        log.info("asked to stop: %s", args.get("reason", "no reason given"))
        self._stop.set()
        return {}

    async def _report(self, begun: Progress, progress: Tell) -> None:
        while True:
            now = self._parts.uploader.progress()
            progress(
                {
                    "files_total": max(begun.entries, now.entries),
                    "files_left": now.entries,
                    "bytes_total": max(begun.bytes, now.bytes),
                    "bytes_left": now.bytes,
                    "bytes_per_s": self._parts.uploader.status().rate_bytes_per_s,
                }
            )
            await trio.sleep(PROGRESS_S)

    def _undrained(self) -> dict[str, Any]:
        """Time ran out: what is left, and why as far as anybody knows."""
        upload = self._parts.uploader.status()
        left = [{"path": entry.key, "reason": entry.parked.reason} for entry in upload.parked[:LEFT_SHOWN]]
        left += [{"path": entry.key, "reason": f"under way: {entry.doing}"} for entry in upload.in_flight]
        if upload.unreachable is not None:
            left.append({"path": "everything else", "reason": upload.unreachable.reason})
        return {
            "files_left": upload.entries,
            "bytes_left": upload.entries_bytes,
            "held": upload.held.files,
            "left": left[:LEFT_SHOWN],
        }


def found_problems(parts: Parts) -> list[Problem]:
    """What an administrator should know now."""
    disk = os.statvfs(parts.config.cache.directory)
    facts = Facts(
        upload=parts.uploader.status(),
        meta=parts.meta.statistics(),
        refresh=parts.refresh.statistics(),
        events=parts.events.status(),
        following=None if parts.following is None else parts.following.status(),
        archives=parts.archives.status(parts.config.share.prefix),
        cache=parts.cache.statistics(),
        pins=parts.pinning.status(),
        free_bytes=disk.f_bavail * disk.f_frsize,
        disk=parts.disk.status(),
        clock_skew_s=parts.http.clock_skew_s,
        audit=parts.telling.audit_statistics(),
        damaged_objects=parts.store.statistics().errors.get(ObjectDamaged.__name__, 0),
    )
    return problems(facts)


def _drained(report: DrainReport) -> dict[str, Any]:
    """What was written before the call: in the bucket, or left with a reason. Later writes do not count."""
    left = [{"path": entry.key, "reason": entry.parked.reason} for entry in report.left[:LEFT_SHOWN]]
    files = len(report.left) + report.held
    return {"files_left": files, "bytes_left": 0, "held": report.held, "left": left}


def _plain(value: Any) -> Any:
    """Dataclasses as dicts, tuples as lists, all the way down: what JSON takes."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.asdict(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    return value


def _rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
