"""Others write into the bucket while we work: nothing anybody wrote is lost, and the queue always drains.

Every write, here or there, carries a token of its own. A token may disappear only by an act of somebody who knew of it:
a local change of a file whose record named that object (or whose unsent bytes it was), or a foreign write over it.
"""

import itertools
import random
import re

import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatewayfs.conflict import Policy
from gatewayfs.errors import StoreBusy, StoreUnreachable
from gatewayfs.s3.store import Capabilities
from tests.component.upload.harness import World, memory_directory
from tests.support.fakestore import EVERYTHING, FakeObjectStore

NAMES = ("a", "b", "c", "d/x", "d/y")
TOKEN = re.compile(rb"<\d{6}>")
names = st.sampled_from(NAMES)
sizes = st.integers(0, 40)

operations = st.one_of(
    st.tuples(st.just("put"), names, sizes),
    st.tuples(st.just("append"), names, sizes),
    st.tuples(st.just("rename"), names, names),
    st.tuples(st.just("exchange"), names, names),
    st.tuples(st.just("rename_directory")),
    st.tuples(st.just("unlink"), names),
    st.tuples(st.just("chmod"), names),
    st.tuples(st.just("evict")),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 3.0, 70.0])),
    st.tuples(st.just("steps"), st.integers(1, 12)),
    st.tuples(st.just("foreign_put"), names, sizes),
    st.tuples(st.just("foreign_put"), names, sizes),
    st.tuples(st.just("foreign_delete"), names),
)
faults = st.one_of(
    st.tuples(st.just("crash")),
    st.tuples(
        st.just("fault"),
        st.sampled_from(["any", "put", "copy", "delete", "delete_many", "head", "complete_multipart"]),
        st.booleans(),
        st.integers(0, 3),
        st.booleans(),
    ),
)
programs = st.lists(st.one_of(operations, operations, operations, faults), max_size=25)
stores = st.sampled_from([EVERYTHING, Capabilities(), Capabilities(part_copy_source_if_match=False)])


class History(FakeObjectStore):
    """A bucket that remembers which bytes every etag stood for."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.bytes_of = {}

    def _append(self, stored):
        self.bytes_of.setdefault(stored.etag, stored.data)
        return super()._append(stored)


class Program:
    def __init__(self, world):
        self.world = world
        self.serial = itertools.count(100_000)
        self.alive = set()
        self.unsent = {}
        world.mkdir("d")

    def token(self, size):
        token = b"<%06d>" % next(self.serial)
        self.alive.add(token)
        return token + random.Random(token).randbytes(size).replace(b"<", b"-")

    def superseded(self, data):
        self.alive -= set(TOKEN.findall(data))

    def known_bytes(self, inode):
        """Everything the record stands for: the object it names and what was written on top."""
        there = self.world.bucket.bytes_of.get(inode.remote.etag, b"") if inode.remote is not None else b""
        return there + self.unsent.get(inode.ino, b"")

    async def run(self, program):
        program = list(program)
        while True:
            async with self.world.running() as uploader:
                if await self.live(program):
                    self.world.store.heal()
                    report = await uploader.drain()
                    assert report.complete, report
                    break
            self.world.crash()
        assert self.world.uploader._schedule.overlooked == 0
        assert list(self.world.meta.iter_dirty()) == []
        assert list(self.world.meta.iter_doomed()) == []
        assert list(self.world.meta.iter_uploads()) == []
        there = b"".join(stored.data for stored in self.world.bucket.raw.values())
        assert self.alive <= set(TOKEN.findall(there)), self.alive - set(TOKEN.findall(there))
        assert not [key for key in self.world.bucket.raw if "gatewayfs-moving" in key]

    async def live(self, program):
        while program:
            operation, *arguments = program.pop(0)
            if operation == "crash":
                return False
            await getattr(self, operation)(*arguments)
        return True

    # ------------------------------------------------------------------ our side

    def file(self, path):
        inode = self.world.at(path)
        return inode if inode is not None and inode.is_regular else None

    def free(self, path):
        return self.world.at(path) is None and ("/" not in path or self.world.at("d") is not None)

    async def put(self, path, size):
        inode = self.file(path)
        if inode is None and not self.free(path):
            return
        data = self.token(size)
        if inode is not None:
            self.superseded(self.known_bytes(inode))
        self.unsent[await self.world.put(path, data)] = data

    async def append(self, path, size):
        inode = self.file(path)
        if inode is not None:
            data = self.token(size)
            self.unsent[inode.ino] = self.unsent.get(inode.ino, b"") + data
            await self.world.write(path, data, offset=inode.size)

    async def rename(self, path, to):
        inode, target = self.file(path), self.file(to)
        if inode is None or path == to or (target is None and not self.free(to)):
            return
        if target is not None:
            self.superseded(self.known_bytes(target))
        self.world.rename(path, to)

    async def exchange(self, path, to):
        if self.file(path) is not None and self.file(to) is not None and path != to:
            self.world.rename(path, to, exchange=True)

    async def rename_directory(self):
        path, to = ("d", "e") if self.world.at("d") is not None else ("e", "d")
        if self.world.at(path) is not None and self.world.at(to) is None:
            self.world.rename(path, to)

    async def unlink(self, path):
        inode = self.file(path)
        if inode is not None:
            self.superseded(self.known_bytes(inode))
            self.world.unlink(path)

    async def chmod(self, path):
        if self.file(path) is not None:
            self.world.chmod(path, 0o600)

    async def evict(self):
        for inode in self.world.paths().values():
            if inode.is_regular and not inode.dirty_since_ns:
                self.world.cache.drop(inode.ino)

    # ------------------------------------------------------------------ their side

    async def foreign_put(self, key, size):
        if key in self.world.bucket.raw:
            self.superseded(self.world.bucket.raw[key].data)
        self.world.bucket.foreign_put(key, self.token(size), {"theirs": "1"})

    async def foreign_delete(self, key):
        if key in self.world.bucket.raw:
            self.superseded(self.world.bucket.raw[key].data)
            self.world.bucket.foreign_delete(key)

    # ------------------------------------------------------------------ time and trouble

    async def wait(self, seconds):
        await trio.sleep(seconds)

    async def steps(self, count):
        for _ in range(count):
            await trio.lowlevel.checkpoint()

    async def fault(self, operation, after, skip, busy):
        error = StoreBusy("slow down") if busy else StoreUnreachable("lost")
        self.world.store.fail(operation, error, after=after, skip=skip)


def simulate(program, capabilities, policy):
    async def main():
        with memory_directory() as directory:
            bucket = History(part_bytes_min=8, capabilities=capabilities)
            world = World(
                directory, bucket=bucket, part_bytes=16, part_bytes_min=8, cell_bytes=4,
                small_file_bytes=8, fetch_bytes_max=20, conflict_policy=policy,
            )  # fmt: skip
            try:
                with trio.fail_after(1_000_000):
                    await Program(world).run(program)
            finally:
                world.close()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(programs, stores, st.sampled_from(list(Policy)))
def test_no_version_anybody_wrote_is_lost(program, capabilities, policy):
    simulate(program, capabilities, policy)
