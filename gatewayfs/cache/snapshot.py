"""The bytes of a file at one moment, as an upload sends them.

A snapshot copies nothing: a pack entry never changes, and of a sparse file it describes ranges with their fingerprints.
From then on the first change of any byte raises the inode's content revision in the journal *before* it happens, so
"the revision is still the same" means "every byte is". Appending behind the end spoils nothing: a log that grows all
day still reaches the bucket.
"""

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import xxhash

from gatewayfs.cache.live import Content
from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.schema import Inode
from gatewayfs.runtime.disk import OpenFile
from gatewayfs.runtime.offload import Offloader
from gatewayfs.s3.store import Body, FileRange, InlineBody

READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Bytes of one file at one moment, for an upload.

    Attributes:
        revision: the inode's content revision the bytes are.
        size: length in bytes.
        parts: fixed-size parts in order; None where the bytes are only in the bucket.
        serial: which snapshot of the live content this is (see ``unchanged``).
    """

    revision: int
    size: int
    parts: tuple[Body | None, ...]
    serial: int = 0


Fill = Callable[[Content, int, int], Awaitable[None]]


async def take(content: Content, meta: MetaStore, offload: Offloader, part_bytes: int, fill: Fill) -> Snapshot:
    """Record what is not recorded yet, then describe all of it in parts of ``part_bytes``.

    Args:
        fill: brings the absent bytes of a range. A part that is partly here is not in the bucket as a whole.

    Raises:
        StaleInode: unlinked meanwhile. LocalError: the cache disk does not give the bytes.
        StoreError: the bucket does not give the rest of a part.
    """
    content.needed += 1
    try:
        while True:
            serial = await content.freeze()
            inode = meta.require(content.ino)
            parts = await _cut(content, inode, offload, part_bytes, fill)
            snapshot = Snapshot(inode.content_revision, inode.size, parts, serial)
            if unchanged(meta.inode(content.ino), content, snapshot):
                return snapshot
    finally:
        content.needed -= 1


def unchanged(inode: Inode | None, content: Content | None, snapshot: Snapshot) -> bool:
    """Whether every byte of the snapshot is still what it was."""
    if inode is None:
        return False
    if inode.content_revision == snapshot.revision:
        return True
    # Changed since, but perhaps only behind the end. Only the latest snapshot knows.
    return content is not None and content.snapshots == snapshot.serial and content.lowest_change >= snapshot.size


async def _cut(
    content: Content, inode: Inode, offload: Offloader, part_bytes: int, fill: Fill
) -> tuple[Body | None, ...]:
    if inode.size == 0:
        return ()
    if content.in_pack or content.buffer is not None:
        return (InlineBody(await content.read(0, inode.size)),)
    sparse = content.sparse
    parts: list[Body | None] = []
    if sparse.extents:
        sparse.extend(inode.size)
    for start in range(0, inode.size, part_bytes):
        length = min(part_bytes, inode.size - start)
        if sparse.extents.missing(start, start + length) == [(start, start + length)]:
            parts.append(None)
            continue
        await fill(content, start, start + length)
        with content.readers.reading(start, start + length):
            digest = await offload.run(fingerprint, sparse.open(), start, length)
        parts.append(FileRange(str(sparse.path), start, length, digest))
    return tuple(parts)


def fingerprint(file: OpenFile, offset: int, length: int) -> bytes:
    """xxh3-128 of a range, as ``s3.store.FileRange`` wants it; of fewer bytes when the file was cut meanwhile."""
    digest = xxhash.xxh3_128()
    while length > 0:
        piece = os.pread(file.fd, min(length, READ_BYTES), offset)
        if not piece:
            break
        digest.update(piece)
        offset += len(piece)
        length -= len(piece)
    return digest.digest()
