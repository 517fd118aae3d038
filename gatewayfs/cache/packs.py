"""Small files share big ones: append-only packs.

Creating a file on ext4 costs several times what a small write costs, so the bytes of a small file (up to
``cache.small_file``) are appended to the active pack with one ``pwrite`` when it is closed. The page cache survives
kill -9, so that is all close() needs; the committer syncs the pack before it commits a record that points into it, and
fsync syncs it at once. An entry is never overwritten: a changed file gets a new entry, which also makes an entry a
perfect snapshot for an upload.

    pack    packs/00000001.pack, about PACK_BYTES long
    entry   header (40 bytes): magic "GWP1", header length, inode, content revision, length, xxh3-64 of the data; data

Space comes back in two ways, both only after the record that stopped pointing at an entry is durable: whole blocks of a
dead entry are punched out, and a pack without a live byte is unlinked. Live bytes are counted in memory; the count
starts with a background walk over the records, and until it ended no pack is unlinked.
"""

import struct
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import xxhash

from gatewayfs.errors import CorruptRecord
from gatewayfs.meta.schema import PLACED_IN_PACK, Placement
from gatewayfs.runtime.disk import Disk, OpenFile, open_file, pread_exactly, pwrite_all, translated
from gatewayfs.runtime.failpoints import failpoint, register

PACK_BYTES = 64 << 20
"""A pack is closed when it is this long: large enough to keep directories and descriptors few, small enough that one
live straggler does not hold much dead space (whole blocks are punched anyway)."""

OPEN_PACKS_MAX = 64
"""Descriptors kept open for reading."""

_HEADER = struct.Struct("<4sIQQQQ")
_MAGIC = b"GWP1"
_BLOCK = 4096

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
        numbers = [int(path.stem) for path in directory.glob("*.pack")]
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
            raise translated(problem, f"pack {self._active}") from problem
        failpoint(_AFTER_APPEND)
        offset = self._position + _HEADER.size
        self._position = offset + len(data)
        self.count(self._active, len(data))
        return Placement(kind=PLACED_IN_PACK, pack=self._active, offset=offset, length=len(data), checksum=checksum)

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
        if len(data) != length or (whole and xxhash.xxh3_64_intdigest(data) != placement.checksum):
            raise CorruptRecord(f"pack {placement.pack} at {placement.offset}: bytes do not match their checksum")
        return data

    def intact(self, placement: Placement) -> bool:
        """Whether an entry matches its checksum; reads it at once, for checks only."""
        try:
            data = pread_exactly(self._file(placement.pack), placement.offset, placement.length)
        except OSError:
            return False
        return len(data) == placement.length and xxhash.xxh3_64_intdigest(data) == placement.checksum

    def count(self, pack: int, length_bytes: int) -> None:
        """An entry of ``length_bytes`` lives in ``pack``."""
        self._present.add(pack)
        self._live[pack] = self._live.get(pack, 0) + length_bytes

    def count_existing(self, placement: Placement) -> None:
        """The walk over the records met an entry; those appended since the start have been counted already."""
        if placement.pack < self._first_active:
            self.count(placement.pack, placement.length)

    def counted(self) -> None:
        """Every record has been counted: from now on packs without a live byte go."""
        self._counted = True
        for pack in sorted(self._present):
            self._unlink_if_dead(pack)

    def freeing(self, placement: Placement) -> Callable[[], None]:
        """What gives an entry's space back; to be called after the record that stops using it now is durable.

        Asked for when the record changes, not when that is durable: the walk may end in between, without having met
        this entry. Before it ended nobody knows whether it has counted the entry, and then a dead pack is rather kept
        until the next start than a live one lost.
        """
        counted = self._counted or placement.pack >= self._first_active
        return lambda: self._free(placement, counted)

    def _free(self, placement: Placement, counted: bool) -> None:
        if counted:
            self._live[placement.pack] = self._live.get(placement.pack, 0) - placement.length
        first = -(-placement.offset // _BLOCK) * _BLOCK
        last = (placement.offset + placement.length) // _BLOCK * _BLOCK
        if last > first and placement.pack in self._present:
            self._punch(self._file(placement.pack), first, last - first)
        self._unlink_if_dead(placement.pack)

    def close(self) -> None:
        """Close all descriptors."""
        self._files.clear()

    @property
    def live_bytes(self) -> int:
        """Bytes of live entries (exact once the records were counted)."""
        return sum(self._live.values())

    def _unlink_if_dead(self, pack: int) -> None:
        if not self._counted or pack == self._active or self._live.get(pack, 0) > 0:
            return
        self._live.pop(pack, None)
        self._present.discard(pack)
        self._files.pop(pack, None)
        self.path(pack).unlink(missing_ok=True)

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
