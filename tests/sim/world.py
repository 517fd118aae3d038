"""Everything below the transport, running in one trio loop with a fake bucket, a manual clock and no threads.

``World`` starts the parts as ``daemon`` does, stops them in order, or drops them as ``kill -9`` would: nothing is
flushed, closed or cancelled politely; the cache directory is all that is left. ``FakeKernel`` stands for the kernel's
caches: it believes every attribute it was told until it is told to forget, or until an operation that went through it
changed the inode, which the real kernel notices by itself.
"""

import math
import random
import stat
from collections import deque
from collections.abc import Callable
from pathlib import Path

import trio

from gatewayfs.cache.content import ContentCache
from gatewayfs.cache.limits import Limits
from gatewayfs.cache.live import Content
from gatewayfs.cache.packs import ENTRY_HEADER_BYTES
from gatewayfs.cache.room import Resident, chunk_sizes, key_of
from gatewayfs.errors import StoreUnreachable
from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.schema import PLACED_IN_FILE, Directory, Inode
from gatewayfs.refresh.observed import ObservedStore
from gatewayfs.refresh.refresher import Refresh
from gatewayfs.refresh.settings import RefreshSettings
from gatewayfs.runtime.clock import ManualClock
from gatewayfs.runtime.offload import InlineOffload
from gatewayfs.s3.attributes import ShareDefaults
from gatewayfs.s3.gate import Gate, GatedStore
from gatewayfs.types import ROOT_INO
from gatewayfs.upload.settings import UploadHooks, UploadSettings
from gatewayfs.upload.uploader import Uploader
from gatewayfs.vfs.filesystem import Filesystem
from gatewayfs.vfs.share import Share
from tests.support.fakestore import FAKE_EPOCH_NS, FakeObjectStore
from tests.support.faultystore import ANY, FOREVER, FaultyStore

SMALL_FILE_BYTES = 64
"""So small that a program of a few bytes meets both ways to keep them."""

PART_BYTES = 256

RETRY_S_MAX = 20.0

CHUNK_BYTES = 512
"""So that files of a few parts are evicted piece by piece."""

DRAIN_S_MAX = 3600
"""Of the mock clock: longer than every back-off together."""

START_NS = FAKE_EPOCH_NS + 600 * 10**9
"""After every time the fake bucket will say, a second later with each write; near enough to be the same clock."""

DEFAULTS = ShareDefaults()

Seen = tuple[int, int, int, int, int, int, int]


def seen(inode: Inode) -> Seen:
    """What the kernel remembers of an inode."""
    listed = inode.directory is not None and inode.directory.complete
    nlink = 0 if not inode.linked else 2 + inode.directory.subdirectories if listed else 1
    return (inode.mode, inode.uid, inode.gid, inode.size, inode.mtime_ns, inode.ctime_ns, nlink)


class FakeKernel:
    """Implements ``runtime.kernel.Kernel`` by forgetting."""

    def __init__(self) -> None:
        self.attributes: dict[int, Seen] = {}

    def invalidate_inode(self, ino: int, attributes_only: bool) -> None:
        self.attributes.pop(ino, None)

    def invalidate_entry(self, parent: int, name: bytes, deleted: int = 0) -> None:
        self.attributes.pop(parent, None)
        self.attributes.pop(deleted, None)


class Background:
    """Jobs that run later, as the daemon's threads do: not before the loop has had other things to do."""

    def __init__(self) -> None:
        self.jobs: deque[Callable[[], None]] = deque()
        self._wake = trio.Event()

    def __call__(self, job: Callable[[], None]) -> None:
        self.jobs.append(job)
        self._wake.set()

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            await trio.sleep(0.05)
            self.flush()

    def flush(self) -> None:
        while self.jobs:
            self.jobs.popleft()()


async def _let_pass(_content: Content, _offset: int, _length_bytes: int) -> None:
    """Stands for ``Pressure.admit``."""


class World:
    """One share and one bucket; ``start`` and ``stop`` as often as wanted.

    Args:
        directory: the cache directory.
        seed: of the uploader's jitter.
        prefix: of the share in the bucket, "" or ending with "/".
        cache_bytes: what the cache may hold; clean bytes leave by themselves beyond that.
    """

    def __init__(self, directory: Path, seed: int = 0, prefix: str = "", cache_bytes: float = math.inf) -> None:
        self.directory = directory
        self.prefix = prefix
        self.cache_bytes = cache_bytes
        self.bucket = FakeObjectStore(part_bytes_min=1)
        self.link = FaultyStore(self.bucket)
        self.clock = ManualClock(START_NS)
        self.kernel = FakeKernel()
        self.background = Background()
        self.reachable = True
        self._rng = random.Random(seed)

    async def start(self, nursery: trio.Nursery) -> None:
        """Build the parts over the cache directory and start their tasks, in the daemon's order."""
        offload = InlineOffload()
        gate = Gate(RETRY_S_MAX, self._rng)
        store = GatedStore(self.link, gate, self.clock, self.prefix)
        self.meta = MetaStore.open(self.directory, prefix=self.prefix, clock=self.clock, offload=offload, boot="sim")
        self.cache = ContentCache(
            self.directory,
            meta=self.meta,
            store=store,
            clock=self.clock,
            offload=offload,
            background=self.background,
            small_file_bytes=SMALL_FILE_BYTES,
            limits=Limits(size_bytes=self.cache_bytes),
            chunk_bytes=CHUNK_BYTES,
            cell_bytes=PART_BYTES // 16,
        )
        # A cache this small would refuse every write; what is looked at here is that clean bytes come and go.
        self.cache.pressure.admit = _let_pass
        self.refresh = Refresh(
            meta=self.meta,
            store=store,
            cache=self.cache,
            clock=self.clock,
            kernel=self.kernel,
            settings=RefreshSettings(defaults=DEFAULTS),
            notice=lambda ino: self.uploader.notice(ino),
        )
        self.uploader = Uploader(
            meta=self.meta,
            store=ObservedStore(store, self.refresh.note_own),
            cache=self.cache,
            clock=self.clock,
            rng=self._rng,
            gate=gate,
            settings=UploadSettings(
                part_bytes=PART_BYTES,
                part_bytes_min=PART_BYTES // 4,
                cell_bytes=PART_BYTES // 16,
                retry_s_max=RETRY_S_MAX,
                workers=4,
            ),
            hooks=UploadHooks(
                ensure_listed=self.refresh.ensure_listed,
                flush_live=lambda ino: self.fs.files.persist(ino),
                kernel=self.kernel,
                event=lambda event: None,
                claimant=self.refresh.claimant,
                note_moved=self.refresh.note_moved,
            ),
            capabilities=self.bucket.capabilities,
        )
        self.fs = Filesystem(
            Share(
                meta=self.meta,
                cache=self.cache,
                refresh=self.refresh,
                clock=self.clock,
                notice=self.uploader.notice,
                notice_doomed=self.uploader.notice_doomed,
            )
        )
        self._make_root()
        self.kernel.attributes.clear()
        self.fs.remove_orphans()
        self._stopped = trio.Event()
        self._scope = await nursery.start(self._live)

    def _make_root(self) -> None:
        if self.meta.inode(ROOT_INO) is not None:
            return
        now = self.clock.time_ns()
        with self.meta.transaction() as tx:
            tx.put(
                Inode(
                    ino=ROOT_INO,
                    parent=0,
                    name=b"",
                    mode=stat.S_IFDIR | 0o777,
                    uid=0,
                    gid=0,
                    size=0,
                    atime_ns=now,
                    mtime_ns=now,
                    ctime_ns=now,
                    content_revision=0,
                    meta_revision=0,
                    attributes_known=not self.prefix,
                    directory=Directory(complete=False, source=self.prefix),
                )
            )

    async def _live(self, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.background.run)
                await nursery.start(self.meta.run)
                await nursery.start(self.refresh.run)
                await nursery.start(self.cache.run)
                await nursery.start(self.fs.walking.run)
                nursery.start_soon(self.cache.tidy_up, self.meta.inodes_after)
                await nursery.start(self.uploader.run)
                task_status.started(nursery.cancel_scope)
                await trio.sleep_forever()
        finally:
            self._stopped.set()

    async def stop(self) -> None:
        """An orderly stop: open files recorded, everything committed."""
        await self.fs.files.persist_all()
        await self._end()
        self.meta.close()
        self.background.flush()

    async def crash(self) -> None:
        """As ``kill -9``: what the page cache holds is all that is left, jobs not done stay undone."""
        await self._end()
        self.meta.abandon()
        self.background.jobs.clear()

    async def _end(self) -> None:
        self._scope.cancel()
        await self._stopped.wait()
        self.cache.close()

    def disconnect(self) -> None:
        """The store stops answering."""
        if self.reachable:
            self.link.fail(ANY, StoreUnreachable("no route to host"), times=FOREVER)
            self.reachable = False

    def reconnect(self) -> None:
        """It answers again, and no fault is left over."""
        self.link.heal()
        self.reachable = True

    async def drain(self) -> None:
        """Everything written so far is in the bucket; trouble is over by then."""
        self.reconnect()
        await self.fs.files.persist_all()
        await self.uploader.operator.release("")
        with trio.fail_after(DRAIN_S_MAX):
            report = await self.uploader.drain()
        assert report.held == 0
        assert report.left == (), f"parked: {report.left}"

    async def entries(self, ino: int) -> dict[bytes, Inode]:
        """A directory as its readers see it; "." and ".." checked and left out."""
        handle = await self.fs.directories.open(ino)
        found: list[tuple[bytes, Inode, int]] = []
        while entries := await self.fs.directories.read(handle, found[-1][2] if found else 0):
            found += entries
        await self.fs.directories.release(handle)
        names = [name for name, _, _ in found]
        assert names[:2] == [b".", b".."]
        assert found[0][1].ino == ino
        assert len(set(names)) == len(names), f"listed twice: {names}"
        return {name: inode for name, inode, _ in found[2:]}

    def check_books(self) -> None:
        """What the cache believes to hold is what the records say it holds."""
        room = self.cache.room
        room.entries.check()
        expected: dict[int, int] = {}
        for inode in self.meta.inodes_after(0, 1 << 30):
            if inode.placement is None or self.cache.live(inode.ino) is not None:
                continue
            if inode.placement.kind == PLACED_IN_FILE:
                for chunk, size in chunk_sizes(inode.placement, CHUNK_BYTES).items():
                    expected[key_of(inode.ino, chunk, False)] = size
            else:
                expected[key_of(inode.ino, 0, True)] = inode.placement.length + ENTRY_HEADER_BYTES
        for key, size in expected.items():
            # A sparse file may have holes.
            found = room.entries.size(key)
            assert found == size or (found < size and not key & 1), (Resident.of(key), found, size)
        strangers = [key for key in room.entries if key not in expected and not self.cache.live(Resident.of(key).ino)]
        assert not strangers, [Resident.of(key) for key in strangers]

    def stray_cache_files(self) -> list[str]:
        """Files in the cache no record names; [] but for what a crash left behind."""
        wanted = {
            str(self.cache.folder.path(inode.ino, inode.placement.pack))
            for inode in self.meta.inodes_after(0, 1 << 30)
            if inode.placement is not None and inode.placement.kind == PLACED_IN_FILE
        }
        there = {str(path) for path in (self.directory / "data").rglob("*") if path.is_file()}
        return sorted(there - wanted)


__all__ = ["DEFAULTS", "ROOT_INO", "SMALL_FILE_BYTES", "World", "seen"]
