"""The cache stays within its limits: clean bytes leave, dirty ones never, readers notice nothing."""

import os

import msgspec
import pytest
import trio
import trio.testing

from gatewayfs.cache.content import ContentCache
from gatewayfs.cache.eviction import Hold
from gatewayfs.cache.fetch import FETCH_BYTES
from gatewayfs.cache.limits import Limits
from gatewayfs.cache.room import Resident, key_of
from gatewayfs.cache.wholefiles import Brought
from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.schema import Directory, Inode, Remote
from gatewayfs.runtime.clock import ManualClock
from gatewayfs.runtime.fingerprints import UNKNOWN
from gatewayfs.runtime.offload import InlineOffload
from tests.support.fakestore import FakeObjectStore, read_body

SMALL = 10_000
CHUNK = 1 << 20
SIZE = 8 << 20


class Box:
    """A cache of ``size_bytes`` over a fake bucket; files are inodes 2, 3, ..."""

    def __init__(self, directory, size_bytes=SIZE, free_bytes_min=0, limits=None):
        self.directory, self.limits = directory, limits or Limits(size_bytes, free_bytes_min)
        self.store, self.clock = FakeObjectStore(), ManualClock()
        self.free = 1 << 40
        self.open()
        root = Inode(1, 0, b"", 0o040755, 0, 0, 0, 1, 1, 1, directory=Directory(complete=True))
        with self.meta.transaction() as tx:
            tx.put(root)

    def open(self):
        offload = InlineOffload()
        self.meta = MetaStore.open(self.directory, prefix="", clock=self.clock, offload=offload)
        self.cache = ContentCache(
            self.directory,
            meta=self.meta,
            store=self.store,
            clock=self.clock,
            offload=offload,
            background=lambda job: job(),
            small_file_bytes=SMALL,
            limits=self.limits,
            chunk_bytes=CHUNK,
        )
        self.cache.evictor._free_bytes = lambda: self.free
        self.room, self.evictor = self.cache.room, self.cache.evictor

    def crash(self):
        self.cache.close()
        self.meta.abandon()
        self.open()

    def close(self):
        self.cache.close()
        self.meta.close()

    def remote(self, ino, data):
        """A clean file whose bytes are only in the bucket."""
        etag = self.store.foreign_put(f"f{ino}", data)
        self.put(ino, size=len(data), remote=Remote(f"f{ino}", etag, len(data), 1, 0, 0), content_revision=0)

    def put(self, ino, **changes):
        inode = Inode(ino, 1, b"f%d" % ino, 0o100644, 0, 0, 0, 1, 1, 1)
        with self.meta.transaction() as tx:
            tx.put(msgspec.structs.replace(inode, **changes))

    async def write(self, ino, data):
        """A file made here, as close(2) leaves it."""
        self.put(ino, dirty_since_ns=1)
        with self.cache.using(self.meta.require(ino)) as content:
            await content.write(0, data)
            await content.persist()

    def uploaded(self, ino):
        """The bucket has the present bytes."""
        inode = self.meta.require(ino)
        etag = self.store.foreign_put(f"f{ino}", self.stored(ino))
        with self.meta.transaction() as tx:
            remote = Remote(f"f{ino}", etag, inode.size, 1, inode.content_revision, inode.meta_revision)
            tx.put(msgspec.structs.replace(inode, remote=remote, dirty_since_ns=0))

    def stored(self, ino):
        return self.data[ino]

    async def read(self, ino, offset=0, length=None):
        inode = self.meta.require(ino)
        with self.cache.using(inode) as content:
            return await content.read(offset, inode.size if length is None else length)

    def on_disk(self):
        """What the file system says the contents take."""
        files = [path for name in ("packs", "data") for path in (self.directory / name).rglob("*") if path.is_file()]
        return sum(path.stat().st_blocks * 512 for path in files)


@pytest.fixture
def box(tmp_path):
    made = Box(tmp_path / "cache")
    made.data = {}
    yield made
    made.close()


@pytest.fixture
async def evicting(box, nursery):
    nursery.start_soon(box.evictor.run)
    return box


@pytest.mark.semantics("cache-size")
async def test_reading_more_than_the_cache_holds_keeps_within_its_size(evicting):
    box = evicting
    for ino in range(2, 7):
        box.data[ino] = os.urandom(3 << 20)
        box.remote(ino, box.data[ino])
    for _ in range(2):
        for ino in range(2, 7):
            assert await box.read(ino) == box.data[ino]
            assert box.on_disk() <= SIZE
    assert box.evictor.evicted_bytes > SIZE
    assert box.room.used_bytes == box.on_disk()
    box.room.entries.check()


@pytest.mark.semantics("cache-size")
async def test_one_open_file_larger_than_the_cache_is_read_piece_by_piece(evicting):
    box = evicting
    data = os.urandom(3 * SIZE)
    box.remote(2, data)
    content = box.cache.acquire(box.meta.require(2))
    for start in range(0, len(data), 128 << 10):
        assert await content.read(start, 128 << 10) == data[start : start + (128 << 10)]
        assert box.on_disk() <= SIZE
    assert await content.read(0, 1000) == data[:1000]
    box.cache.release(content)
    assert box.cache.statistics().bypassed_bytes == 0


async def test_what_was_evicted_stays_away_after_a_crash_and_the_rest_is_right(evicting):
    box = evicting
    data = os.urandom(2 * SIZE)
    box.remote(2, data)
    assert await box.read(2, 0, 3 << 20) == data[: 3 << 20]
    assert await box.read(2, 9 << 20) == data[9 << 20 :]
    await box.evictor.relieve()
    used = box.room.used_bytes
    box.crash()
    await box.cache.take_stock(box.meta.inodes_after)
    assert box.room.used_bytes == used == box.on_disk()
    assert await box.read(2, 0, 4 * FETCH_BYTES) == data[: 4 * FETCH_BYTES]


@pytest.mark.semantics("cache-dirty-stays")
async def test_dirty_bytes_never_leave_and_clean_ones_do_when_they_are_uploaded(box):
    small, large = os.urandom(SMALL // 2), os.urandom(3 << 20)
    box.data = {2: small, 3: large}
    await box.write(2, small)
    await box.write(3, large)
    box.limits = box.evictor.limits = Limits(size_bytes=1)
    await box.evictor.relieve()
    assert box.evictor.stuck
    assert box.room.dirty_bytes >= len(large)
    assert await box.read(2) == small
    assert await box.read(3) == large
    for ino in (2, 3):
        box.uploaded(ino)
    await box.evictor.relieve()
    assert box.room.used_bytes == 0
    assert box.on_disk() <= 4096, "the block that the pack is being appended to stays"
    assert box.meta.require(2).placement is None
    assert box.meta.require(3).placement is None
    assert await box.read(2) == small


@pytest.mark.parametrize("standing", ["unlinked", "metadata pending", "no object"])
async def test_what_has_work_pending_stays(box, standing):
    box.data[2] = os.urandom(2 << 20)
    await box.write(2, box.data[2])
    box.uploaded(2)
    inode = box.meta.require(2)
    changes = {"unlinked": {"parent": 0, "name": b""}, "metadata pending": {"dirty_since_ns": 5}}
    with box.meta.transaction() as tx:
        tx.put(msgspec.structs.replace(inode, **changes.get(standing, {"remote": None})))
    box.evictor.limits = Limits(size_bytes=1)
    await box.evictor.relieve()
    assert box.meta.require(2).placement == inode.placement
    dirty = standing == "no object"
    assert (box.room.dirty_bytes > 0) == dirty, "only what the bucket lacks counts as dirty"


async def test_a_small_file_in_use_is_spared(box):
    box.data[2] = os.urandom(SMALL // 2)
    box.remote(2, box.data[2])
    await box.read(2)
    content = box.cache.acquire(box.meta.require(2))
    box.evictor.limits = Limits(size_bytes=1)
    await box.evictor.relieve()
    assert await content.read(0, SMALL) == box.data[2]
    assert box.meta.require(2).placement is not None
    box.cache.release(content)
    await box.evictor.relieve()
    assert box.meta.require(2).placement is None


@pytest.mark.semantics("cache-full-reads")
async def test_reads_go_past_a_cache_that_is_full_of_dirty_bytes(evicting, autojump_clock):
    box = evicting
    await box.write(2, os.urandom(SIZE))
    box.data[3], box.data[4] = os.urandom(SMALL // 2), os.urandom(2 << 20)
    for ino in (3, 4):
        box.remote(ino, box.data[ino])
        assert await box.read(ino) == box.data[ino]
    assert box.cache.statistics().bypassed_bytes == SMALL // 2 + (2 << 20)
    assert box.cache.statistics().full
    assert box.room.dirty_bytes == box.room.used_bytes == SIZE


async def test_the_floor_of_free_disk_space_drives_eviction_and_bypass(tmp_path, autojump_clock):
    box = Box(tmp_path / "cache", size_bytes=1 << 40, free_bytes_min=1 << 20)
    data = os.urandom(3 << 20)
    box.remote(2, data)
    assert await box.read(2) == data
    box.free = 0
    await box.evictor.relieve()
    assert box.room.used_bytes <= 2 << 20, "a MiB and a bit had to go"
    assert box.room.used_bytes > 0, "and not more"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(box.evictor.run)
        assert await box.read(2) == data
        nursery.cancel_scope.cancel()
    box.close()


@pytest.mark.semantics("cache-open-file-larger")
async def test_what_an_open_file_has_in_the_bucket_may_leave_until_it_is_changed(box):
    data = os.urandom(4 << 20)
    box.data[2] = data
    box.put(2, dirty_since_ns=1)
    content = box.cache.acquire(box.meta.require(2))
    await content.write(0, data)
    snapshot = await box.cache.snapshot(2, 1 << 20)
    assert snapshot.size == len(data)
    await content.write(len(data), b"more")
    etag = box.store.foreign_put("f2", data)
    inode = box.meta.require(2)
    with box.meta.transaction() as tx:
        tx.put(msgspec.structs.replace(inode, remote=Remote("f2", etag, len(data), 1, snapshot.revision, 1)))
    await content.write(3 * CHUNK + 5, b"!")
    assert box.room.entries.held_bytes(Hold.FREE) == 3 * CHUNK
    box.evictor.limits = Limits(size_bytes=1)
    await box.evictor.relieve()
    assert not content.extents.covers(0, 1)
    assert content.extents.covers(3 * CHUNK, len(data) + 4), "changed since, or never uploaded"
    expected = data[: 3 * CHUNK + 5] + b"!" + data[3 * CHUNK + 6 :] + b"more"
    assert await content.read(0, len(expected)) == expected
    await content.persist()
    box.cache.release(content)
    used = box.room.used_bytes
    await box.evictor.relieve()
    assert box.room.used_bytes == used, "once it is closed, only its upload tells what is clean"


async def test_a_part_that_is_partly_evicted_and_partly_changed_is_sent_whole(box):
    data = os.urandom(4 << 20)
    box.put(2, dirty_since_ns=1)
    content = box.cache.acquire(box.meta.require(2))
    await content.write(0, data)
    snapshot = await box.cache.snapshot(2, 2 << 20)
    etag = box.store.foreign_put("f2", data)
    inode = box.meta.require(2)
    with box.meta.transaction() as tx:
        tx.put(msgspec.structs.replace(inode, remote=Remote("f2", etag, len(data), 1, snapshot.revision, 1)))
    await content.write(3 * CHUNK + 5, b"!")
    box.evictor.limits = Limits(size_bytes=1)
    await box.evictor.relieve()
    assert not content.extents.covers(2 * CHUNK, 3 * CHUNK)
    snapshot = await box.cache.snapshot(2, 2 << 20)
    assert snapshot.absent == {0}, "all of it is in the bucket, and only a part of the other"
    assert snapshot.cells[1] == UNKNOWN, "so it must be fetched before it is sent"
    await box.cache.ensure_resident(2, 2 * CHUNK, 4 * CHUNK)
    body = (await box.cache.snapshot(2, 2 << 20, snapshot)).body(2 * CHUNK, 2 * CHUNK)
    assert read_body(body) == data[2 * CHUNK : 3 * CHUNK + 5] + b"!" + data[3 * CHUNK + 6 :]
    box.cache.release(content)


async def test_a_hole_costs_nothing(box):
    box.put(2, dirty_since_ns=1)
    content = box.cache.acquire(box.meta.require(2))
    await content.truncate(1 << 34)
    await content.write((1 << 34) - 4096, b"x" * 4096)
    assert box.room.used_bytes == 4096
    await content.persist()
    box.cache.release(content)
    box.crash()
    await box.cache.take_stock(box.meta.inodes_after)
    assert box.room.used_bytes == 4096


async def test_space_a_crash_left_unpunched_comes_back(box):
    data = os.urandom(4 << 20)
    box.remote(2, data)
    await box.read(2)
    inode = box.meta.require(2)
    with box.meta.transaction() as tx:
        tx.put(msgspec.structs.replace(inode, placement=msgspec.structs.replace(inode.placement, extents=(0, 1 << 20))))
    box.crash()
    assert box.on_disk() == 4 << 20
    await box.cache.take_stock(box.meta.inodes_after)
    assert box.on_disk() == box.room.used_bytes == 1 << 20
    assert await box.read(2) == data


async def test_packs_are_counted_by_the_block(box):
    sizes = [300] * 100
    for number, size in enumerate(sizes):
        box.data[2 + number] = os.urandom(size)
        await box.write(2 + number, box.data[2 + number])
        box.uploaded(2 + number)
    assert box.room.used_bytes == box.on_disk() == -(-100 * 340 // 4096) * 4096
    box.crash()
    await box.cache.take_stock(box.meta.inodes_after)
    assert box.room.used_bytes == box.on_disk()
    # Twelve of them touch the first block; it is given back with the last of these, and no earlier.
    victims = list(box.room.entries)[:13]
    await box.evictor.evict(victims[:12])
    assert box.on_disk() == box.room.used_bytes == -(-100 * 340 // 4096) * 4096
    await box.evictor.evict(victims[12:])
    assert box.on_disk() == box.room.used_bytes == (-(-100 * 340 // 4096) - 1) * 4096
    for ino in range(2, 102):
        assert await box.read(ino) == box.data[ino]


async def test_what_somebody_is_reading_just_now_is_spared(box):
    data = os.urandom(2 << 20)
    box.remote(2, data)
    content = box.cache.acquire(box.meta.require(2))
    await content.read(0, len(data))
    box.evictor.limits = Limits(size_bytes=1)
    with content.readers.reading(0, 100):
        await box.evictor.relieve()
        assert os.pread(content.sparse.open().fd, 100, 0) == data[:100]
        assert box.room.used_bytes == CHUNK, "the other chunk may go"
    await box.evictor.relieve()
    assert box.room.used_bytes == 0
    box.cache.release(content)


@pytest.mark.semantics("cache-full-reads")
async def test_one_read_larger_than_the_cache_ends(evicting, autojump_clock):
    box = evicting
    data = os.urandom(SIZE + (1 << 20))
    box.remote(2, data)
    assert await box.read(2) == data


async def test_a_small_file_fetched_ahead_goes_before_what_was_asked_for_until_somebody_reads_it(box):
    for ino in (2, 3, 4):
        box.data[ino] = os.urandom(300)
        box.remote(ino, box.data[ino])
    await box.read(2)
    await box.cache.bring(box.meta.require(3))
    entries = box.room.entries
    assert Resident.of(entries.victim()).ino == 3
    assert await box.read(3) == box.data[3]
    assert Resident.of(entries.victim()).ino == 2
    await box.read(2)
    assert Resident.of(entries.victim()).ino == 3, "read again is more than fetched ahead and read once"


async def test_bytes_that_came_with_the_attributes_are_kept_if_they_are_the_record_s(box):
    box.data[2] = os.urandom(300)
    box.remote(2, box.data[2])
    inode = box.meta.require(2)
    await box.cache.bring(inode, Brought(inode.remote.etag, box.data[2]))
    assert await box.read(2) == box.data[2]
    assert box.store.count("get") == 0
    box.data[3] = os.urandom(300)
    box.remote(3, box.data[3])
    await box.cache.bring(box.meta.require(3), Brought("another", os.urandom(300)))
    assert await box.read(3) == box.data[3]
    assert box.store.count("get") == 1


async def test_a_file_truncated_to_nothing_and_written_anew_while_it_is_evicted_keeps_its_new_bytes(box, monkeypatch):
    old, new = os.urandom(2 * CHUNK), os.urandom(2 * CHUNK)
    box.remote(2, old)
    with box.cache.using(box.meta.require(2)) as content:
        assert await content.read(0, len(old)) == old
        sync = box.meta.sync

        async def write_anew():
            await content.truncate(0)
            await content.write(0, new[:100])
            await content.write(100, new[100:])

        async with trio.open_nursery() as nursery:

            async def beside():
                monkeypatch.setattr(box.meta, "sync", sync)
                nursery.start_soon(write_anew)
                await trio.testing.wait_all_tasks_blocked()
                await sync()

            monkeypatch.setattr(box.meta, "sync", beside)
            assert await box.evictor.evict([key_of(2, 0, False)])
        assert await content.read(0, len(new)) == new
