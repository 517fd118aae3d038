"""Whose a new file is, and what a chmod or chown to the same writes: the rules of identity where calls arrive."""

import dataclasses
import stat
from contextlib import asynccontextmanager

import pytest
import trio

from gatewayfs.types import ROOT_INO
from gatewayfs.vfs.attributes import Changes
from gatewayfs.vfs.filesystem import Filesystem
from gatewayfs.vfs.identity import NOBODY, Identity, Numbering, Squash
from gatewayfs.vfs.share import Caller
from tests.sim.world import World


@asynccontextmanager
async def share(directory, **rules):
    """A running world and a file system with these rules of identity."""
    world = World(directory)
    async with trio.open_nursery() as nursery:
        await world.start(nursery)
        yield world, Filesystem(dataclasses.replace(world.fs.share, identity=Identity(**rules)))
        nursery.cancel_scope.cancel()


@pytest.mark.semantics("root-squash", "attr-setgid-directory")
async def test_the_group_of_a_setgid_directory_is_inherited_as_it_is_kept(tmp_path, autojump_clock):
    groups = Numbering(Squash.ROOT, table={1000: 5001, 5001: 7})
    async with share(tmp_path, groups=groups) as (world, fs):
        for kept in (0, 5001):
            # Before the first look: one listing tells of both.
            world.bucket.foreign_put(f"d{kept}/", metadata={"file-group": str(kept), "file-permissions": "042777"})
        for kept in (0, 5001):
            parent = await fs.names.lookup(ROOT_INO, b"d%d" % kept)
            assert (parent.gid, parent.mode & stat.S_ISGID) == (kept, stat.S_ISGID)
            made = await fs.names.mknod(parent.ino, b"f", stat.S_IFREG | 0o644, Caller(1000, 1000))
            below = await fs.names.mkdir(parent.ino, b"below", 0o755, Caller(1000, 1000))
            assert (made.gid, below.gid, below.mode & stat.S_ISGID) == (kept, kept, stat.S_ISGID)


@pytest.mark.semantics("forced-owner")
async def test_a_forced_umask_is_taken_from_what_is_made_and_a_forced_group_is_kept_in_setgid_directories(
    tmp_path, autojump_clock
):
    groups = Numbering(forced=1000, table={1000: 5001})
    async with share(tmp_path, groups=groups, umask=0o027) as (world, fs):
        world.bucket.foreign_put("d/", metadata={"file-group": "9", "file-permissions": "042777"})
        parent = await fs.names.lookup(ROOT_INO, b"d")
        made = await fs.names.mknod(parent.ino, b"f", stat.S_IFREG | 0o777, Caller(3, 4))
        assert (stat.S_IMODE(made.mode), made.uid, made.gid) == (0o750, 3, 5001)
        link = await fs.names.symlink(parent.ino, b"l", b"f", Caller(3, 4))
        assert stat.S_IMODE(link.mode) == 0o777


@pytest.mark.semantics("root-squash")
async def test_asking_for_what_an_object_of_ours_says_writes_nothing_and_for_what_is_only_a_default_writes_it(
    tmp_path, autojump_clock
):
    async with share(tmp_path, users=Numbering(Squash.ROOT)) as (world, fs):
        world.bucket.foreign_put("theirs", b"x")
        theirs = await fs.attributes.getattr((await fs.names.lookup(ROOT_INO, b"theirs")).ino)
        ours = await fs.names.mknod(ROOT_INO, b"ours", stat.S_IFREG | 0o644, Caller(0, 0))
        assert ours.uid == NOBODY
        same = await fs.attributes.setattr(ours.ino, Changes(uid=0, mode=0o644))
        assert same.meta_revision == ours.meta_revision
        said = await fs.attributes.setattr(theirs.ino, Changes(mode=stat.S_IMODE(theirs.mode)))
        assert said.meta_revision == theirs.meta_revision + 1
