"""A reader asks the bucket for bytes under an etag that our own upload is replacing: that is no change by others.

In a cache with room, and past one that has none for what is read.
"""

import math
import os

import pytest
import trio
from trio.testing import MockClock

from gatewayfs.errors import FsError, Unavailable
from gatewayfs.types import ROOT_INO
from tests.sim.world import World

SIZE_BYTES = 6 << 20
FAR = SIZE_BYTES - 100
BEFORE = bytes(range(256)) * (SIZE_BYTES // 256)


async def reading(world, beside, operation, times):
    """Read the file's beginning, then its end, with ``beside`` happening while the end is asked for."""
    world.bucket.foreign_put("file", BEFORE)
    inode = await world.fs.names.lookup(ROOT_INO, b"file")
    handle = await world.fs.files.open(inode.ino, os.O_RDONLY)
    assert await world.fs.files.read(handle, 0, 10) == BEFORE[:10]
    asked = world.link.hold(operation)
    answers = []

    async def read_far():
        try:
            answers.append(await world.fs.files.read(handle, FAR, 10))
        except FsError as problem:
            answers.append(problem)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_far)
        for _ in range(times):
            await asked.reached.wait()
            await beside(inode.ino)
            asked, answered = world.link.hold(operation), asked
            answered.release()
        asked.release()
    answers.append(await world.fs.files.read(handle, FAR, 10))
    await world.fs.files.release(handle)
    return answers


def perform(tmp_path, beside, operation, cache_bytes, times=1):
    world = World(tmp_path / "cache", cache_bytes=cache_bytes)
    answers = []

    async def main():
        async with trio.open_nursery() as nursery:
            await world.start(nursery)
            answers.extend(await reading(world, lambda ino: beside(world, ino), operation, times))
            await world.crash()
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))
    return answers


async def change_and_upload(world, ino):
    handle = await world.fs.files.open(ino, os.O_WRONLY)
    await world.fs.files.write(handle, 0, os.urandom(1))
    await world.fs.files.release(handle)
    await world.uploader.drain()


async def replace(world, ino):
    world.bucket.foreign_put("file", b"\0" * SIZE_BYTES)


WAYS = pytest.mark.parametrize(
    ("operation", "cache_bytes"), [("fetch", math.inf), ("get", 4096)], ids=["into the cache", "past the cache"]
)


@WAYS
def test_our_own_upload_beside_a_read_is_no_error(tmp_path, operation, cache_bytes):
    assert perform(tmp_path, change_and_upload, operation, cache_bytes) == [BEFORE[FAR : FAR + 10]] * 2


@WAYS
def test_a_replacement_by_others_is_one(tmp_path, operation, cache_bytes):
    first, then = perform(tmp_path, replace, operation, cache_bytes)
    assert isinstance(first, Unavailable)
    assert then == bytes(10)


def test_our_own_uploads_one_after_the_other_beside_a_read_are_none_either(tmp_path):
    assert perform(tmp_path, change_and_upload, "get", 4096, times=3) == [BEFORE[FAR : FAR + 10]] * 2
