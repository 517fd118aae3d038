"""The program dies at its N-th request, for N = 1, 2, ... until it gets through; before the request has any effect, and
after it. Each time it is started again on what the records say, and must bring everything to the bucket."""

import itertools

import pytest
import trio

from gatewayfs.s3.store import Capabilities
from gatewayfs.s3.wrapping import StoreWrapper
from tests.component.upload.harness import GATEWAY_WINS, World, memory_directory
from tests.support.fakestore import EVERYTHING, FakeObjectStore


class Died(BaseException):
    """SIGKILL: nothing may catch it."""


class Dying(StoreWrapper):
    """A store during whose N-th request the program dies."""

    def __init__(self, inner):
        super().__init__(inner)
        self.left = None
        self.after = False

    async def around(self, call, perform):
        if self.left is None:
            return await perform()
        self.left -= 1
        if self.left != 0:
            return await perform()
        if self.after:
            await perform()
        self.left = None
        raise Died


async def at_every_request(prepare, act, *, capabilities, limit=10_000, step=1, check=World.check, **settings):
    """Run ``act`` after ``prepare`` with a death at each request; returns at how many it died."""
    for n in itertools.count(1, step):
        deaths = 0
        for after in (False, True):
            with memory_directory() as directory:
                bucket = FakeObjectStore(part_bytes_min=1, capabilities=capabilities)
                world = World(
                    directory,
                    bucket=bucket,
                    wrap=Dying,
                    part_bytes=16,
                    small_file_bytes=8,
                    fetch_bytes_max=30,
                    **settings,
                )
                await prepare(world)
                await world.drained()
                await act(world)
                world.store.left, world.store.after = n, after
                try:
                    await world.drained()
                except* Died:
                    deaths += 1
                    world.crash()
                    await world.drained()
                world.store.left = None
                await check(world)
                world.close()
        if not deaths:
            return n - 1
        assert n < limit
    raise AssertionError("itertools.count ended")


STORES = pytest.mark.parametrize("capabilities", [EVERYTHING, Capabilities()], ids=["all conditions", "as AWS"])


@STORES
async def test_new_files_of_every_kind(capabilities):
    async def nothing(world):
        pass

    async def act(world):
        world.mkdir("d")
        await world.write("d/small", b"1234")
        await world.write("d/large", b"0123456789abcdef" * 3 + b"x")
        world.symlink("d/link", b"small")
        world.fifo("pipe")

    assert await at_every_request(nothing, act, capabilities=capabilities) >= 10


@STORES
async def test_a_renamed_tree(capabilities):
    async def prepare(world):
        world.mkdir("d")
        world.mkdir("d/sub")
        for number in range(4):
            await world.write(f"d/f{number}", b"f%d" % number)
            await world.write(f"d/sub/g{number}", b"g%d" % number * 10)

    async def act(world):
        world.evict("d/f0")
        world.evict("d/sub/g0")
        world.rename("d", "e")
        world.chmod("e/f1", 0o600)
        await world.put("e/f2", b"edited")
        world.unlink("e/f3")
        world.rename("e/sub/g1", "moved out")

    assert await at_every_request(prepare, act, capabilities=capabilities) >= 10


@STORES
async def test_exchanges_and_replacements(capabilities):
    async def prepare(world):
        for name in "abcde":
            await world.write(name, name.encode() * 20)
        await world.write("big", b"B" * 50)

    async def act(world):
        for name in ("a", "b", "c", "big"):
            world.evict(name)
        world.rename("a", "b", exchange=True)
        world.rename("c", "big", exchange=True)
        world.rename("d", "e")
        await world.write("d", b"new d")
        await world.write("big", b"!", offset=19)

    assert await at_every_request(prepare, act, capabilities=capabilities) >= 10


async def test_edits_of_large_files_of_which_little_is_here():
    async def prepare(world):
        await world.write("big", bytes(range(200)))
        await world.write("other", bytes(range(200)))

    async def act(world):
        world.evict("big")
        world.evict("other")
        await world.write("big", b"edit", offset=70)
        world.rename("other", "elsewhere")
        world.chmod("elsewhere", 0o600)

    assert await at_every_request(prepare, act, capabilities=EVERYTHING) >= 9


@STORES
async def test_edits_and_renames_of_large_files_that_are_copied_mostly(capabilities):
    async def prepare(world):
        await world.write("big", bytes(range(200)))
        await world.write("other", bytes(range(200)))

    async def act(world):
        await world.write("big", b"edit", offset=70)
        await world.write("other", b"edit", offset=190)
        world.rename("other", "elsewhere")

    assert await at_every_request(prepare, act, capabilities=capabilities, cell_bytes=4, part_bytes_min=12) >= 9


async def test_a_renamed_directory_of_500_files():
    async def prepare(world):
        world.mkdir("d")
        for number in range(500):
            await world.write(f"d/{number:03}", b"%d" % number)

    async def act(world):
        world.rename("d", "e")

    # Every request of a thousand would take long and show nothing new: some.
    assert await at_every_request(prepare, act, capabilities=EVERYTHING, step=167) >= 600


async def test_a_directory_renamed_back_while_it_is_being_moved_settles_where_it_was():
    with memory_directory() as directory:
        world = World(directory)
        world.mkdir("d")
        for number in range(50):
            await world.write(f"d/{number:02}", b"%d" % number)
        await world.drained()
        async with world.running() as uploader:
            world.rename("d", "e")
            held = world.store.hold("copy", skip=20, times=100)
            await held.reached.wait()
            world.rename("e", "d")
            await trio.sleep(5)
            world.store.heal()
            assert (await uploader.drain()).complete
        await world.check()
        assert world.bucket.count("copy") < 100, "files that had not moved yet need no copy"
        world.close()


async def test_a_renamed_directory_that_was_never_listed_is_listed_from_where_it_was(make_world):
    world = make_world()
    ino = world.mkdir("d")
    await world.drained()
    world.bucket.foreign_put("d/f", b"theirs")

    def listed():
        from gatewayfs.meta.schema import Inode, Remote

        stored = world.bucket.raw["d/f"]
        with world.meta.transaction() as tx:
            remote = Remote("d/f", stored.etag, 6, stored.last_modified_ns, 0, 0)
            tx.put(
                Inode(
                    tx.new_ino(), ino, b"f", 0o100644, 0, 0, 6, 1, 1, 1,
                    content_revision=0, meta_revision=0, attributes_known=False, remote=remote,
                )
            )  # fmt: skip

    world.unlisted[ino] = [listed]
    world.rename("d", "e")
    assert world.need("e").directory.source == "d/"
    await world.drained()
    assert sorted(world.bucket.raw) == ["e/", "e/f"]
    assert world.need("e").directory.source == "e/"


@STORES
async def test_a_conflict_is_resolved_once_whenever_the_program_dies(capabilities):
    for settings in ({}, {"conflict_policy": GATEWAY_WINS}):

        async def prepare(world):
            await world.write("a", b"base")

        async def act(world):
            await world.put("a", b"ours")
            world.bucket.foreign_put("a", b"theirs")

        async def both_are_there(world, settings=settings):
            assert {stored.data for stored in world.bucket.raw.values()} == {b"ours", b"theirs"}
            assert len(world.bucket.raw) == len(world.paths()) == 2
            for path, inode in world.paths().items():
                assert (inode.remote.key, inode.remote.etag) == (path, world.bucket.raw[path].etag)
            assert world.bucket.raw["a"].data == (b"theirs" if not settings else b"ours")

        count = await at_every_request(prepare, act, capabilities=capabilities, check=both_are_there, **settings)
        assert count >= 3


async def test_a_directory_renamed_there_and_back_while_its_children_are_visited_forgets_none(make_world, monkeypatch):
    """Children looked at while the directory had its old name are content; the pass under way must not be the last."""
    from gatewayfs.upload import directories

    world = make_world()
    world.mkdir("d")
    for number in range(100):
        await world.write(f"d/{number:02}", b"%d" % number)
    await world.drained()
    slices, mark = itertools.count(), directories._mark

    def renaming(ctx, parent, children):
        slice_ = next(slices)
        if slice_ == 30:
            world.rename("e", "d")
        if slice_ == 70:
            world.rename("d", "e")
        return mark(ctx, parent, children)

    monkeypatch.setattr(directories, "SLICE", 1)
    monkeypatch.setattr(directories, "_mark", renaming)
    world.rename("d", "e")
    await world.drained()
    await world.check()
    assert next(slices) > 100, "the children were gone through again"
