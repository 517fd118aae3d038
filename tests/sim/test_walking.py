"""Cold trees over a line of 20 ms, in mock time: a walk meets the round trip a few times a directory, not per file."""

import os

import pytest
import trio
from trio.testing import MockClock

from gatewayfs.cache.aheadsettings import AheadSettings
from gatewayfs.types import ROOT_INO
from tests.sim.world import SMALL_FILE_BYTES, World
from tests.support.slowstore import SlowStore

RTT_S = 0.02
DIRECTORIES, FILES = 12, 30


class Tree:
    """A bucket of small files, mounted cold."""

    def __init__(self, path, files=FILES):
        self.world = World(path)
        self.line = SlowStore(self.world.bucket, rtt_s=RTT_S)
        self.world.link = self.line
        self.files = {
            f"d{directory:02}/f{number:02}": b"%d.%d" % (directory, number)
            for directory in range(DIRECTORIES)
            for number in range(files)
        }
        for key, data in self.files.items():
            self.world.bucket.foreign_put(key, data)

    async def lookup(self, parent, name):
        return await self.world.fs.names.lookup(parent, name)

    async def list_attributes(self, directories=DIRECTORIES):
        """``ls -lR``."""
        for name in sorted(await self.world.entries(ROOT_INO))[:directories]:
            inode = await self.lookup(ROOT_INO, name)
            for child in sorted(await self.world.entries(inode.ino)):
                assert (await self.lookup(inode.ino, child)).attributes_known

    async def read_all(self, directories=DIRECTORIES):
        """``grep -r``."""
        for name in sorted(await self.world.entries(ROOT_INO))[:directories]:
            inode = await self.lookup(ROOT_INO, name)
            for child in await self.world.entries(inode.ino):
                await self.read(inode.ino, child)

    async def read(self, parent, name):
        inode = await self.lookup(parent, name)
        handle = await self.world.fs.files.open(inode.ino, os.O_RDONLY)
        data = await self.world.fs.files.read(handle, 0, 4096)
        await self.world.fs.files.release(handle)
        assert data == self.files["/".join(part.decode() for part in self.world.meta.path_of(inode.ino))]
        return inode.ino


def walk(tmp_path, work, **how):
    """Run ``work(tree)`` against a cold mount; returns the tree and how long it took, in mock seconds."""
    tree = Tree(tmp_path / "cache", **how)
    took = []

    async def main():
        async with trio.open_nursery() as nursery:
            await tree.world.start(nursery)
            began = trio.current_time()
            await work(tree)
            took.append(trio.current_time() - began)
            tree.settled = await settled(tree)
            await tree.world.crash()
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))
    return tree, took[0]


async def settled(tree):
    await trio.sleep(30)
    return tree.world.fs.walking


@pytest.mark.semantics("cold-tree")
def test_listing_attributes_of_a_tree_waits_hardly_twice_per_directory(tmp_path):
    tree, took_s = walk(tmp_path, Tree.list_attributes)
    assert took_s <= RTT_S * (DIRECTORIES + 10)
    assert tree.line.count("list_page") == DIRECTORIES + 1, "no listing twice"
    assert tree.line.count("head") <= len(tree.files) + DIRECTORIES + 1


@pytest.mark.semantics("cold-tree")
def test_reading_every_file_of_a_tree_waits_a_few_times_per_directory_not_once_per_file(tmp_path):
    tree, took_s = walk(tmp_path, Tree.read_all)
    assert took_s <= RTT_S * 3 * DIRECTORIES, "30 files take at least 60 round trips, one after the other"
    assert tree.line.count("get") == len(tree.files), "no file twice"
    # One for each directory's marker, those of the first directory (its reader may only want attributes, for all we
    # know), and the first files of the second.
    assert tree.line.count("head") <= DIRECTORIES + 2 * FILES, "the attributes come with the bytes"
    walking = tree.settled
    assert walking.used_files == walking.brought_files > len(tree.files) // 2


def test_who_read_the_names_and_asks_for_the_first_attributes_at_once_need_not_prove_more(tmp_path):
    tree, took_s = walk(tmp_path, lambda tree: tree.list_attributes(directories=1))
    # Listing of the root, its directories' markers, the listing of one, its first file, its other 29.
    assert took_s == pytest.approx(5 * RTT_S)
    assert tree.line.count("head") <= DIRECTORIES + FILES, "those of the next directory are not asked for yet"


def test_a_person_who_reads_the_names_and_looks_at_one_file_later_costs_one_request(tmp_path):
    async def work(tree):
        directory = await tree.lookup(ROOT_INO, b"d00")
        names = await tree.world.entries(directory.ino)
        await trio.sleep(3)
        await tree.lookup(directory.ino, next(iter(names)))

    tree, _ = walk(tmp_path, work)
    assert tree.line.count("head") == 2, "of the directory's marker and the file"
    assert tree.line.count("list_page") == 2


@pytest.mark.parametrize("ahead", [AheadSettings(bytes_max=0), AheadSettings(limit=lambda: 1 << 20)])
def test_where_bytes_are_not_or_hardly_fetched_ahead_attributes_still_are(tmp_path, ahead):
    async def work(tree):
        tree.world.cache.ahead = ahead
        directory = await tree.lookup(ROOT_INO, b"d00")
        looked_up_s = []
        for name in await tree.world.entries(directory.ino):
            began = trio.current_time()
            await tree.lookup(directory.ino, name)
            looked_up_s.append(trio.current_time() - began)
            await tree.read(directory.ino, name)
        assert sum(looked_up_s) <= 6 * RTT_S, "not once per file"

    walk(tmp_path, work)


def test_reading_here_and_there_fetches_nothing_ahead(tmp_path):
    async def work(tree):
        root = await tree.world.entries(ROOT_INO)
        for number, name in enumerate(sorted(root)):
            inode = await tree.lookup(ROOT_INO, name)
            await tree.read(inode.ino, b"f%02d" % (number * 13 % FILES))

    tree, _ = walk(tmp_path, work)
    assert tree.line.count("get") == DIRECTORIES
    assert tree.settled.brought_files == 0


def test_a_walk_that_ends_leaves_little_behind(tmp_path):
    tree, _ = walk(tmp_path, lambda tree: tree.read_all(directories=4), files=10)
    assert tree.line.count("get") <= 4 * 10 + 10, "more than the next directory"
    assert tree.line.count("list_page") <= 4 + 8 + 1


def test_never_more_files_are_under_way_than_there_are_places(tmp_path):
    tree, _ = walk(tmp_path, Tree.read_all)
    assert tree.world.cache.ahead.files_max < FILES
    ahead_at_once = tree.world.cache.ahead.files_max
    begun = sorted(at for at, operation, *_ in tree.line.begun if operation == "get")
    for number, at in enumerate(begun[: -ahead_at_once - 2]):
        assert begun[number + ahead_at_once + 1] >= at + RTT_S - 1e-9


def test_a_file_opened_while_it_waits_for_its_turn_is_fetched_at_once(tmp_path):
    async def work(tree):
        directory = await tree.lookup(ROOT_INO, b"d00")
        names = list(await tree.world.entries(directory.ino))
        for name in names:
            await tree.lookup(directory.ino, name)
        for name in names[:20]:
            await tree.read(directory.ino, name)
            if tree.world.fs.walking._waiting:
                break
        last = next(reversed(tree.world.fs.walking._waiting))
        began = trio.current_time()
        await tree.read(directory.ino, tree.world.meta.require(last).name)
        assert trio.current_time() - began <= RTT_S * 1.01

    walk(tmp_path, work, files=60)


def test_files_larger_than_small_ones_are_left_to_read_ahead(tmp_path):
    async def work(tree):
        for key in list(tree.files):
            tree.files[key] = tree.files[key].ljust(SMALL_FILE_BYTES + 1)
            tree.world.bucket.foreign_put(key, tree.files[key])
        await tree.read_all(directories=2)

    tree, _ = walk(tmp_path, work)
    assert tree.settled.brought_files == 0


def test_a_store_that_fails_ahead_troubles_nobody(tmp_path):
    async def work(tree):
        directory = await tree.lookup(ROOT_INO, b"d00")
        names = list(await tree.world.entries(directory.ino))
        for name in names[3:]:
            tree.world.bucket.foreign_delete("d00/" + name.decode())
        for name in names[:3]:
            await tree.read(directory.ino, name)

    tree, _ = walk(tmp_path, work)
    assert tree.settled.brought_files <= 1, "the third, before it was opened"
