"""Any history of foreign and local changes: after a refresh the namespace is the bucket, and nothing comes back.

The uploader is played by a simple one (``Uploader``): it takes one step when told, in the order of the real one.
"""

from contextlib import contextmanager

import pytest
import trio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gatewayfs.errors import FsError, ObjectNotFound
from gatewayfs.meta.schema import Doomed
from gatewayfs.refresh.estimate import Estimate
from tests.component.refresh.harness import World, replace, shown

NAMES = st.sampled_from(["a", "a-", "b"])
KEYS = st.builds("/".join, st.lists(NAMES, min_size=1, max_size=3))
MARKERS = st.builds(lambda key: key + "/", KEYS)
ODD = st.sampled_from(["a//x", "/a", "a/../b", "b/./", "//"])
FOREIGN = st.tuples(st.sampled_from(["put", "put", "delete", "refresh", "list"]), KEYS | KEYS | MARKERS | ODD)

QUIET = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@QUIET
@given(
    changes=st.lists(st.tuples(FOREIGN, st.binary(max_size=2)), max_size=40),
    page=st.sampled_from([1, 2, 1000]),
    streams=st.booleans(),
)
def test_after_any_foreign_changes_a_refresh_shows_the_bucket(tmp_path_factory, changes, page, streams):
    async def play():
        w = World(tmp_path_factory.mktemp("share"))
        w.store.page_keys_max = page
        async with w.running():
            for (action, key), data in [*changes, (("refresh", ""), b"")]:
                if action == "put":
                    w.store.foreign_put(key, data)
                elif action == "delete":
                    w.store.foreign_delete(key)
                elif action == "list":
                    await w.list_everything()
                else:
                    await w.refresh.refresh()
                    await w.list_everything()
                    assert w.tree() == shown(w.store)
        w.close()

    with refreshed_by(streams):
        trio.run(play)


@contextmanager
def refreshed_by(streams):
    """Whatever is cheaper: every tree as one stream, or directory by directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Estimate, "streams", streams)
        yield


class Uploader:
    """Brings the bucket to what the records want, one entry at a time."""

    def __init__(self, world):
        self.w = world
        self.moved_to: set[str] = set()

    async def step(self):
        """Work on the oldest entries; True if anything is left that could be done."""
        meta = self.w.meta
        await self.w.delete_doomed()
        for _, ino in list(meta.iter_dirty()):
            inode = meta.inode(ino)
            if inode is None:
                continue
            if inode.directory is not None and inode.directory.children_unsettled:
                await self._visit(ino)
            elif inode.remote is not None and inode.remote.key != meta.key_of(inode):
                await self._move(inode)
            else:
                self._settle(inode)
        return bool(meta.dirty_count or meta.doomed_count)

    async def _visit(self, ino):
        try:
            await self.w.refresh.ensure_listed(ino)
        except FsError:
            return
        with self.w.meta.transaction() as tx:
            for child_ino in tx.children(ino):
                child = tx.require(child_ino)
                if child.directory is not None:
                    child = replace(child, directory=replace(child.directory, children_unsettled=True))
                tx.put(replace(child, dirty_since_ns=child.dirty_since_ns or self.w.clock.time_ns()))
            inode = tx.require(ino)
            visited = replace(inode.directory, children_unsettled=False, source=tx.key_of(inode))
            tx.put(replace(inode, directory=visited))

    async def _move(self, inode):
        meta = self.w.meta
        key, old = meta.key_of(inode), inode.remote
        holder = meta.holder(key)
        if holder is not None and holder.ino != inode.ino:
            return
        try:
            sent = await self.w.uploads.copy(old.key, key, source_etag=None)
        except ObjectNotFound:
            # Others removed it: for this player's purposes, so do we.
            with meta.transaction() as tx:
                if inode.is_directory:
                    tx.put(replace(inode, remote=None, directory=replace(inode.directory, marker_wanted=False)))
                else:
                    tx.remove(inode.ino)
            return
        size = len(self.w.store.raw[key].data)
        with meta.transaction() as tx:
            tx.undoom(key)
            self.moved_to.add(key)
            moved = replace(old, key=key, etag=sent.etag, size=size, last_modified_ns=0)
            tx.put(replace(tx.require(inode.ino), remote=moved, size=0 if inode.is_directory else size))
            tx.doom(Doomed(old.key, old.etag, self.w.clock.time_ns()))

    def _settle(self, inode):
        directory = inode.directory and replace(inode.directory, source=self.w.meta.key_of(inode))
        with self.w.meta.transaction() as tx:
            tx.put(replace(inode, dirty_since_ns=0, directory=directory))


class Player:
    """One history, and what must hold after each of its steps."""

    def __init__(self, world):
        self.w = world
        self.uploader = Uploader(world)
        self.ours: set[str] = set()  # keys removed or moved away here, and not put there by others since
        self.known: set[int] = set()

    async def play(self, action, key, other, pick):
        """``pick`` chooses among the paths there are, for actions that need one; ``key`` is used by the others."""
        if action in ("remove", "rename", "head", "list") and (paths := sorted(self.w.tree())):
            key = paths[pick % len(paths)].rstrip("/")
        await getattr(self, f"do_{action}")(key, other)
        self.check()

    async def do_put(self, key, other):
        self.w.store.foreign_put(key, other.encode())
        self.ours.discard(key)

    async def do_delete(self, key, other):
        self.w.store.foreign_delete(key)

    async def do_refresh(self, key, other):
        await self.w.refresh.refresh()

    async def do_list(self, key, other):
        inode = self.w.path(key) or self.w.path("")
        if inode.is_directory:
            await self._ask(self.w.refresh.ensure_listed, inode.ino)

    async def do_lookup(self, key, other):
        parent = self.w.path(key.rpartition("/")[0])
        if parent is not None and parent.is_directory:
            await self._ask(self.w.refresh.ensure_name, parent.ino, key.rpartition("/")[2].encode())

    async def do_head(self, key, other):
        if (inode := self.w.path(key)) is not None:
            await self._ask(self.w.refresh.ensure_attributes, inode.ino)

    async def do_upload(self, key, other):
        await self.uploader.step()

    async def do_remove(self, key, other):
        inode = self.w.path(key)
        if inode is None:
            return
        if inode.is_directory:
            await self._list_below(inode.ino)
        keys = _keys(self.w, inode.ino)
        self.ours |= keys
        self.uploader.moved_to -= keys
        self.w.remove(key)

    async def do_rename(self, key, other):
        inode, parent = self.w.path(key), self.w.path(other.rpartition("/")[0])
        if inode is None or parent is None or not parent.is_directory or other.startswith(key + "/"):
            return
        await self._ask(self.w.refresh.ensure_name, parent.ino, other.rpartition("/")[2].encode())
        if self.w.path(other) is None and (inode := self.w.path(key)) is not None:
            self.w.rename(key, other)
            self.known |= {inode.ino}

    async def _ask(self, question, *arguments):
        """Where the answer is an error (gone, or just being moved), applications see it; the records must be right."""
        try:
            await question(*arguments)
        except FsError:
            pass

    async def _list_below(self, ino):
        await self._ask(self.w.refresh.ensure_listed, ino)
        for child in self.w.meta.children(ino):
            if self.w.meta.require(child).is_directory:
                await self._list_below(child)

    def check(self):
        """Whatever appeared was put there by others, in a directory that is listed from where the object lies."""
        for inode in _inodes(self.w):
            if inode.ino in self.known or inode.remote is None or inode.is_directory:
                continue
            self.known.add(inode.ino)
            # What was moved to a key that had been removed is there by right, also when it is found only afterwards.
            assert inode.remote.key not in self.ours - self.uploader.moved_to, f"{inode.remote.key} came back"
            parent = self.w.meta.require(inode.parent)
            if not parent.dirty_since_ns:
                assert inode.remote.key.rpartition("/")[0] == (parent.directory.source or "").rstrip("/")

    async def settle(self):
        for _ in range(50):
            if not await self.uploader.step():
                break
        assert self.w.meta.dirty_count == self.w.meta.doomed_count == 0
        # The first refresh may find that a claim is over, the second shows what it had hidden.
        for _ in range(3):
            await self.w.refresh.refresh()
            await self.w.list_everything()
            await trio.sleep(2)
            self.check()
        found, there = self.w.tree(), shown(self.w.store)
        assert {path: what for path, what in found.items() if path in there or what} == there
        # An emptied directory may live on here until somebody removes it; one that never was may not appear.
        for path in found.keys() - there.keys():
            assert self.w.path(path).ino in self.made_here, path

    @property
    def made_here(self):
        return {inode.ino for inode in _inodes(self.w) if inode.ino in self.known}


def _inodes(w):
    stack = [1]
    while stack:
        for ino in w.meta.children(stack.pop()):
            inode = w.meta.require(ino)
            yield inode
            if inode.is_directory:
                stack.append(ino)


def _keys(w, ino):
    found, stack = set(), [ino]
    while stack:
        inode = w.meta.require(stack.pop())
        if inode.remote is not None:
            found.add(inode.remote.key)
        if inode.is_directory:
            stack += w.meta.children(inode.ino)
    return found


ACTIONS = ["put", "put", "delete", "refresh", "list", "lookup", "head", "upload", "remove", "rename", "rename"]


@QUIET
@given(
    present=st.sets(KEYS, max_size=6),
    steps=st.lists(st.tuples(st.sampled_from(ACTIONS), KEYS, KEYS, st.integers(0, 9)), max_size=30),
    page=st.sampled_from([1, 1000]),
    streams=st.booleans(),
)
@example(present={"b/a/a", "a/a/a"}, steps=[("remove", "a", "a", 0), ("rename", "a", "a", 0)], page=1, streams=False)
def test_what_was_removed_or_renamed_here_never_comes_back_and_all_ends_as_the_bucket(
    tmp_path_factory, present, steps, page, streams
):
    async def play():
        w = World(tmp_path_factory.mktemp("share"))
        w.store.page_keys_max = page
        for key in present:
            w.store.foreign_put(key)
        player = Player(w)
        async with w.running():
            await w.refresh.ensure_listed(1)
            for step in steps:
                await player.play(*step)
            await player.settle()
        w.close()

    with refreshed_by(streams):
        trio.run(play, clock=trio.testing.MockClock(autojump_threshold=0))
