"""Whatever is done, in whatever order, with the store failing and the program dying in between: when the faults stop
and the queue has drained, the bucket equals the namespace, and the namespace is what the operations made.

Operations run against the uploader at work, on a jumping clock, with a model that is a dict of paths.
"""

import random

import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatewayfs.errors import StoreBusy, StoreUnreachable
from gatewayfs.s3.store import Capabilities
from tests.component.upload.harness import World, memory_directory
from tests.support.fakestore import EVERYTHING, FakeObjectStore

PART = 16
PART_MIN = 8
CELL = 4
SMALL = 8

NAMES = ("a", "b", "c", "d", "d/x", "d/y", "e", "e/x", "d/e", "d/e/z")
names = st.sampled_from(NAMES)
data = st.builds(lambda seed, length: random.Random(seed).randbytes(length), st.integers(0, 99), st.integers(0, 70))

operations = st.one_of(
    st.tuples(st.just("put"), names, data),
    st.tuples(st.just("patch"), names, data, st.integers(0, 60)),
    st.tuples(st.just("rename"), names, names),
    st.tuples(st.just("rename"), names, names),
    st.tuples(st.just("exchange"), names, names),
    st.tuples(st.just("unlink"), names),
    st.tuples(st.just("mkdir"), names),
    st.tuples(st.just("symlink"), names),
    st.tuples(st.just("chmod"), names),
    st.tuples(st.just("evict")),
    st.tuples(st.just("open"), names, st.booleans()),
    st.tuples(st.just("write"), data),
    st.tuples(st.just("close")),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.5, 3.0, 70.0])),
    st.tuples(st.just("steps"), st.integers(1, 12)),
)
faults = st.one_of(
    st.tuples(st.just("crash")),
    st.tuples(
        st.just("fault"),
        st.sampled_from(
            ["any", "put", "copy", "delete", "delete_many", "head", "complete_multipart", "upload_part", "get", "fetch"]
        ),
        st.booleans(),
        st.integers(0, 3),
        st.booleans(),
    ),
    st.tuples(st.just("unreachable"), st.sampled_from([1.0, 400.0])),
)
programs = st.lists(st.one_of(operations, operations, operations, faults), max_size=25)
quiet_programs = st.lists(operations, max_size=20)
stores = st.sampled_from(
    [
        EVERYTHING,
        Capabilities(),
        Capabilities(part_copy_source_if_match=False),
        Capabilities(False, False, False, False, False, False, False),
    ]
)


class Program:
    """One run of a program against a world, and the model beside it."""

    def __init__(self, world):
        self.world = world
        self.model = {}
        self.open_files = []

    async def run(self, program):
        program = list(program)
        while True:
            async with self.world.running() as uploader:
                if await self.live(program):
                    self.world.store.heal()
                    while self.open_files:
                        await self.world.close_file(self.open_files.pop())
                    report = await uploader.drain()
                    assert report.complete, report
                    # A last close only says so; the record of an unlinked file goes a moment later.
                    await self.world.arrived(lambda: not list(self.world.meta.iter_orphans()))
                    await uploader.drain()
                    break
            self.open_files.clear()
            self.world.crash()
        await self.world.check()
        assert {path: None if path.endswith("/") else await self.world.read(path) for path in self.world.paths()} == {
            path + "/" * (value is None): value for path, value in self.model.items()
        }

    async def live(self, program):
        """Work until the program ends (True) or crashes (False)."""
        while program:
            operation, *arguments = program.pop(0)
            if operation == "crash":
                # What was written and neither closed nor synced may be lost; that is not what is tested here.
                for number in self.open_files:
                    await self.world.content(number).persist()
                return False
            await getattr(self, operation)(*arguments)
        return True

    # ------------------------------------------------------------------ the file system, and the model of it

    def is_directory(self, path):
        return path in self.model and self.model[path] is None

    def can_be_made(self, path):
        return path not in self.model and (("/" not in path) or self.is_directory(path.rpartition("/")[0]))

    def below(self, path):
        return [other for other in self.model if other.startswith(path + "/")]

    async def put(self, path, content):
        if self.can_be_made(path) or isinstance(self.model.get(path), bytes):
            if self.world.at(path) is not None and not self.world.at(path).is_regular:
                return
            await self.world.put(path, content)
            self.model[path] = content

    async def patch(self, path, content, offset):
        old = self.model.get(path)
        if isinstance(old, bytes) and content and self.world.need(path).is_regular:
            await self.world.write(path, content, offset)
            old = old.ljust(offset, b"\0")
            self.model[path] = old[:offset] + content + old[offset + len(content) :]

    async def rename(self, path, to):
        if path not in self.model or path == to or (to + "/").startswith(path + "/"):
            return
        if not self.can_be_made(to) and (
            to not in self.model or self.below(to) or self.is_directory(to) != self.is_directory(path)
        ):
            return
        self.world.rename(path, to)
        self.model.pop(to, None)
        for old in [path, *self.below(path)]:
            self.model[to + old.removeprefix(path)] = self.model.pop(old)

    async def exchange(self, path, to):
        if path not in self.model or to not in self.model:
            return
        if (to + "/").startswith(path + "/") or (path + "/").startswith(to + "/"):
            return
        self.world.rename(path, to, exchange=True)
        first = {old: self.model.pop(old) for old in [path, *self.below(path)]}
        second = {old: self.model.pop(old) for old in [to, *self.below(to)]}
        self.model |= {to + old.removeprefix(path): value for old, value in first.items()}
        self.model |= {path + old.removeprefix(to): value for old, value in second.items()}

    async def unlink(self, path):
        if path in self.model and not self.below(path):
            self.world.unlink(path)
            del self.model[path]

    async def mkdir(self, path):
        if self.can_be_made(path):
            self.world.mkdir(path)
            self.model[path] = None

    async def symlink(self, path):
        if self.can_be_made(path):
            self.world.symlink(path, b"target of " + path.encode())
            self.model[path] = b"target of " + path.encode()

    async def chmod(self, path):
        if path in self.model:
            self.world.chmod(path, 0o640 if self.world.need(path).mode & 0o7 else 0o755)

    async def evict(self):
        for inode in self.world.paths().values():
            if inode.is_regular and not inode.dirty_since_ns:
                self.world.cache.drop(inode.ino)

    async def open(self, path, writing):
        inode = self.world.at(path)
        if inode is not None and inode.is_regular:
            self.open_files.append(self.world.open(path, writing=writing))

    async def write(self, content):
        """Through an open handle, not yet recorded when it returns."""
        writable = [number for number in self.open_files if self.world.handles[number][1]]
        if writable:
            live = self.world.content(writable[0])
            inode = self.world.meta.inode(live.ino)
            await live.write(live.size, content)
            if inode.linked:
                path = next(path for path, other in self.world.paths().items() if other.ino == live.ino)
                self.model[path] += content

    async def close(self):
        if self.open_files:
            await self.world.close_file(self.open_files.pop(0))

    # ------------------------------------------------------------------ time and trouble

    async def wait(self, seconds):
        await trio.sleep(seconds)

    async def steps(self, count):
        for _ in range(count):
            await trio.lowlevel.checkpoint()

    async def fault(self, operation, after, skip, busy):
        error = StoreBusy("slow down") if busy else StoreUnreachable("lost")
        self.world.store.fail(operation, error, after=after, skip=skip)

    async def unreachable(self, seconds):
        self.world.store.unreachable()
        await trio.sleep(seconds)
        self.world.store.heal()


def simulate(program, capabilities, **more):
    async def main():
        with memory_directory() as directory:
            bucket = FakeObjectStore(part_bytes_min=PART_MIN, capabilities=capabilities)
            world = World(
                directory, bucket=bucket, part_bytes=PART, part_bytes_min=PART_MIN, cell_bytes=CELL,
                small_file_bytes=SMALL, fetch_bytes_max=40, **more,
            )  # fmt: skip
            try:
                with trio.fail_after(1_000_000):
                    await Program(world).run(program)
            finally:
                world.close()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


no_hurry = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@no_hurry
@given(quiet_programs, stores)
def test_the_bucket_becomes_the_namespace(program, capabilities):
    simulate(program, capabilities)


@no_hurry
@given(programs, stores)
def test_the_bucket_becomes_the_namespace_through_faults_and_crashes(program, capabilities):
    simulate(program, capabilities)
