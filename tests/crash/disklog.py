"""What a power loss may leave of a disk, from the record of what was done to it (``powerloss.c``).

``Disk`` replays the record. For every file it keeps the bytes that an fsync made safe and the changes since; for every
directory the names that an fsync of the *directory* made safe and the changes since. ``materialise`` then writes out
one of the many states the machine may come up with: of the changes since the last fsync each 4 KiB page is there as of
some moment of its own, so later writes may have survived and earlier ones not; a file's length is as of some other
moment; now and then a page is torn between two sectors. Names of one directory appear and vanish in order, up to some
moment.

This is harsher than any one file system: ext4 and XFS also make a new file's name durable when the file is fsynced.
"""

import os
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Protocol

PAGE = 4096
SECTOR = 512
_HEADER = struct.Struct("<IIQqqQ")
_ZEROS = bytes(PAGE)


class Kind(IntEnum):
    """As in powerloss.c."""

    WRITE = 1
    TRUNCATE = 2
    ALLOCATE = 3
    PUNCH = 4
    SYNC = 5
    SYNC_DIRECTORY = 6
    CREATE = 7
    MKDIR = 8
    RENAME = 9
    UNLINK = 10
    RMDIR = 11
    MARK = 12
    UNKNOWN = 13


@dataclass(frozen=True, slots=True)
class Operation:
    """One record."""

    kind: Kind
    inode: int
    offset: int
    length: int
    extra: int
    path: str
    data: bytes


def read_log(path: Path) -> Iterator[Operation]:
    """The operations in order."""
    with path.open("rb") as file:
        while header := file.read(_HEADER.size):
            kind, path_length, inode, offset, length, extra = _HEADER.unpack(header)
            name = file.read(path_length).decode()
            data = file.read(length) if kind == Kind.WRITE else b""
            assert len(data) == (length if kind == Kind.WRITE else 0), "the log ends within an operation"
            yield Operation(Kind(kind), inode, offset, length, extra, name, data)


class Choice(Protocol):
    """How an adversary answers "as of which of ``count`` changes does this page (or name, or length) survive?"."""

    def __call__(self, rng: random.Random, count: int) -> int: ...


ADVERSARIES: dict[str, Choice] = {
    "nothing unsynced survives": lambda rng, count: 0,
    "everything survives": lambda rng, count: count,
    "pages survive or not": lambda rng, count: rng.choice((0, count)),
    "pages survive as of any moment": lambda rng, count: rng.randint(0, count),
    "most survive": lambda rng, count: count if rng.random() < 0.95 else rng.randint(0, count),
}


@dataclass(slots=True)
class _File:
    size: int = 0
    pages: dict[int, bytes] = field(default_factory=dict)
    pending: list[Operation] = field(default_factory=list)

    def sync(self) -> None:
        touched = {page for operation in self.pending for page in _pages_of(operation, self)}
        sizes = self._sizes()
        new = {page: self._page(page, len(self.pending)) for page in touched}
        self.size = sizes[-1]
        self.pages.update(new)
        self.pending.clear()

    def _sizes(self) -> list[int]:
        """Length before the first change and after each."""
        sizes = [self.size]
        for operation in self.pending:
            end = operation.offset + (operation.extra if operation.kind == Kind.ALLOCATE else operation.length)
            if operation.kind == Kind.TRUNCATE:
                sizes.append(operation.offset)
            elif operation.kind == Kind.PUNCH:
                sizes.append(sizes[-1])
            else:
                sizes.append(max(sizes[-1], end))
        return sizes

    def _page(self, number: int, count: int, sector_counts: list[int] | None = None) -> bytes:
        """A page with the first ``count`` changes, or with so many of them for each sector."""
        if sector_counts is not None:
            versions = [self._page(number, each) for each in sector_counts]
            return b"".join(version[at * SECTOR : (at + 1) * SECTOR] for at, version in enumerate(versions))
        page = bytearray(self.pages.get(number, _ZEROS))
        start = number * PAGE
        for operation in self.pending[:count]:
            if operation.kind == Kind.WRITE:
                first, last = max(start, operation.offset), min(start + PAGE, operation.offset + operation.length)
                if first < last:
                    page[first - start : last - start] = operation.data[
                        first - operation.offset : last - operation.offset
                    ]
            elif operation.kind in (Kind.TRUNCATE, Kind.PUNCH):
                # A cut zeroes everything behind it.
                end = start + PAGE if operation.kind == Kind.TRUNCATE else operation.offset + operation.extra
                first, last = max(start, operation.offset), min(start + PAGE, end)
                if first < last:
                    page[first - start : last - start] = bytes(last - first)
        return bytes(page)

    def survive(self, rng: random.Random, choose: Choice) -> tuple[int, dict[int, bytes]]:
        """Length and pages as one adversary leaves them."""
        count = len(self.pending)
        size = self._sizes()[choose(rng, count)]
        pages = dict(self.pages)
        by_page: dict[int, list[int]] = {}
        for index, operation in enumerate(self.pending):
            for page in _pages_of(operation, self):
                by_page.setdefault(page, []).append(index)
        for page, indices in by_page.items():
            moments = [0, *(index + 1 for index in indices)]
            if len(moments) > 1 and rng.random() < 0.05:
                sectors = [moments[choose(rng, len(moments) - 1)] for _ in range(PAGE // SECTOR)]
                pages[page] = self._page(page, 0, sectors)
            else:
                pages[page] = self._page(page, moments[choose(rng, len(moments) - 1)])
        return size, pages


def _pages_of(operation: Operation, file: _File) -> range:
    if operation.kind == Kind.TRUNCATE:
        known = max([*file.pages, *(each.offset + each.length for each in file.pending)], default=0)
        end = max(max(file.pages, default=-1) + 1, -(-known // PAGE))
        return range(operation.offset // PAGE, end)
    length = operation.extra if operation.kind == Kind.PUNCH else operation.length
    return range(operation.offset // PAGE, -(-(operation.offset + length) // PAGE))


@dataclass(slots=True)
class _Directory:
    entries: dict[str, int] = field(default_factory=dict)
    pending: list[tuple[str, int]] = field(default_factory=list)
    """(name, inode), inode 0: the name is gone. A rename is two of them, kept together."""

    def after(self, count: int) -> dict[str, int]:
        entries = dict(self.entries)
        for names in self.pending[:count]:
            for name, inode in names if isinstance(names[0], tuple) else [names]:
                if inode:
                    entries[name] = inode
                else:
                    entries.pop(name, None)
        return entries


class Disk:
    """The recorded file system at one moment of the record.

    Args:
        root: the recorded directory; empty when the recording began.
    """

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._files: dict[int, _File] = {}
        self._directories: dict[str, _Directory] = {self._root: _Directory()}
        self._names: dict[str, int] = {}
        self._directory_paths: dict[int, str] = {os.stat(root).st_ino: self._root}
        self._volatile: set[int] = set()
        self.marks: list[str] = []

    def apply(self, operation: Operation) -> None:
        """The next operation happens."""
        kind = operation.kind
        if kind == Kind.MARK:
            self.marks.append(operation.path)
        elif kind in (Kind.WRITE, Kind.TRUNCATE, Kind.ALLOCATE, Kind.PUNCH):
            self._change(operation)
        elif kind == Kind.SYNC:
            self._files[operation.inode].sync()
        elif kind == Kind.SYNC_DIRECTORY:
            directory = self._directories[self._directory_paths[operation.inode]]
            directory.entries = directory.after(len(directory.pending))
            directory.pending.clear()
        elif kind == Kind.UNKNOWN:
            name = next((path for path, inode in self._names.items() if inode == operation.inode), "?")
            # LMDB's lock file is shared memory between processes and is made anew by the first of them.
            understood = operation.path == "mmap" and name.endswith("/lock.mdb")
            assert understood, f"not understood: {operation} on {name}"
            self._volatile.add(operation.inode)
        else:
            self._name(operation)

    def _change(self, operation: Operation) -> None:
        file = self._files[operation.inode]
        if operation.kind == Kind.WRITE and operation.extra:  # O_DSYNC: these bytes, and only these, are safe
            assert not file.pending, "O_DSYNC behind unsynced changes is not modelled"
            file.pending.append(operation)
            file.sync()
        else:
            file.pending.append(operation)

    def _name(self, operation: Operation) -> None:
        old, _, new = operation.path.partition("\0")
        where, _, name = old.rpartition("/")
        directory = self._directories[where]
        if operation.kind == Kind.RENAME:
            assert new.rpartition("/")[0] == where, "renames between directories are not modelled"
            inode = self._names.pop(old)
            self._names[new] = inode
            both = ((name, 0), (new.rpartition("/")[2], inode))
            directory.pending.append(both)  # type: ignore[arg-type]
            return
        if operation.kind in (Kind.UNLINK, Kind.RMDIR):
            self._names.pop(old)
            directory.pending.append((name, 0))
            return
        self._names[old] = operation.inode
        directory.pending.append((name, operation.inode))
        if operation.kind == Kind.MKDIR:
            self._directories[old] = _Directory()
            self._directory_paths[operation.inode] = old
        else:
            self._files[operation.inode] = _File()

    def materialise(self, target: Path, rng: random.Random, choose: Choice) -> None:
        """Write one possible state after a power loss now into the new directory ``target``."""
        target.mkdir()
        self._materialise(self._root, target, rng, choose)

    def _materialise(self, path: str, target: Path, rng: random.Random, choose: Choice) -> None:
        directory = self._directories[path]
        for name, inode in directory.after(choose(rng, len(directory.pending))).items():
            where = target / name
            if inode in self._directory_paths:
                where.mkdir()
                self._materialise(self._directory_paths[inode], where, rng, choose)
                continue
            size, pages = self._files[inode].survive(rng, choose)
            fd = os.open(where, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            os.ftruncate(fd, size)
            if inode not in self._volatile:
                for number, page in pages.items():
                    if number * PAGE < size and page != _ZEROS:
                        os.pwrite(fd, page[: size - number * PAGE], number * PAGE)
            os.close(fd)
