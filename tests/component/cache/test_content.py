"""Live files over real records and a fake bucket: bytes are right after every step, and after a restart."""

import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayfs.cache.content import ContentCache
from gatewayfs.cache.fetch import FETCH_BYTES
from gatewayfs.cache.snapshot import fingerprint
from gatewayfs.cache.wholefiles import BucketMovedOn
from gatewayfs.errors import CorruptRecord
from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.schema import Directory, Inode, Remote
from gatewayfs.runtime.clock import ManualClock
from gatewayfs.runtime.fingerprints import fingerprint_of
from gatewayfs.runtime.offload import InlineOffload
from tests.support.fakestore import FakeObjectStore, read_body

SMALL = 100


class Cache:
    """A cache directory that can be crashed and opened again; one file, inode 2."""

    def __init__(self, directory, store=None):
        self.directory = directory
        self.clock = ManualClock()
        self.store = store or FakeObjectStore()
        self.open()

    def open(self):
        offload = InlineOffload()
        self.meta = MetaStore.open(self.directory, prefix="", clock=self.clock, offload=offload)
        self.jobs = []
        self.cache = ContentCache(
            self.directory,
            meta=self.meta,
            store=self.store,
            clock=self.clock,
            offload=offload,
            background=self.jobs.append,
            small_file_bytes=SMALL,
        )

    def crash(self):
        """kill -9: what was handed to the kernel stays, nothing else does."""
        self.cache.close()
        self.meta.abandon()
        self.open()

    def make(self, **changes):
        root = Inode(1, 0, b"", 0o040755, 0, 0, 0, 1, 1, 1, directory=Directory(complete=True))
        inode = Inode(2, 1, b"f", 0o100644, 0, 0, 0, 1, 1, 1, dirty_since_ns=1)
        with self.meta.transaction() as tx:
            tx.put(root)
            tx.put(msgspec.structs.replace(inode, **changes))

    def make_remote(self, data):
        """A clean file whose bytes are only in the bucket."""
        etag = self.store.foreign_put("f", data)
        remote = Remote("f", etag, len(data), 1, 0, 0)
        self.make(size=len(data), remote=remote, dirty_since_ns=0, content_revision=0)

    @property
    def inode(self):
        return self.meta.require(2)

    def close(self):
        self.cache.close()
        self.meta.close()


@pytest.fixture
def cache(tmp_path):
    made = Cache(tmp_path / "cache")
    yield made
    made.close()


offsets = st.integers(0, 400)
blobs = st.binary(min_size=1, max_size=180)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("write"), offsets, blobs),
        st.tuples(st.just("truncate"), offsets, st.just(b"")),
        st.tuples(st.just("read"), offsets, st.binary(min_size=1, max_size=200)),
        st.tuples(st.sampled_from(["persist", "snapshot", "reopen", "crash"]), st.just(0), st.just(b"")),
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(operations, st.sampled_from([b"", b"small" * 5, bytes(range(256)) * 2]))
def test_bytes_equal_the_model_after_every_step(tmp_path_factory, steps, original):
    trio.run(follow, tmp_path_factory.mktemp("content"), steps, original)


async def follow(directory, steps, original):
    box = Cache(directory)
    box.make_remote(original)
    model, durable = bytearray(original), bytes(original)
    content = box.cache.acquire(box.inode)
    for name, offset, data in steps:
        if name == "write":
            await content.write(offset, data)
            model.extend(bytes(max(0, offset + len(data) - len(model))))
            model[offset : offset + len(data)] = data
        elif name == "truncate":
            await content.truncate(offset)
            model = model[:offset] + bytes(max(0, offset - len(model)))
        elif name == "read":
            assert await content.read(offset, len(data)) == model[offset : offset + len(data)]
        elif name == "snapshot":
            snapshot = await box.cache.snapshot(2, 64)
            durable = bytes(model)
            assert snapshot.size == len(model)
            check_snapshot(snapshot, model)
        else:
            await content.persist()
            durable = bytes(model)
            if name == "reopen":
                box.cache.release(content)
                content = box.cache.acquire(box.inode)
            if name == "crash":
                box.crash()
                assert box.inode.size == len(durable)
                content = box.cache.acquire(box.inode)
        content.extents.check()
        assert content.size == len(model)
    assert await content.read(0, 10_000) == model
    box.close()


def check_snapshot(snapshot, model):
    """What is here has the model's bytes and fingerprints; nothing is said of what is not."""
    here = [number for number, cell in enumerate(snapshot.cells) if cell]
    assert snapshot.absent.isdisjoint(here)
    assert all(len(snapshot.cells[number]) == 16 for number in here)
    for number in here:
        want = bytes(model[number * 64 : number * 64 + 64])
        assert snapshot.cells[number] == fingerprint_of(want, 64)
        assert read_body(snapshot.body(number * 64, len(want))) == want
    if len(here) == len(snapshot.cells):
        assert read_body(snapshot.body(0, snapshot.size)) == model


async def test_nothing_unpersisted_is_called_clean_after_a_crash(cache):
    """The mark comes before the first byte: a record that says clean never describes changed bytes."""
    data = bytes(5 * SMALL)
    cache.make_remote(data)
    with cache.cache.using(cache.inode) as content:
        await content.read(0, len(data))
    assert cache.cache.is_resident(cache.inode)
    content = cache.cache.acquire(cache.inode)
    await content.write(10, b"changed")
    cache.crash()
    assert cache.inode.dirty_since_ns
    assert cache.inode.content_revision != cache.inode.remote.content_revision


async def test_writing_never_downloads(cache):
    cache.make_remote(bytes(3 * FETCH_BYTES))
    with cache.cache.using(cache.inode) as content:
        await content.write(FETCH_BYTES + 5, b"x" * 1000)
        await content.write(3 * FETCH_BYTES + 7, b"tail")
        await content.persist()
    assert cache.store.count("fetch") == 0
    assert not cache.cache.is_resident(cache.inode)


async def test_one_absent_range_is_fetched_once_for_many_readers(cache):
    cache.make_remote(b"0123456789" * 1000)
    with cache.cache.using(cache.inode) as content:
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(content.read, 100, 50)
    assert cache.store.count("fetch") == 1


async def test_a_replaced_object_is_never_mixed_in(cache):
    cache.make_remote(b"a" * (2 * FETCH_BYTES))
    with cache.cache.using(cache.inode) as content:
        assert await content.read(0, 10) == b"a" * 10
        cache.store.foreign_put("f", b"b" * (2 * FETCH_BYTES))
        with pytest.raises(BucketMovedOn):
            await content.read(FETCH_BYTES, 10)
        assert await content.read(0, 10) == b"a" * 10


async def test_a_snapshot_survives_appends_and_nothing_else(cache):
    cache.make()
    content = cache.cache.acquire(cache.inode)
    await content.write(0, b"x" * 3 * SMALL)
    snapshot = await cache.cache.snapshot(2, 64)
    await content.write(3 * SMALL, b"appended")
    assert cache.cache.still(2, snapshot)
    await content.write(5, b"!")
    assert not cache.cache.still(2, snapshot)
    again = await cache.cache.snapshot(2, 64)
    assert cache.cache.still(2, again)
    assert not cache.cache.still(2, snapshot)
    cache.cache.release(content)


async def test_a_snapshot_reads_again_only_what_another_one_of_the_same_bytes_does_not_know(cache, monkeypatch):
    read = []

    def watched(file, offset, length, cell_bytes):
        read.append((offset, length))
        return fingerprint(file, offset, length, cell_bytes)

    monkeypatch.setattr("gatewayfs.cache.snapshot.fingerprint", watched)
    cache.make()
    content = cache.cache.acquire(cache.inode)
    await content.write(0, b"x" * 3 * SMALL)
    before = await cache.cache.snapshot(2, 64)
    assert read == [(0, 3 * SMALL)]
    read.clear()
    assert (await cache.cache.snapshot(2, 64, before)).cells == before.cells
    assert read == []
    await content.write(5, b"!")
    assert (await cache.cache.snapshot(2, 64, before)).cells[0] != before.cells[0]
    assert read == [(0, 3 * SMALL)]
    cache.cache.release(content)


async def test_a_damaged_pack_entry_is_noticed(cache):
    cache.make()
    with cache.cache.using(cache.inode) as content:
        await content.write(0, b"precious")
        await content.persist()
    placement = cache.inode.placement
    path = cache.cache.packs.path(placement.pack)
    raw = bytearray(path.read_bytes())
    raw[placement.offset] ^= 1
    path.write_bytes(raw)
    cache.crash()
    with cache.cache.using(cache.inode) as content, pytest.raises(CorruptRecord):
        await content.read(0, 8)


async def test_packs_without_a_live_byte_go_and_others_stay(cache):
    cache.make()
    with cache.cache.using(cache.inode) as content:
        await content.write(0, b"first")
        await content.persist()
    old = cache.inode.placement
    cache.crash()
    await cache.cache.take_stock(inodes_of(cache))
    assert cache.cache.packs.path(old.pack).exists()
    with cache.cache.using(cache.inode) as content:
        await content.write(0, b"second")
        await content.persist()
    assert cache.cache.packs.path(old.pack).exists(), "the record that forgot it is not durable yet"
    await cache.meta.checkpoint()
    assert not cache.cache.packs.path(old.pack).exists()
    assert cache.cache.packs.path(cache.inode.placement.pack).exists()


async def test_files_no_record_names_are_removed_after_a_start(cache):
    cache.make()
    content = cache.cache.acquire(cache.inode)
    await content.write(0, b"x" * 3 * SMALL)
    lost = content.sparse.path
    cache.crash()
    with cache.cache.using(cache.inode) as content:
        await content.write(0, b"y" * 3 * SMALL)
        await content.persist()
    kept = content.sparse.path
    assert lost.exists(), "nobody recorded it before the crash"
    await cache.cache.tidy_up(inodes_of(cache))
    for job in cache.jobs:
        job()
    assert not lost.exists()
    assert kept.exists()


def inodes_of(cache):
    return lambda after, limit: [cache.inode] if after < 2 else []
