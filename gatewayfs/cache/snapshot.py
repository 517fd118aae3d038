"""The bytes of a file at one moment, as an upload sends them.

A snapshot copies nothing: of a small file it holds the bytes, of a sparse file the fingerprint of each cell
(runtime/fingerprints.py), and it describes ranges as bodies that the store reads and checks when it sends them.
From then on the first change of any byte raises the inode's content revision in the journal *before* it happens, so
"the revision is still the same" means "every byte is". Appending behind the end spoils nothing: a log that grows all
day still reaches the bucket.
"""

import contextlib
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from gatewayfs.cache.extents import Extents
from gatewayfs.cache.live import Content
from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.schema import Inode
from gatewayfs.runtime.disk import OpenFile, translated
from gatewayfs.runtime.fingerprints import UNKNOWN, Fingerprinter, combined
from gatewayfs.runtime.offload import Offloader
from gatewayfs.s3.store import Body, FileRange, InlineBody

READ_BYTES = 1 << 20

BATCH_BYTES = 16 << 20
"""Read and fingerprinted in one call of a worker thread: some milliseconds, so that reads of files get their turn."""


Turn = Callable[[], AbstractAsyncContextManager[object]]
NO_TURN: Turn = contextlib.nullcontext


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Bytes of one file at one moment, for an upload.

    Attributes:
        revision: the inode's content revision the bytes are.
        size: length in bytes.
        cell_bytes: size of a cell; the last one may be shorter.
        cells: each cell's fingerprint, UNKNOWN where not all of it is here.
        absent: cells of which no byte is here.
        data: all bytes, of a file that is in memory; else they are at ``path``.
        serial: which snapshot of the live content this is (see ``unchanged``).
    """

    revision: int
    size: int
    cell_bytes: int
    cells: tuple[bytes, ...]
    absent: frozenset[int] = frozenset()
    data: bytes | None = field(default=None, repr=False)
    path: str = ""
    serial: int = 0

    def body(self, start: int, length: int) -> Body:
        """A range, which begins with a cell, ends with one, and is here."""
        if self.data is not None:
            return InlineBody(self.data[start : start + length])
        cells = self.cells_of(start, length)
        assert UNKNOWN not in cells, f"bytes from {start} on are only in the bucket"
        return FileRange(self.path, start, length, combined(cells), self.cell_bytes)

    def cells_of(self, start: int, length: int) -> tuple[bytes, ...]:
        """The fingerprints of a range's cells."""
        return self.cells[start // self.cell_bytes : -(-(start + length) // self.cell_bytes)]


async def take(
    content: Content, meta: MetaStore, offload: Offloader, cell_bytes: int, before: Snapshot | None
) -> Snapshot:
    """Record what is not recorded yet, then fingerprint it in cells of ``cell_bytes``.

    Args:
        before: an earlier snapshot; as long as no byte changed, what it knows is not read again.

    Raises:
        StaleInode: unlinked meanwhile. LocalError: the cache disk does not give the bytes.
    """
    while True:
        snapshot = await look(content, meta, offload, cell_bytes, before)
        if unchanged(meta.inode(content.ino), content, snapshot):
            return snapshot


async def look(
    content: Content,
    meta: MetaStore,
    offload: Offloader,
    cell_bytes: int,
    before: Snapshot | None = None,
    turn: Turn = NO_TURN,
) -> Snapshot:
    """As ``take``, but what is found may have changed meanwhile: see ``unchanged``.

    Args:
        turn: around every few MiB that are read.
    """
    content.needed += 1
    try:
        serial = await content.freeze()
        inode = meta.require(content.ino)
        if content.in_pack or content.buffer is not None or inode.size == 0:
            return await _of_memory(content, inode, cell_bytes, serial)
        return await _of_file(content, inode, offload, cell_bytes, serial, before, turn)
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


async def _of_memory(content: Content, inode: Inode, cell_bytes: int, serial: int) -> Snapshot:
    data = await content.read(0, inode.size)
    fingerprints = Fingerprinter(cell_bytes)
    fingerprints.update(data)
    cells = tuple(fingerprints.cells())
    return Snapshot(inode.content_revision, len(data), cell_bytes, cells, data=data, serial=serial)


async def _of_file(
    content: Content,
    inode: Inode,
    offload: Offloader,
    cell_bytes: int,
    serial: int,
    before: Snapshot | None,
    turn: Turn,
) -> Snapshot:
    sparse, size = content.sparse, inode.size
    path = str(sparse.path)
    count = -(-size // cell_bytes)
    known: dict[int, bytes] = {}
    if before is not None and (before.revision, before.path, before.size, before.cell_bytes) == (
        inode.content_revision, path, size, cell_bytes,
    ):  # fmt: skip
        # What was evicted since is the object's again.
        whole, _ = _residence(sparse.extents, size, cell_bytes)
        known = {number: cell for number, cell in enumerate(before.cells) if cell and number in whole}
    if sparse.extents:
        sparse.extend(size)
    whole, touched = _residence(sparse.extents, size, cell_bytes)
    absent = frozenset(range(count)) - touched - known.keys()
    for first, end in _runs(sorted(whole - known.keys()), max(1, BATCH_BYTES // cell_bytes)):
        start, stop = first * cell_bytes, min(end * cell_bytes, size)
        async with turn():
            if not sparse.extents.covers(start, stop):
                break  # cut meanwhile: `take` will see it and begin again
            with content.readers.reading(start, stop):
                found = await offload.run(fingerprint, sparse.open(), start, stop - start, cell_bytes)
        known.update(zip(range(first, end), found, strict=False))
    cells = tuple(known.get(number, UNKNOWN) for number in range(count))
    return Snapshot(inode.content_revision, size, cell_bytes, cells, absent, path=path, serial=serial)


def _residence(extents: Extents, size: int, cell_bytes: int) -> tuple[set[int], set[int]]:
    """Numbers of the cells of which every byte is here, and of those of which any is."""
    whole: set[int] = set()
    touched: set[int] = set()
    for start, end in extents:
        after_last = -(-end // cell_bytes)
        touched.update(range(start // cell_bytes, after_last))
        whole.update(range(-(-start // cell_bytes), after_last if end >= size else end // cell_bytes))
    return whole, touched


def _runs(numbers: Sequence[int], longest: int) -> list[tuple[int, int]]:
    """Ascending numbers as half-open ranges of at most ``longest``."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number and number - runs[-1][0] < longest:
            runs[-1] = (runs[-1][0], number + 1)
        else:
            runs.append((number, number + 1))
    return runs


def fingerprint(file: OpenFile, offset: int, length: int, cell_bytes: int) -> list[bytes]:
    """The fingerprints of a range's cells; of fewer bytes when the file was cut meanwhile."""
    fingerprints = Fingerprinter(cell_bytes)
    try:
        while length > 0 and (piece := os.pread(file.fd, min(length, READ_BYTES), offset)):
            fingerprints.update(piece)
            offset += len(piece)
            length -= len(piece)
    except OSError as problem:
        raise translated(problem, "read a file to be uploaded") from problem
    return fingerprints.cells()
