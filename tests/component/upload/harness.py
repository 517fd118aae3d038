"""An uploader over real records, a real cache and a fake bucket; with just enough of a file system to make work.

The operations do to the records what the file system does (names, revisions, ``release``), nothing of POSIX is checked.
``crash`` abandons everything in memory and opens the records again, as after SIGKILL.
"""

import itertools
import os
import random
import stat
import tempfile
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import msgspec
import trio

from gatewayfs.cache.content import ContentCache
from gatewayfs.conflict import Policy
from gatewayfs.meta.check import check
from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.schema import Directory, Inode
from gatewayfs.runtime.clock import ManualClock
from gatewayfs.runtime.fingerprints import Fingerprinter
from gatewayfs.runtime.offload import InlineOffload
from gatewayfs.s3.gate import Gate
from gatewayfs.upload import records
from gatewayfs.upload.metadata import object_metadata
from gatewayfs.upload.news import Silence
from gatewayfs.upload.settings import UploadHooks, UploadSettings
from gatewayfs.upload.uploader import Uploader
from tests.support.fakestore import FakeObjectStore
from tests.support.faultystore import FaultyStore

replace = msgspec.structs.replace
ROOT = 1


@contextmanager
def memory_directory():
    """A cache directory in memory where there is such a place: these tests prove nothing about disks."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=place, prefix="gatewayfs-test-") as directory:
        yield Path(directory)


class KernelStandIn:
    def __init__(self):
        self.inodes = []
        self.entries = []

    def invalidate_inode(self, ino, attributes_only):
        self.inodes.append((ino, attributes_only))

    def invalidate_entry(self, parent, name, deleted=0):
        self.entries.append((parent, name, deleted))


class World:
    """One share, its bucket, and somebody who works in it."""

    def __init__(
        self,
        directory,
        *,
        prefix="",
        bucket=None,
        wrap=None,
        small_file_bytes=64 << 10,
        clock=None,
        news=None,
        **settings,
    ):
        """``news(world)`` makes what is told of uploads and conflicts, at every start."""
        settings = {"settle_s": 2.0, "settle_max_s": 60.0, "gateway_name": "gw", **settings}
        self.directory, self.prefix, self.small_file_bytes = directory, prefix, small_file_bytes
        self.settings = UploadSettings(**settings)
        self.clock = clock or ManualClock()
        self.make_news = news
        self.bucket = bucket or FakeObjectStore(part_bytes_min=1)
        self.store = FaultyStore(self.bucket) if wrap is None else wrap(self.bucket)
        self.events = []
        self.kernel = KernelStandIn()
        self.unlisted = {}
        self.handles = {}
        self._numbers = itertools.count()
        self.start()
        if self.meta.inode(ROOT) is None:
            now = self.clock.time_ns()
            with self.meta.transaction() as tx:
                tx.put(
                    Inode(
                        ROOT, 0, b"", stat.S_IFDIR | 0o755, 0, 0, 0, now, now, now,
                        remote=None, directory=Directory(complete=True, source=prefix),
                    )
                )  # fmt: skip

    # ------------------------------------------------------------------ life

    def start(self):
        """What the daemon does at start."""
        offload = InlineOffload()
        self.meta = MetaStore.open(self.directory, prefix=self.prefix, clock=self.clock, offload=offload)
        self.cache = ContentCache(
            self.directory,
            meta=self.meta,
            store=self.store,
            clock=self.clock,
            offload=offload,
            background=lambda job: job(),
            small_file_bytes=self.small_file_bytes,
            cell_bytes=self.settings.cell_bytes_for(0),
        )
        self.news = Silence() if self.make_news is None else self.make_news(self)
        hooks = UploadHooks(self.ensure_listed, self.flush_live, self.kernel, self.events.append, news=self.news)
        self.gate = Gate(self.settings.retry_s_max, random.Random(7))
        self.uploader = Uploader(
            meta=self.meta,
            store=self.store,
            cache=self.cache,
            clock=self.clock,
            rng=random.Random(7),
            gate=self.gate,
            settings=self.settings,
            hooks=hooks,
            capabilities=self.bucket.capabilities,
        )
        return self.uploader

    def crash(self):
        """Forget everything that was only in memory. ``running`` must have ended."""
        self.handles.clear()
        self.cache.close()
        self.meta.abandon()
        self.start()

    def close(self):
        self.cache.close()
        self.meta.close()

    @asynccontextmanager
    async def running(self):
        async with trio.open_nursery() as nursery:
            await nursery.start(self.uploader.run)
            yield self.uploader
            nursery.cancel_scope.cancel()

    async def drained(self):
        """Run the uploader until everything is in the bucket."""
        async with self.running() as uploader:
            report = await uploader.drain()
        assert report.complete, report
        return report

    async def ensure_listed(self, ino):
        await trio.lowlevel.checkpoint()
        for make in self.unlisted.pop(ino, []):
            make()

    async def flush_live(self, ino):
        content = self.cache.live(ino)
        if content is not None:
            await content.persist()

    # ------------------------------------------------------------------ looking

    def at(self, path):
        inode = self.meta.require(ROOT)
        for name in filter(None, path.split("/")):
            inode = self.meta.lookup(inode.ino, name.encode())
            if inode is None:
                return None
        return inode

    def need(self, path):
        inode = self.at(path)
        assert inode is not None, f"no {path!r}"
        return inode

    def paths(self, ino=ROOT, above=""):
        """Every path of the share; directories end with "/"."""
        found = {}
        for child_ino in self.meta.children(ino, 0, 1 << 30):
            child = self.meta.require(child_ino)
            path = above + child.name.decode()
            if child.is_directory:
                found[path + "/"] = child
                found |= self.paths(child_ino, path + "/")
            else:
                found[path] = child
        return found

    async def read(self, path):
        inode = self.need(path)
        if inode.is_symlink:
            return inode.target
        if not inode.is_regular:
            return b""
        with self.cache.using(inode) as content:
            return await content.read(0, content.size)

    async def namespace(self):
        """What the bucket shall hold: key -> (bytes, metadata)."""
        wanted = {}
        for path, inode in self.paths().items():
            if path.endswith("/") and not (inode.directory.marker_wanted or inode.remote is not None):
                continue
            data = b"" if path.endswith("/") else await self.read(path)
            wanted[self.prefix + path] = (data, object_metadata(inode, ""))
        return wanted

    def objects(self):
        return {key: (stored.data, dict(stored.metadata)) for key, stored in self.bucket.raw.items()}

    async def check(self):
        """The bucket equals the namespace, and nothing is left to do."""
        wanted, there = await self.namespace(), self.objects()
        assert sorted(there) == sorted(wanted)
        for key, value in wanted.items():
            assert there[key] == value, key
        assert self.uploader._schedule.overlooked == 0
        assert list(self.meta.iter_dirty()) == []
        assert list(self.meta.iter_doomed()) == []
        assert list(self.meta.iter_uploads()) == []
        assert list(self.meta.iter_parked()) == []
        # An upload whose creation was never answered cannot be told from other people's; it holds no bytes.
        assert [upload for upload in self.bucket._uploads.values() if upload.parts] == []
        for path, inode in self.paths().items():
            if inode.remote is not None:
                stored = self.bucket.raw[inode.remote.key]
                assert (inode.remote.key, inode.remote.etag) == (self.prefix + path, stored.etag)
                self.check_fingerprints(inode, stored.data)
        assert check(self.meta) == []

    def check_fingerprints(self, inode, data):
        """What is known of an object's bytes is true."""
        known = self.meta.fingerprints(inode.ino)
        if known is not None:
            assert known.describes(inode.remote)
            true = Fingerprinter(known.cell_bytes)
            true.update(data)
            for number, (said, cell) in enumerate(zip(known.cells, true.cells(), strict=True)):
                assert said in (b"", cell), f"cell {number} of {inode.name!r}"

    # ------------------------------------------------------------------ working

    def _born(self, path, mode, *, target=None):
        parent, _, name = path.rpartition("/")
        now = self.clock.time_ns()
        directory = Directory(complete=True, marker_wanted=True) if stat.S_ISDIR(mode) else None
        with self.meta.transaction() as tx:
            inode = Inode(
                tx.new_ino(), self.need(parent).ino, name.encode(), mode, 1000, 1000, len(target or b""),
                now, now, now, dirty_since_ns=now, directory=directory, target=target,
            )  # fmt: skip
            tx.put(inode)
        self.uploader.notice(inode.ino)
        return inode

    async def write(self, path, data, offset=0):
        """Write into a file, made if need be, and close it."""
        inode = self.at(path) or self._born(path, stat.S_IFREG | 0o644)
        with self.cache.using(inode) as content:
            await content.write(offset, data)
            await content.persist()
        self.uploader.notice(inode.ino)
        return inode.ino

    async def put(self, path, data):
        """Make the file hold exactly ``data``."""
        inode = self.at(path) or self._born(path, stat.S_IFREG | 0o644)
        with self.cache.using(inode) as content:
            await content.truncate(0)
            await content.write(0, data)
            await content.persist()
        self.uploader.notice(inode.ino)
        return inode.ino

    def mkdir(self, path):
        return self._born(path, stat.S_IFDIR | 0o755).ino

    def symlink(self, path, target):
        return self._born(path, stat.S_IFLNK | 0o777, target=target).ino

    def fifo(self, path):
        return self._born(path, stat.S_IFIFO | 0o600).ino

    def chmod(self, path, mode):
        inode = self.need(path)
        now = self.clock.time_ns()
        with self.meta.transaction() as tx:
            tx.put(
                replace(
                    inode,
                    mode=stat.S_IFMT(inode.mode) | mode,
                    meta_revision=inode.meta_revision + 1,
                    dirty_since_ns=inode.dirty_since_ns or now,
                )
            )
        self.uploader.notice(inode.ino)

    def unlink(self, path):
        inode = self.need(path)
        with self.meta.transaction() as tx:
            key = self._release(tx, inode)
        self._gone(inode, key)

    def _release(self, tx, inode):
        in_use = self.cache.open_count(inode.ino) > 0
        reads = in_use and not self.cache.is_resident(inode)
        if not in_use:
            inode = self.cache.forget(tx, inode)
        return records.release(tx, inode, self.clock.time_ns(), in_use=in_use, reads=reads)

    def _gone(self, inode, key):
        self.uploader.notice(inode.ino)
        if key is not None:
            self.uploader.notice_doomed(key)

    def rename(self, path, to, *, exchange=False):
        inode, target = self.need(path), self.at(to)
        if target is not None and target.ino == inode.ino:
            return
        parent, _, name = to.rpartition("/")
        now = self.clock.time_ns()
        key = None
        with self.meta.transaction() as tx:
            if target is not None and exchange:
                tx.put(self._moved(target, inode.parent, inode.name, now))
            elif target is not None:
                key = self._release(tx, target)
            tx.put(self._moved(inode, self.need(parent).ino, name.encode(), now))
        self.uploader.notice(inode.ino)
        if target is not None and exchange:
            self.uploader.notice(target.ino)
        elif target is not None:
            self._gone(target, key)

    def _moved(self, inode, parent, name, now):
        directory = inode.directory and replace(inode.directory, children_unsettled=True)
        return replace(inode, parent=parent, name=name, directory=directory, dirty_since_ns=inode.dirty_since_ns or now)

    def evict(self, path):
        """Forget the cached bytes of a clean file, as the cache does when it is full."""
        inode = self.need(path)
        assert not inode.dirty_since_ns
        self.cache.drop(inode.ino)
        assert not self.cache.is_resident(self.need(path))

    def open(self, path, *, writing=False):
        """A handle, for ``close``."""
        content = self.cache.acquire(self.need(path))
        content.opens += 1
        content.writers += writing
        number = next(self._numbers)
        self.handles[number] = (content, writing)
        return number

    def content(self, number):
        return self.handles[number][0]

    async def close_file(self, number):
        content, writing = self.handles.pop(number)
        if self.meta.inode(content.ino) is not None:
            await content.persist()
        content.opens -= 1
        content.writers -= writing
        self.cache.release(content)
        self.uploader.notice(content.ino)

    async def arrived(self, condition):
        """Let time pass until ``condition()``."""
        with trio.fail_after(100_000):
            while not condition():
                await trio.sleep(0.25)


GATEWAY_WINS = Policy.GATEWAY_WINS
