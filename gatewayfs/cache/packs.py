"""Small files share big ones: append-only packs.

Creating a file on ext4 costs several times what a small write costs, so the bytes of a small file (up to
``cache.small_file``) are appended to the active pack with one ``pwrite`` when it is closed. The page cache survives
kill -9, so that is all close() needs; the committer syncs the pack before it commits a record that points into it, and
fsync syncs it at once. An entry is never overwritten: a changed file gets a new entry, which also makes an entry a
perfect snapshot for an upload.

    pack    packs/00000001.pack, about PACK_BYTES long
    entry   header (40 bytes): magic "GWP1", header length, inode, content revision, length, xxh3-64 of the data; data

Space comes back in two ways, both only after the record that stopped pointing at an entry is durable: blocks no live
entry touches are punched out, and a pack without a live byte is unlinked. How many live entries touch each block is
counted in memory (a byte per block: 256 MiB for a TiB of packs), so what the packs use on the disk is known exactly.
For packs of an earlier life a background walk over the records counts; until it ended, they are taken to use what the
file system says, and nothing of them is given back.
"""

import struct
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

import xxhash

from gatewayfs.cache.extents import BLOCK_BYTES
from gatewayfs.errors import CorruptRecord
from gatewayfs.meta.schema import PLACED_IN_PACK, Placement
from gatewayfs.runtime.disk import Disk, OpenFile, open_file, pread_exactly, pwrite_all
from gatewayfs.runtime.failpoints import failpoint, register
from gatewayfs.runtime.medium import Medium

PACK_BYTES = 64 << 20
"""A pack is closed when it is this long: large enough to keep directories and descriptors few, small enough that one
live straggler does not hold much dead space (whole blocks are punched anyway)."""

OPEN_PACKS_MAX = 64
"""Descriptors kept open for reading."""

_HEADER = struct.Struct("<4sIQQQQ")
_MAGIC = b"GWP1"

ENTRY_HEADER_BYTES = _HEADER.size

_BEFORE_APPEND = register("cache.pack_append.before", "nothing of the entry")
_AFTER_APPEND = register("cache.pack_append.after", "the entry is in the pack; no record names it")


class Packs:
    """All packs of one cache directory.

    Args:
        directory: ``<cache>/packs``; made when missing.
        disk: file operations.
        punch: gives ``(file, offset, length)`` back to the disk, off the event loop.
    """

    def __init__(self, directory: Path, disk: Disk, punch: Callable[[OpenFile, int, int], None]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._disk = disk
        self._punch = punch
        self._files: OrderedDict[int, OpenFile] = OrderedDict()
        self._live: dict[int, int] = {}
        self._counted = False
        self._blocks: dict[int, bytearray] = {}
        """Per pack: how many live entries touch each block."""
        self._blocks_used = 0
        self._found_bytes = {int(path.stem): path.stat().st_blocks * 512 for path in directory.glob("*.pack")}
        """What packs of an earlier life use, until their entries are counted."""
        numbers = list(self._found_bytes)
        self._present = set(numbers)
        # A pack of an earlier life is never appended to: its tail may hold an entry no record knows of.
        self._active = max(numbers, default=0) + 1
        self._first_active = self._active
        self._position = 0

    def __repr__(self) -> str:
        return f"<Packs {len(self._present)} files, active {self._active} at {self._position}>"

    def path(self, pack: int) -> Path:
        """Where pack number ``pack`` lies."""
        return self._directory / f"{pack:08d}.pack"

    def append(self, ino: int, revision: int, data: bytes) -> Placement:
        """Store the bytes of one small file; survives kill -9 when it returns; the record that names the
        pack makes it survive power loss (``Transaction.needs_data_sync``).

        Raises:
            CacheDiskFull, CacheDiskFailed: nothing was stored.
        """
        if self._position >= PACK_BYTES:
            self._active += 1
            self._position = 0
        checksum = xxhash.xxh3_64_intdigest(data)
        header = _HEADER.pack(_MAGIC, _HEADER.size, ino, revision, len(data), checksum)
        failpoint(_BEFORE_APPEND)
        try:
            pwrite_all(self._file(self._active, create=True), self._position, header + data)
        except OSError as problem:
            raise self._disk.failed(problem, f"pack {self._active}") from problem
        failpoint(_AFTER_APPEND)
        offset = self._position + _HEADER.size
        self._position = offset + len(data)
        placement = Placement(
            kind=PLACED_IN_PACK, pack=self._active, offset=offset, length=len(data), checksum=checksum
        )
        self._count(placement)
        return placement

    def is_open(self, placement: Placement) -> bool:
        """Reading the entry needs no open(2), which may have to wait for the disk."""
        return placement.pack in self._files

    async def read(self, placement: Placement, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes of an entry; the checksum is verified when the whole entry is read.

        Raises:
            CorruptRecord: the entry is not what was written.
            CacheDiskFailed: the disk does not give it.
        """
        if length is None:
            length = placement.length
        length = max(0, min(length, placement.length - offset))
        try:
            file = self._file(placement.pack)
        except FileNotFoundError as problem:
            raise CorruptRecord(f"pack {placement.pack} is missing") from problem
        data = await self._disk.read(file, placement.offset + offset, length)
        whole = offset == 0 and length == placement.length
        if len(data) != length or (whole and not intact(data, placement)):
            raise CorruptRecord(f"pack {placement.pack} at {placement.offset}: bytes do not match their checksum")
        return data

    def intact(self, placement: Placement) -> bool:
        """Whether an entry matches its checksum; reads it at once, for checks only."""
        try:
            data = pread_exactly(self._file(placement.pack), placement.offset, placement.length)
        except OSError:
            return False
        return intact(data, placement)

    def count_existing(self, placement: Placement) -> None:
        """The walk over the records met an entry; those appended since the start have been counted already."""
        if placement.pack < self._first_active:
            self._count(placement)

    def counted(self) -> None:
        """Every record has been counted, and every change of one so far is durable: what is dead goes from now on."""
        self._counted = True
        self._found_bytes.clear()
        for pack in sorted(self._present):
            self._unlink_if_dead(pack)
            if pack in self._present and pack < self._first_active:
                self._punch_dead(pack, 0, -(-self.path(pack).stat().st_size // BLOCK_BYTES))

    def _count(self, placement: Placement) -> None:
        pack = placement.pack
        self._present.add(pack)
        self._live[pack] = self._live.get(pack, 0) + placement.length
        counts = self._blocks.setdefault(pack, bytearray())
        first, end = _blocks_of(placement)
        counts.extend(bytes(max(0, end - len(counts))))
        for block in range(first, end):
            self._blocks_used += not counts[block]
            counts[block] += 1

    def freeing(self, placement: Placement) -> Callable[[], None]:
        """What gives an entry's space back; to be called after the record that stops using it now is durable.

        Asked for when the record changes, not when that is durable: the walk may end in between, without having met
        this entry. Before it ended nobody knows whether it has counted the entry, and then a dead pack is rather kept
        until the next start than a live one lost.
        """
        counted = self._counted or placement.pack >= self._first_active
        return lambda: self._free(placement, counted)

    def _free(self, placement: Placement, counted: bool) -> None:
        pack = placement.pack
        if not counted or pack not in self._present:
            return
        self._live[pack] = self._live.get(pack, 0) - placement.length
        counts = self._blocks[pack]
        first, end = _blocks_of(placement)
        for block in range(first, end):
            counts[block] -= 1
            self._blocks_used -= not counts[block]
        if not self._unlink_if_dead(pack):
            self._punch_dead(pack, first, end)

    def _punch_dead(self, pack: int, first: int, end: int) -> None:
        """Give back the blocks of ``[first, end)`` no live entry touches; never the one that is being appended to."""
        if pack == self._active:
            end = min(end, self._position // BLOCK_BYTES)
        counts = self._blocks.get(pack, b"")
        dead = first
        for block in range(first, end + 1):
            if block < end and (block >= len(counts) or not counts[block]):
                continue
            if block > dead:
                self._punch(self._file(pack), dead * BLOCK_BYTES, (block - dead) * BLOCK_BYTES)
            dead = block + 1

    def close(self) -> None:
        """Close all descriptors."""
        self._files.clear()

    @property
    def live_bytes(self) -> int:
        """Bytes of live entries (exact once the records were counted)."""
        return sum(self._live.values())

    @property
    def used_bytes(self) -> int:
        """What the packs use on the disk: every block a live entry touches."""
        return self._blocks_used * BLOCK_BYTES + sum(
            max(0, found - self._live.get(pack, 0)) for pack, found in self._found_bytes.items()
        )

    def _unlink_if_dead(self, pack: int) -> bool:
        """Whether the pack is gone."""
        if not self._counted or pack == self._active or self._live.get(pack, 0) > 0:
            return False
        self._live.pop(pack, None)
        self._blocks.pop(pack, None)
        self._present.discard(pack)
        self._files.pop(pack, None)
        self.path(pack).unlink(missing_ok=True)
        return True

    def _file(self, pack: int, *, create: bool = False) -> OpenFile:
        file = self._files.get(pack)
        if file is None:
            file = open_file(self.path(pack), create=create)
            self._files[pack] = file
            if len(self._files) > OPEN_PACKS_MAX:
                self._close_oldest(pack)
        else:
            self._files.move_to_end(pack)
        return file

    def _close_oldest(self, keep: int) -> None:
        for pack in list(self._files):
            if pack not in (keep, self._active):
                del self._files[pack]
                return


def intact_on_disk(path: Path, entries: Sequence[Placement]) -> list[bool]:
    """Whether the disk has entries of the pack at ``path``, which lie near each other, as they were written. Blocks.

    Args:
        entries: by their offsets.

    Raises OSError.
    """
    start, found = entries[0].offset, bytearray()
    with Medium(path) as medium:
        for piece in medium.pieces(start, entries[-1].offset + entries[-1].length - start):
            found += piece
    view = memoryview(found)
    return [intact(view[entry.offset - start :][: entry.length], entry) for entry in entries]


def intact(data: bytes | memoryview, placement: Placement) -> bool:
    """Whether these are the bytes of an entry."""
    return len(data) == placement.length and xxhash.xxh3_64_intdigest(data) == placement.checksum


def _blocks_of(placement: Placement) -> tuple[int, int]:
    """The blocks an entry touches, its header included: the first, and the one after the last."""
    start, end = placement.offset - ENTRY_HEADER_BYTES, placement.offset + placement.length
    return start // BLOCK_BYTES, -(-end // BLOCK_BYTES)
