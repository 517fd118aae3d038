"""What is pinned is not evicted, wherever it is moved, and what comes under a pin is noticed."""

import os

import msgspec
import pytest

from gatewayfs.cache.limits import Limits
from gatewayfs.cache.room import key_of
from gatewayfs.errors import UserError
from gatewayfs.meta.schema import Directory, Inode, Remote
from tests.component.cache.test_evicting import SMALL, Box

DIRECTORY = 50
SIZE = 200_000


class PinBox(Box):
    """A box with a directory (inode 50) and small files that are here and in the bucket."""

    def __init__(self, directory):
        super().__init__(directory, limits=Limits(SIZE))
        inode = Inode(DIRECTORY, 1, b"dir", 0o040755, 0, 0, 0, 1, 1, 1, directory=Directory(complete=True))
        with self.meta.transaction() as tx:
            tx.put(inode)

    async def clean(self, ino, parent=1, name=None, size=SMALL):
        data = os.urandom(size)
        await self.write(ino, data)
        etag = self.store.foreign_put(f"f{ino}", data)
        inode = self.meta.require(ino)
        remote = Remote(f"f{ino}", etag, size, 1, inode.content_revision, inode.meta_revision)
        self.change(ino, remote=remote, dirty_since_ns=0, parent=parent, name=name or inode.name)

    def change(self, ino, **changes):
        with self.meta.transaction() as tx:
            tx.put(msgspec.structs.replace(self.meta.require(ino), **changes))

    def pin(self, ino):
        """Pin, and have it looked at."""
        inode = self.meta.require(ino)
        self.cache.pins.add(inode.name.decode(), inode, 1)
        if inode.is_directory:
            self.cache.pins.found(inode, covered=True)
        self.cache.pins.pending.clear()

    async def evicts(self, ino):
        """Whether the file's bytes go when they are asked to."""
        return bool(await self.evictor.evict([key_of(ino, 0, True)]))


@pytest.fixture
def box(tmp_path):
    box = PinBox(tmp_path)
    yield box
    box.close()


async def test_files_at_and_below_a_pin_stay(box):
    for ino, parent in ((2, 1), (3, 1), (4, DIRECTORY)):
        await box.clean(ino, parent)
    box.pin(2)
    box.pin(DIRECTORY)
    assert [await box.evicts(ino) for ino in (2, 3, 4)] == [False, True, False]
    assert (box.room.pinned_files, box.room.pinned_bytes > 2 * SMALL) == (2, True)
    box.cache.pins.remove("f2")
    box.cache.pins.remove("dir")
    assert [await box.evicts(ino) for ino in (2, 4)] == [True, True]
    assert (box.room.pinned_files, box.room.pinned_bytes) == (0, 0)


async def test_a_pin_survives_a_restart_and_goes_where_its_file_is_moved(box):
    await box.clean(2)
    box.pin(2)
    box.change(2, parent=DIRECTORY, name=b"elsewhere")
    assert box.cache.pins.paths == ["dir/elsewhere"]
    box.crash()
    assert box.cache.pins.paths == ["dir/elsewhere"]
    assert not await box.evicts(2)


async def test_a_tree_is_covered_from_the_moment_it_is_moved_below_a_pin_until_it_leaves(box):
    await box.clean(2)
    box.pin(DIRECTORY)
    tree = Inode(51, 1, b"tree", 0o040755, 0, 0, 0, 1, 1, 1, directory=Directory(complete=True))
    with box.meta.transaction() as tx:
        tx.put(tree)
    box.change(2, parent=51)
    assert not box.cache.pins.pending
    box.change(51, parent=DIRECTORY)
    assert box.cache.pins.pending == {51}
    assert not await box.evicts(2)
    box.cache.pins.found(box.meta.require(51), covered=True)
    box.cache.pins.pending.clear()
    box.change(51, parent=1)
    assert box.cache.pins.pending == {51}
    assert await box.evicts(2)


async def test_what_is_renamed_over_a_pinned_file_takes_its_pin_over(box):
    await box.clean(2)
    await box.clean(3)
    box.pin(2)
    with box.meta.transaction() as tx:
        tx.remove(2)
        tx.put(msgspec.structs.replace(box.meta.require(3), name=b"f2"))
    assert not await box.evicts(3)
    box.cache.pins.save()
    box.crash()
    assert box.cache.pins.paths == ["f2"]
    assert not await box.evicts(3)


async def test_a_file_that_lacks_bytes_below_a_pin_is_looked_at(box):
    box.pin(DIRECTORY)
    box.remote(2, b"only in the bucket")
    assert not box.cache.pins.pending
    box.change(2, parent=DIRECTORY)
    assert box.cache.pins.pending == {2}


async def test_what_is_pinned_beyond_its_share_of_the_cache_may_go(box):
    for ino in range(2, 22):
        await box.clean(ino, DIRECTORY)
    box.pin(DIRECTORY)
    await box.evictor.relieve()
    assert box.room.used_bytes <= SIZE
    assert SIZE * 0.65 < box.room.pinned_bytes <= SIZE * 0.75
    gone = [ino for ino in range(2, 22) if not box.cache.is_resident(box.meta.require(ino))]
    assert gone
    box.room.entries.check()


async def test_a_pin_whose_file_and_directory_are_gone_is_forgotten(box):
    await box.clean(2, DIRECTORY)
    box.pin(2)
    with box.meta.transaction() as tx:
        tx.remove(2)
    box.cache.pins.save()
    assert box.cache.pins.paths == ["dir/f2"]
    with box.meta.transaction() as tx:
        tx.remove(DIRECTORY)
    box.cache.pins.save()
    assert box.cache.pins.paths == []


async def test_there_are_only_so_many_pins(box, monkeypatch):
    monkeypatch.setattr("gatewayfs.cache.pins.PINS_MAX", 1)
    await box.clean(2)
    box.pin(2)
    with pytest.raises(UserError, match="at most 1 paths"):
        box.pin(DIRECTORY)
