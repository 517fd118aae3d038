"""What a disk gives back, past the page cache.

The page cache answers with the bytes that were written, whatever became of them on the disk: who wants to know whether
the disk still has them must not ask it. ``O_DIRECT`` reads the device and leaves the page cache as it is (what in it
was not written yet is written first), so neither are the pages of busy files pushed out nor those of idle ones brought
in. Where a file system knows no ``O_DIRECT`` (some that lie in memory or on a network), the range's pages are dropped
before they are read, and again after: then a program that uses them reads them once more, but the disk is asked.
(``RWF_DONTCACHE`` would not do: it takes what is cached from the cache.)

Everything here blocks: call it in a thread.
"""

import mmap
import os
import threading
from collections.abc import Iterator
from pathlib import Path

ALIGNMENT_BYTES = 4096
"""Of offset, length and memory: what the blocks of today's disks and of ext4 and XFS ask for at most."""

BUFFER_BYTES = 1 << 20
"""Read at a time; a multiple of the above."""


class _Room(threading.local):
    """Where a thread reads to: fresh memory costs more than the fingerprint of what is read into it."""

    view: memoryview | None = None

    def get(self) -> memoryview:
        if self.view is None:
            self.view = memoryview(mmap.mmap(-1, BUFFER_BYTES))
        return self.view


_room = _Room()


class Medium:
    """One file, as the disk has it. Use as a context manager, one at a time in a thread. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._direct = False

    def __repr__(self) -> str:
        return f"<Medium {self._path.name}{'' if self._direct else ', through the page cache'}>"

    def __enter__(self) -> "Medium":
        flags = os.O_RDONLY | os.O_CLOEXEC
        try:
            self._fd = os.open(self._path, flags | os.O_DIRECT)
            self._direct = True
        except FileNotFoundError:
            raise
        except OSError:  # EINVAL: no direct reads here
            self._fd = os.open(self._path, flags)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def pieces(self, offset: int, length: int) -> Iterator[memoryview]:
        """The bytes of a range from front to back, fewer at the end of the file. A piece is valid until the next."""
        end, position = offset + length, offset
        while position < end:
            start = position // ALIGNMENT_BYTES * ALIGNMENT_BYTES
            wanted = min(BUFFER_BYTES, -(-(end - start) // ALIGNMENT_BYTES) * ALIGNMENT_BYTES)
            found = self._read(start, wanted)
            piece = found[position - start : end - start]
            if not piece:
                return
            yield piece
            position += len(piece)

    def _read(self, start: int, length: int) -> memoryview:
        view = _room.get()[:length]
        if not self._direct:
            os.posix_fadvise(self._fd, start, length, os.POSIX_FADV_DONTNEED)
        got = os.preadv(self._fd, [view], start)
        if not self._direct:
            os.posix_fadvise(self._fd, start, length, os.POSIX_FADV_DONTNEED)
        return view[:got]
