"""What the control socket answers (``control.calls`` describes the shapes)."""

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import trio

from gatewayfs._version import __version__
from gatewayfs.control import calls
from gatewayfs.control.server import Handler, Progress
from gatewayfs.daemon.build import Parts
from gatewayfs.daemon.problems import problems
from gatewayfs.errors import UserError
from gatewayfs.meta.check import check_online

log = logging.getLogger(__name__)

PROGRESS_S = 0.25
"""How often a waiting command line hears how far things are."""

LEFT_SHOWN = 100
FOLDERS_MAX = 50
"""File Gateway's limit of RefreshCache."""


class Service:
    """Handlers of one running share.

    Args:
        stop: set to end the daemon.
        nursery: for what goes on after a call was answered.
    """

    def __init__(self, parts: Parts, mountpoint: Path, stop: trio.Event, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._parts = parts
        self._mountpoint = mountpoint
        self._stop = stop
        self._started_ns = parts.clock.time_ns()

    @property
    def started_text(self) -> str:
        """When this gateway started, UTC, ISO 8601."""
        return datetime.fromtimestamp(self._started_ns / 1e9, UTC).isoformat(timespec="seconds")

    def handlers(self) -> Mapping[str, Handler]:
        """The table for the control server."""
        return {
            calls.STATUS: self.status,
            calls.STATISTICS: self.statistics,
            calls.DRAIN: self.drain,
            calls.REFRESH: self.refresh,
            calls.CHECK: self.check,
            calls.STOP: self.stop,
        }

    async def status(self, _args: dict[str, Any], _progress: Progress) -> dict[str, Any]:
        parts, config = self._parts, self._parts.config
        upload = parts.uploader.status()
        disk = os.statvfs(config.cache.directory)
        meta = parts.meta.statistics()
        store = parts.store.statistics()
        refresh = parts.refresh.statistics()
        return {
            "share": {
                "name": config.share.name,
                "bucket": config.share.bucket,
                "prefix": config.share.prefix,
                "mountpoint": str(self._mountpoint),
                "pid": os.getpid(),
                "version": __version__,
                "started": self.started_text,
                "uptime_s": (parts.clock.time_ns() - self._started_ns) / 1e9,
                "endpoint_url": parts.http.endpoint_url,
            },
            "cache": {
                "directory": str(config.cache.directory),
                "free_bytes": disk.f_bavail * disk.f_frsize,
                "dirty_bytes": upload.entries_bytes,
                **_plain(parts.cache.statistics()),
            },
            "upload": _plain(upload),
            "s3": {
                "reachable": upload.unreachable is None,
                "clock_skew_s": parts.http.clock_skew_s,
                "capabilities": _plain(parts.http.capabilities),
                **_plain(store),
            },
            "metadata": {**_plain(meta), **_plain(refresh)},
            "problems": problems(upload, meta, refresh, disk.f_bavail * disk.f_frsize),
        }

    async def statistics(self, _args: dict[str, Any], _progress: Progress) -> dict[str, Any]:
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

    async def drain(self, args: dict[str, Any], progress: Progress) -> dict[str, Any]:
        parts = self._parts
        await parts.filesystem.files.persist_all()
        timeout = args.get("timeout_s")
        if not args.get("wait"):
            self._nursery.start_soon(parts.uploader.drain)
            return self._left()
        begun = parts.uploader.progress()
        with trio.move_on_after(timeout if timeout is not None else float("inf")):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._report, begun, progress)
                await parts.uploader.drain()
                nursery.cancel_scope.cancel()
        return self._left()

    async def refresh(self, args: dict[str, Any], _progress: Progress) -> dict[str, Any]:
        folders = args.get("folders") or [""]
        if not isinstance(folders, list) or not all(isinstance(item, str) for item in folders):
            raise UserError("folders must be a list of paths")
        if len(folders) > FOLDERS_MAX:
            raise UserError(f"at most {FOLDERS_MAX} folders at a time", "refresh their common parent instead")
        report = await self._parts.refresh.refresh(folders, recursive=bool(args.get("recursive", True)))
        result: dict[str, Any] = _plain(report)
        return result

    async def check(self, _args: dict[str, Any], progress: Progress) -> dict[str, Any]:
        """Records against each other, and the cache files they name; beside running operations."""
        parts = self._parts
        found = await check_online(parts.meta)
        looked = after = 0
        while batch := parts.meta.inodes_after(after, 100):
            found += filter(None, map(parts.cache.verify, batch))
            after, looked = batch[-1].ino, looked + len(batch)
            progress({"inodes": looked})
            await trio.lowlevel.checkpoint()
        return {"problems": found, "inodes": looked}

    async def stop(self, args: dict[str, Any], _progress: Progress) -> dict[str, Any]:
        log.info("asked to stop: %s", args.get("reason", "no reason given"))
        self._stop.set()
        return {}

    async def _report(self, begun: Any, progress: Progress) -> None:
        while True:
            now = self._parts.uploader.progress()
            progress(
                {
                    "files_total": max(begun.entries, now.entries),
                    "files_left": now.entries,
                    "bytes_total": max(begun.bytes, now.bytes),
                    "bytes_left": now.bytes,
                }
            )
            await trio.sleep(PROGRESS_S)

    def _left(self) -> dict[str, Any]:
        parts = self._parts
        progress = parts.uploader.progress()
        status = parts.uploader.status()
        left = [{"path": entry.key, "reason": entry.parked.reason} for entry in status.parked[:LEFT_SHOWN]]
        return {"files_left": progress.entries, "bytes_left": progress.bytes, "left": left}


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
