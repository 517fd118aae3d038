"""The life of a gateway: start, serve, stop.

Start: take the cache directory, replay the journal, (first time only) ask the bucket, mount, say ready.
Stop: unmount so that no call comes in any more, record what is open, end the workers, commit, let go. A stop never
drains: what is queued is durable and goes on at the next start; `gatewayfs umount` drains before it asks for the stop.
"""

import contextlib
import gc
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import trio

from gatewayfs._version import __version__
from gatewayfs.config import ShareConfig
from gatewayfs.control.registry import Registration, Registry, runtime_directory
from gatewayfs.control.server import ControlServer
from gatewayfs.daemon.background import Background
from gatewayfs.daemon.build import Parts, build
from gatewayfs.daemon.claim import claim, note_verified
from gatewayfs.daemon.heartbeat import Heartbeat
from gatewayfs.daemon.learning import learn_capabilities, renew_capabilities, stored_capabilities
from gatewayfs.daemon.refreshing import Scheduled
from gatewayfs.daemon.service import Service, found_problems
from gatewayfs.daemon.storing import DISK_THREADS, open_store
from gatewayfs.daemon.telling import note_end, note_start, open_files
from gatewayfs.errors import CorruptRecord, LocalError, StoreError, UserError
from gatewayfs.export.render import export_number
from gatewayfs.fuse import session
from gatewayfs.meta.env import MetaStore
from gatewayfs.mountpoint import uncover
from gatewayfs.runtime import device, systemd
from gatewayfs.runtime.clock import SystemClock
from gatewayfs.runtime.offload import Offload
from gatewayfs.s3.client import HttpObjectStore
from gatewayfs.upload.fsyncing import WAITING_MAX

log = logging.getLogger(__name__)

DEVICE_LOCK = "device.lock"

FIRST_ANSWER_S = 15.0
"""How long the very first mount of a bucket waits for it: a wrong name or key must be told, not mounted."""


def run_daemon(config: ShareConfig, mountpoint: Path, *, ready: Callable[[], None]) -> int:
    """Serve one share until it is unmounted or told to stop; returns the exit code.

    Args:
        mountpoint: an existing directory, checked by the caller (``gatewayfs.mountpoint``).
        ready: called once the mount serves.

    Raises:
        UserError: the share cannot start; names the thing and the cure.
    """
    trio.run(_main, config, mountpoint, ready, strict_exception_groups=True)
    return 0


async def _main(config: ShareConfig, mountpoint: Path, ready: Callable[[], None]) -> None:
    clock = SystemClock()
    disk_offload = Offload(DISK_THREADS)
    telling = open_files(config, clock)
    http = open_store(config, clock)
    meta = _open_meta(config, clock, disk_offload)
    background = Background(disk_offload)
    try:
        if claim(meta, config, clock):
            await _first_answer(http, config)
            await learn_capabilities(meta, http, config.share.prefix, read_only=config.share.read_only)
            note_verified(meta, read_only=config.share.read_only)
        elif not config.share.read_only:
            await renew_capabilities(meta, http, config.share.prefix)
        http.capabilities = stored_capabilities(meta)
        parts = build(config, meta, http, disk_offload, background, telling)
        await _serve(parts, background, mountpoint, ready)
    finally:
        _close_meta(meta)
        http.close()
        telling.close()


def _open_meta(config: ShareConfig, clock: SystemClock, offload: Offload) -> MetaStore:
    try:
        return MetaStore.open(config.cache.directory, prefix=config.share.prefix, clock=clock, offload=offload)
    except CorruptRecord as problem:
        raise UserError(
            f"the records in {config.cache.directory} are damaged: {problem}",
            f"gatewayfs recover --cache-dir {config.cache.directory} rebuilds every file that is not uploaded yet",
        ) from problem
    except LocalError as problem:
        raise UserError(f"the cache directory {config.cache.directory} cannot be used: {problem}") from problem


def _close_meta(meta: MetaStore) -> None:
    """Commit what is left; should the disk refuse, the journal has it and the next start goes on from there."""
    try:
        meta.close()
    except LocalError as problem:
        log.warning("the last changes stay in the journal until the next start: %s", problem)


async def _first_answer(http: HttpObjectStore, config: ShareConfig) -> None:
    """A bucket that never answered must answer now."""
    try:
        with trio.fail_after(FIRST_ANSWER_S):
            await http.check_bucket(config.share.prefix)
    except trio.TooSlowError:
        raise UserError(
            f"bucket {config.share.bucket} at {http.endpoint_url} did not answer within {FIRST_ANSWER_S:g} s",
            "check the endpoint and the network; later mounts of this cache directory start without it",
            exit_code=4,
        ) from None
    except StoreError as problem:
        raise UserError(
            str(problem),
            "gatewayfs doctor tells what is wrong with the endpoint, the bucket or the credentials",
            exit_code=4 if problem.transient else 1,
        ) from problem


async def _serve(parts: Parts, background: Background, mountpoint: Path, ready: Callable[[], None]) -> None:
    filesystem = parts.filesystem
    if orphans := filesystem.remove_orphans():
        log.info("removed %d files that were unlinked while open when the last gateway ended", orphans)
    if parts.config.share.read_only and (unsent := parts.uploader.operator.unsent()):
        raise UserError(
            f"share.read_only is set, and {unsent} changes in {parts.config.cache.directory} are not in the bucket yet",
            "mount without it and run `gatewayfs drain --wait`; mount.options=ro serves programs read-only meanwhile",
        )
    registry, entry = _register(parts, mountpoint)
    async with (
        _until_gone(registry, entry),
        _mounted(parts, mountpoint),
        trio.open_nursery() as nursery,
    ):
        stop = trio.Event()
        service = Service(parts, mountpoint, entry.started, stop)
        nursery.start_soon(background.run)
        nursery.start_soon(parts.disk.run)
        nursery.start_soon(parts.notifier.run)
        nursery.start_soon(parts.throttling.run)
        nursery.start_soon(parts.archives.run)
        nursery.start_soon(_signals, stop)
        await nursery.start(parts.meta.run)
        # Before anything may happen that it would have to tell.
        await nursery.start(parts.events.run)
        await nursery.start(parts.refresh.run)
        await nursery.start(parts.jobs.run)
        nursery.start_soon(Scheduled(parts.jobs, parts.clock, parts.config.refresh).run)
        await nursery.start(parts.cache.run)
        await nursery.start(filesystem.walking.run)
        nursery.start_soon(parts.cache.tidy_up, parts.meta.inodes_after)
        await nursery.start(ControlServer(Path(entry.socket), service.handlers()).serve)
        await nursery.start(parts.pinning.run)
        nursery.start_soon(_session, stop, WAITING_MAX if parts.config.upload.fsync == "bucket" else 0)
        await nursery.start(parts.uploader.run)
        if parts.following is not None:
            nursery.start_soon(parts.following.run)
        note_start(parts.meta, parts.telling.health)
        nursery.start_soon(parts.telling.health.run, lambda: found_problems(parts))
        # Modules and tables that live as long as the daemon are no garbage. Each full collection that looked at them
        # would stop the event loop for tens of milliseconds.
        gc.collect()
        gc.freeze()
        systemd.notify("READY=1")
        nursery.start_soon(_heartbeat(parts, mountpoint).run)
        log.info("gatewayfs %s serves %s on %s", __version__, _source(parts.config), mountpoint)
        ready()
        await stop.wait()
        systemd.notify("STOPPING=1")
        log.info("stopping")
        session.stop()
        await filesystem.files.persist_all()
        note_end(parts.meta)
        nursery.cancel_scope.cancel()
    parts.cache.close()


def _heartbeat(parts: Parts, mountpoint: Path) -> Heartbeat:
    def status() -> str:
        left, unreachable = parts.uploader.progress(), parts.uploader.status().unreachable
        text = f"serving {mountpoint}; {left.entries} changes ({left.bytes >> 20} MiB) wait for upload"
        return text if unreachable is None else f"{text}; the bucket does not answer: {unreachable.reason}"

    return Heartbeat(mountpoint, Offload(1), systemd.watchdog_s(), status, systemd.notify)


async def _session(stop: trio.Event, waiting_max: int) -> None:
    """Serve the kernel; an unmount from outside ends the daemon."""
    try:
        await session.serve(waiting_max)
    finally:
        stop.set()


@contextlib.asynccontextmanager
async def _mounted(parts: Parts, mountpoint: Path) -> AsyncIterator[None]:
    uncover(mountpoint, allow_nonempty=parts.config.mount.allow_nonempty)
    config = parts.config
    options = config.mount.fuse_options | ({"ro"} if config.share.read_only else set())
    with _device(config):
        session.mount(parts.operations, mountpoint, _source(config), options)
    try:
        yield
    finally:
        session.unmount()


def _device(config: ShareConfig) -> contextlib.AbstractContextManager[object]:
    """What is exported keeps its device number, which the handles of NFS clients hold."""
    if not config.export.enabled:
        return contextlib.nullcontext()
    return device.reserved(device.device_for(export_number(config)), runtime_directory() / DEVICE_LOCK)


def _register(parts: Parts, mountpoint: Path) -> tuple[Registry, Registration]:
    """Be found by the command line. Raises UserError when the name or the mount directory is taken."""
    config = parts.config
    registry = Registry(runtime_directory())
    registry.prepare()
    started = datetime.fromtimestamp(parts.clock.time_ns() / 1e9, UTC).isoformat(timespec="seconds")
    entry = registry.register(
        Registration(
            share=config.share.name,
            mountpoint=str(mountpoint),
            pid=os.getpid(),
            socket=str(registry.socket_path(config.share.name)),
            cache_directory=str(config.cache.directory),
            bucket=config.share.bucket,
            prefix=config.share.prefix,
            started=started,
        )
    )
    return registry, entry


@contextlib.asynccontextmanager
async def _until_gone(registry: Registry, entry: Registration) -> AsyncIterator[None]:
    try:
        yield
    finally:
        registry.unregister(entry)


async def _signals(stop: trio.Event) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
        async for number in received:
            log.info("got %s", signal.Signals(number).name)
            stop.set()


def _source(config: ShareConfig) -> str:
    return f"{config.share.bucket}/{config.share.prefix}".rstrip("/")
