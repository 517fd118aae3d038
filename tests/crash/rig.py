"""A share without a kernel: everything ``daemon/build.py`` wires, except FUSE, the control socket and HTTP.

The same code paths as the daemon's, driven from the same process, over a ``FakeObjectStore`` in this process or in the
test's (``storeserver``). Starts in tens of milliseconds in a forked child, so hundreds of kills fit into a test.
"""

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import trio

from gatewayfs.cache.content import ContentCache
from gatewayfs.cache.limits import Limits as CacheLimits
from gatewayfs.cache.live import Content
from gatewayfs.events.envelope import Origin
from gatewayfs.events.events import Events
from gatewayfs.events.file import FileTarget
from gatewayfs.events.settings import EventSettings
from gatewayfs.meta import committer
from gatewayfs.meta.check import check
from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.opening import Limits
from gatewayfs.meta.schema import Directory, Inode
from gatewayfs.refresh.observed import ObservedStore
from gatewayfs.refresh.refresher import Refresh
from gatewayfs.refresh.settings import RefreshSettings
from gatewayfs.runtime import failpoints
from gatewayfs.runtime.clock import SystemClock
from gatewayfs.runtime.kernel import NoKernel
from gatewayfs.runtime.offload import Offload
from gatewayfs.s3.gate import Gate
from gatewayfs.s3.store import ObjectStore
from gatewayfs.types import ROOT_INO
from gatewayfs.upload.settings import UploadHooks, UploadSettings
from gatewayfs.upload.uploader import Uploader
from gatewayfs.vfs.filesystem import Filesystem
from gatewayfs.vfs.share import Share
from tests.crash.drivers import VfsDriver
from tests.crash.ledger import Blobs, Draining, Finished, Log, Started, found_tree
from tests.crash.steps import AnyStep
from tests.crash.storeserver import SocketStore
from tests.support.fakestore import EVERYTHING

PART_BYTES = 256 << 10
"""Small, so that files of a megabyte go up in parts."""

DRAIN_S_MAX = 30.0

CACHE_BYTES = 2 << 20
"""So small that clean bytes leave all the time."""

CHUNK_BYTES = 64 << 10

COMMIT_INTERVAL_S = 0.1
"""Ten times as often as in life: more commits to die in."""

EVENTS_SETTLE_S = 0.05
"""Long enough for some files to be told of two uploads at once."""

LIMITS = Limits(segment_bytes=64 << 10, map_bytes=1 << 30)
"""Small journal segments, so that new ones are made and old ones go all the time."""


@dataclass
class Rig:
    meta: MetaStore
    cache: ContentCache
    refresh: Refresh
    uploader: Uploader
    filesystem: Filesystem
    events: Events
    told: Path
    """Where events are delivered."""

    def check(self) -> list[str]:
        """What ``gatewayfs check`` says."""
        return check(self.meta) + [
            problem for inode in self.meta.inodes_after(0, 1 << 20) if (problem := self.cache.verify(inode))
        ]

    def left(self) -> list[str]:
        """What still waits for the bucket; after a drain: nothing."""
        dirty = [f"{self.meta.require(ino)} is still dirty" for _, ino in self.meta.iter_dirty()]
        uploads = [f"{ino} has something under way: {state}" for ino, state in self.meta.iter_uploads()]
        return dirty + uploads + [f"{doomed} is still doomed" for doomed in self.meta.iter_doomed()]

    async def untold(self) -> list[str]:
        """After a drain: files of ours whose last upload no event in the file tells of."""
        with trio.move_on_after(DRAIN_S_MAX):
            while (status := self.events.status()).settling or status.targets["file"].waiting:
                await trio.sleep(0.01)
        lines = self.told.read_bytes().splitlines() if self.told.exists() else []
        details = [msgspec.json.decode(line)["detail"] for line in lines if line.endswith(b"}")]
        told = {(detail.get("object-key"), detail.get("object-size")) for detail in details}
        return [
            f"nobody was told of {inode}"
            for inode in self.meta.inodes_after(0, 1 << 20)
            if inode.is_regular and inode.content_revision and inode.remote is not None
            if (inode.remote.key, inode.remote.size) not in told
        ]


async def _let_pass(_content: Content, _offset: int, _length_bytes: int) -> None:
    """Stands for ``Pressure.admit``."""


@asynccontextmanager
async def rig(
    directory: Path,
    store: ObjectStore,
    *,
    settle_s: float = 0.0,
    seed: int = 0,
    boot: str | None = None,
    limits: Limits | None = None,
) -> AsyncIterator[Rig]:
    """Open the share in ``directory``, run its tasks, and stop it in the daemon's order."""
    clock, offload = SystemClock(), Offload(8)
    meta = MetaStore.open(directory, prefix="", clock=clock, offload=offload, boot=boot, limits=limits)
    send, receive = trio.open_memory_channel[Callable[[], None]](1 << 16)
    cache = ContentCache(
        directory,
        meta=meta,
        store=store,
        clock=clock,
        offload=offload,
        background=send.send_nowait,
        deadline_s=20,
        limits=CacheLimits(size_bytes=CACHE_BYTES),
        chunk_bytes=CHUNK_BYTES,
        cell_bytes=PART_BYTES // 16,
    )
    # Writes are not refused: a ledger of what was acknowledged is about crashes, not about space.
    cache.pressure.admit = _let_pass
    if meta.inode(ROOT_INO) is None:
        with meta.transaction() as tx:
            tx.put(root(clock.time_ns()))
    uploaders: list[Uploader] = []
    refresh = Refresh(
        meta=meta,
        store=store,
        cache=cache,
        clock=clock,
        kernel=NoKernel(),
        settings=RefreshSettings(),
        notice=lambda ino: uploaders[0].notice(ino),
    )
    filesystems: list[Filesystem] = []

    async def flush_live(ino: int) -> None:
        await filesystems[0].files.persist(ino)

    told = directory.with_name(f"{directory.name}.events")
    events = Events(
        meta=meta,
        clock=clock,
        rng=random.Random(),
        origin=Origin("share", "host", "bucket", ""),
        settings=EventSettings(settle_s=EVENTS_SETTLE_S),
        takers=[FileTarget(told, Offload(1))],
        arrived=trio.sleep_forever,
    )
    uploader = Uploader(
        meta=meta,
        store=ObservedStore(store, refresh.note_own),
        cache=cache,
        clock=clock,
        rng=random.Random(seed),
        gate=Gate(0.5, random.Random(seed)),
        settings=UploadSettings(
            settle_s=settle_s,
            part_bytes=PART_BYTES,
            part_bytes_min=PART_BYTES // 4,
            cell_bytes=PART_BYTES // 16,
            retry_s_max=0.5,
        ),
        hooks=UploadHooks(
            ensure_listed=refresh.ensure_listed,
            flush_live=flush_live,
            kernel=NoKernel(),
            event=lambda event: None,
            claimant=refresh.claimant,
            note_moved=refresh.note_moved,
            news=events,
        ),
        capabilities=EVERYTHING,
    )
    uploaders.append(uploader)
    filesystem = Filesystem(
        Share(
            meta=meta,
            cache=cache,
            refresh=refresh,
            clock=clock,
            notice=uploader.notice,
            notice_doomed=uploader.notice_doomed,
        )
    )
    filesystems.append(filesystem)
    filesystem.remove_orphans()

    async def background() -> None:
        async for job in receive:
            await offload.run(job)

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(background)
            await nursery.start(meta.run)
            await nursery.start(events.run)
            await nursery.start(refresh.run)
            nursery.start_soon(cache.evictor.run)
            nursery.start_soon(cache.take_stock, meta.inodes_after)
            nursery.start_soon(uploader.run)
            yield Rig(meta, cache, refresh, uploader, filesystem, events, told)
            await filesystem.files.persist_all()
            nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await meta.checkpoint()
    finally:
        cache.close()
        meta.close()


def root(now_ns: int) -> Inode:
    return Inode(
        ino=ROOT_INO,
        parent=0,
        name=b"",
        mode=0o40777,
        uid=0,
        gid=0,
        size=0,
        atime_ns=now_ns,
        mtime_ns=now_ns,
        ctime_ns=now_ns,
        content_revision=0,
        meta_revision=0,
        directory=Directory(complete=False, source=""),
    )


# --------------------------------------------------------------------------- children of a zygote


def child(
    *,
    home: str,
    store: str,
    purpose: str,
    seed: int,
    steps: int,
    armed: str = "",
    settle_s: float = 0.0,
    drain: bool = False,
    finish: bool = False,
    script: str = "",
) -> int:
    """Open the share, look at everything, write steps, perhaps drain; usually ended by SIGKILL on the way.

    Args:
        home: has the log and the blobs (``ledger``), and the cache directory.
        store: the socket of a ``StoreServer``.
        armed: failpoints, as in GATEWAYFS_FAILPOINTS.
        script: steps to carry out instead of random ones, as JSON; ``armed`` counts from the last of them.
        finish: drain, let the share check itself, look again and stop in order.
    """
    log, blobs = Log(f"{home}/log"), Blobs(f"{home}/blobs")
    log.write(Started(purpose))
    committer.COMMIT_INTERVAL_S = COMMIT_INTERVAL_S
    failpoints.arm("" if script else armed)
    assert failpoints.unknown_names() == [], failpoints.unknown_names()

    bucket = SocketStore("bucket", store)

    async def main() -> None:
        async with rig(Path(home, "cache"), bucket, settle_s=settle_s, seed=seed, limits=LIMITS) as share:
            driver = VfsDriver(share.filesystem, log, blobs)
            tree = found_tree(await driver.find(), blobs)
            if script:
                steps_asked = msgspec.json.decode(script, type=list[AnyStep])
                await driver.write_script(steps_asked, lambda: failpoints.arm(armed))
                return
            await driver.write_steps(random.Random(seed), tree, steps)
            if drain or finish:
                log.write(Draining())
                with trio.fail_after(DRAIN_S_MAX):
                    report = await share.uploader.drain()
                assert report.complete, report
            if finish:
                await driver.find()
                log.write(Finished(share.check() + share.left() + await share.untold()))
            else:
                # Work is done; wait to be killed, with whatever goes on in the background.
                await trio.sleep(DRAIN_S_MAX)

    trio.run(main)
    return 0
