"""Sparse cache files: the bytes of one large file, each at its own offset, and which of them are real.

    data/<last two hex digits of ino>/<ino>-<number>

The number is never used twice (it comes from the allocator of inode numbers), so a file that starts over, after a
truncation to nothing or when its bytes outgrew a pack, gets a cache file of its own: whoever still uploads or removes
the old one cannot meet the new bytes, nor the new one old bytes.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import trio

from gatewayfs.cache.extents import BLOCK_BYTES, Extents
from gatewayfs.cache.gate import END_OF_FILE
from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.schema import PLACED_IN_FILE, Inode, Placement
from gatewayfs.runtime.disk import OpenFile, holes, open_file, translated
from gatewayfs.runtime.offload import Offloader

_FILE_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]+)")


class LiveBytes(Protocol):
    """A file in use."""

    sparse: "SparseFile"


class Folder:
    """``<cache>/data``: names, numbers and removal of sparse files.

    Args:
        background: starts a function in a thread without waiting.
    """

    def __init__(self, directory: Path, meta: MetaStore, background: Callable[[Callable[[], None]], None]) -> None:
        self._directory = directory
        self._meta = meta
        self._background = background

    def path(self, ino: int, number: int) -> Path:
        """Where that file lies; 256 directories keep each of them small."""
        return self._directory / f"{ino & 0xFF:02x}" / f"{ino:016x}-{number:x}"

    def new_number(self) -> int:
        """A number no file ever had."""
        with self._meta.transaction() as tx:
            return tx.new_ino()

    def remove(self, ino: int, number: int) -> None:
        """Unlink that file, soon."""
        path = self.path(ino, number)
        self._background(lambda: path.unlink(missing_ok=True))

    async def sweep(self, offload: Offloader, live: Callable[[int], LiveBytes | None]) -> int:
        """Remove files no record names: what a crash left between two steps. Returns how many.

        Args:
            live: the live bytes of an inode, which may be ahead of its record.
        """
        removed = 0
        for directory in sorted(await offload.run(_entries, self._directory)):
            for path in await offload.run(_entries, directory):
                owner = owner_of(path)
                if owner is None:
                    continue
                ino, number = owner
                in_use = live(ino)
                if in_use is not None and in_use.sparse.number == number:
                    continue
                if not _names(self._meta.inode(ino), number):
                    self.remove(ino, number)
                    removed += 1
            await trio.lowlevel.checkpoint()
        return removed


class SparseFile:
    """One sparse file, made when the first byte comes.

    Attributes:
        number: 0 while there is no file.
        extents: which bytes are real; the others are only in the bucket.
        holes: whole blocks among them that were never written: real zeros that take no space.
    """

    __slots__ = ("_folder", "_ino", "extents", "file", "holes", "number")

    def __init__(self, folder: Folder, ino: int, placement: Placement | None = None) -> None:
        named = placement is not None and placement.kind == PLACED_IN_FILE
        self._folder = folder
        self._ino = ino
        self.number = placement.pack if named and placement is not None else 0
        self.extents = Extents(placement.extents if named and placement is not None else ())
        self.holes = Extents()
        self.file: OpenFile | None = None

    def __repr__(self) -> str:
        return f"<SparseFile {self._ino:x}-{self.number:x} {self.extents!r}>"

    @property
    def path(self) -> Path:
        """Where it lies (or would)."""
        return self._folder.path(self._ino, self.number)

    @property
    def placement(self) -> Placement | None:
        """What a record says of it; None while it holds nothing."""
        if not self.extents:
            return None
        return Placement(kind=PLACED_IN_FILE, pack=self.number, extents=self.extents.flat)

    def open(self) -> OpenFile:
        """The file, made now if need be. Raises LocalError."""
        if self.file is None:
            self.number = self.number or self._folder.new_number()
            self.file = open_file(self.path, create=True)
            if self.extents:
                self._find_holes(self.file)
        return self.file

    def fill(self, start: int, end: int) -> None:
        """Bytes were put there."""
        self.extents.add(start, end)
        if self.holes:
            self.holes.remove(start // BLOCK_BYTES * BLOCK_BYTES, -(-end // BLOCK_BYTES) * BLOCK_BYTES)

    def add_hole(self, start: int, end: int) -> None:
        """Zeros are there from now on, without being written."""
        self.extents.add(start, end)
        self.holes.add(-(-start // BLOCK_BYTES) * BLOCK_BYTES, end // BLOCK_BYTES * BLOCK_BYTES)

    def drop(self, start: int, end: int) -> None:
        """Bytes are only in the bucket from now on."""
        self.extents.remove(start, end)
        self.holes.remove(start, end)

    def allocated_bytes(self, start: int, end: int) -> int:
        """What ``[start, end)``, whole blocks, takes on the disk."""
        taken = self.extents.allocated_bytes(start, end)
        return max(0, taken - self.holes.allocated_bytes(start, end)) if self.holes else taken

    def _find_holes(self, file: OpenFile) -> None:
        """What an earlier life knew of holes; looked for only when the file takes less space than it should."""
        try:
            if os.fstat(file.fd).st_blocks * 512 < self.extents.allocated_bytes(0, END_OF_FILE):
                for start, end in holes(file):
                    self.holes.add(start, end)
        except OSError as problem:
            raise translated(problem, "look for holes") from problem

    def cut_tail(self, size: int) -> None:
        """Nothing may lie beyond the end (a failed write's bytes, a tail a crash left uncut): it would come back."""
        file = self.open()
        try:
            if os.fstat(file.fd).st_size > size:
                os.ftruncate(file.fd, size)
            self.holes.truncate(size)
        except OSError as problem:
            raise translated(problem, f"truncate to {size}") from problem

    def extend(self, size: int) -> None:
        """Make it as long as the content: who reads it by its path must find the hole at its end. Raises LocalError."""
        file = self.open()
        try:
            if os.fstat(file.fd).st_size < size:
                os.ftruncate(file.fd, size)
        except OSError as problem:
            raise translated(problem, f"extend to {size}") from problem

    def abandon(self, inode: Inode | None) -> None:
        """Nobody uses it any more. The record frees what it names; what it never named goes now."""
        if self.number and not _names(inode, self.number):
            self._folder.remove(self._ino, self.number)


def owner_of(path: Path) -> tuple[int, int] | None:
    """Inode and number of the sparse file at ``path``; None when it is none."""
    match = _FILE_NAME.fullmatch(path.name)
    return None if match is None else (int(match[1], 16), int(match[2], 16))


def _names(inode: Inode | None, number: int) -> bool:
    placement = None if inode is None else inode.placement
    return placement is not None and placement.kind == PLACED_IN_FILE and placement.pack == number


def _entries(directory: Path) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(directory)]
    except (FileNotFoundError, NotADirectoryError):
        return []
