"""What is in the cache after a start: one walk over the records, in slices, beside everything else.

The books (``room``) follow every change from the start on; this adds what was there before. Where the file system says
that a sparse file takes less space than its ranges, it has holes; where it says more, a crash came between the record
that gave a range up and the hole that gives its space back, and the hole is punched now.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from gatewayfs.cache.extents import Extents
from gatewayfs.cache.gate import END_OF_FILE
from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.schema import PLACED_IN_FILE, PLACED_IN_PACK, Inode
from gatewayfs.runtime.disk import allocated_bytes, punch_hole
from gatewayfs.runtime.offload import Offloader

if TYPE_CHECKING:
    from gatewayfs.cache.content import ContentCache

BATCH = 500
"""Records at a time: about 3 ms of the loop."""

SLACK_BYTES = 1 << 20
"""File systems allocate a little more than asked for (metadata, blocks ahead of a growing file)."""


async def take_stock(
    cache: "ContentCache", meta: MetaStore, offload: Offloader, inodes: Callable[[int, int], list[Inode]]
) -> None:
    """Walk all records once."""
    after = 0
    while batch := inodes(after, BATCH):
        after = batch[-1].ino
        sparse = {inode.ino: path for inode in batch if (path := _sparse_path(cache, inode)) is not None}
        sizes = await offload.run(allocated_bytes, list(sparse.values())) if sparse else []
        allocated = dict(zip(sparse, sizes, strict=True))
        for inode in batch:
            if inode.placement is not None:
                await _count(cache, meta, offload, inode, allocated.get(inode.ino))
        await trio.lowlevel.checkpoint()
    # What was forgotten during the walk must be durable before its space may go.
    await meta.sync()
    cache.packs.counted()


def _sparse_path(cache: "ContentCache", inode: Inode) -> Path | None:
    placement = inode.placement
    if placement is None or placement.kind != PLACED_IN_FILE:
        return None
    return cache.folder.path(inode.ino, placement.pack)


async def _count(
    cache: "ContentCache", meta: MetaStore, offload: Offloader, inode: Inode, allocated: int | None
) -> None:
    """Put one file into the books, unless it was forgotten meanwhile.

    Args:
        allocated: what its sparse file takes on the disk.
    """
    placement, content, now = inode.placement, cache.live(inode.ino), meta.inode(inode.ino)
    assert placement is not None
    unmoved = now is not None and now.placement == placement
    if unmoved and placement.kind == PLACED_IN_PACK:
        cache.packs.count_existing(placement)
    if content is not None and content.extents:
        # Its record may be behind.
        cache.room.follow(content, 0, content.size)
    elif unmoved and now is not None:
        expected = 0 if allocated is None else Extents(placement.extents).allocated_bytes(0, END_OF_FILE)
        if allocated is not None and not expected <= allocated <= expected + SLACK_BYTES:
            await _count_odd(cache, offload, now)
        else:
            cache.room.place(inode.ino, placement, cache.room.standing(now))


async def _count_odd(cache: "ContentCache", offload: Offloader, inode: Inode) -> None:
    """A sparse file with holes, or with space that its record does not name: see which, give that back."""
    with cache.using(inode) as content:
        async with content.gate.hold(0, END_OF_FILE):
            file = content.sparse.open()
            for start, end in content.extents.missing(0, content.size):
                await offload.run(punch_hole, file, start, end - start)
            cache.room.follow(content, 0, content.size)
