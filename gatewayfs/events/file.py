"""Events as lines of a file.

The file is opened anew for every batch, so whoever rotates it needs to tell nobody. Lines are on disk before they count
as delivered. A line that did not fit is cut off again; one that a crash left half-written is ended, so the next begins
a line of its own.
"""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from gatewayfs.events.settings import DeliveryFailed
from gatewayfs.runtime.durable import fsync_directory
from gatewayfs.runtime.offload import Offloader

MODE = 0o640
"""Names of files are nobody else's business; whoever collects logs is usually in the file's group."""


class FileTarget:
    """A ``Taker`` that appends to ``path``."""

    name = "file"
    lines_max = 256
    parallel = 1

    def __init__(self, path: Path, offload: Offloader) -> None:
        self._path = path
        self._offload = offload

    async def deliver(self, lines: Sequence[bytes]) -> None:
        # Cut short, it may still write: then the lines come twice. A dead network disk must not hold a stop up.
        data = b"".join(line + b"\n" for line in lines)
        await self._offload.run(append, self._path, data, abandon_on_cancel=True)


def append(path: Path, data: bytes) -> None:
    """Append whole lines and make them durable. Blocks. Raises DeliveryFailed; then the file is as it was."""
    try:
        # Not blocking: a named pipe without a reader would hold the thread for ever.
        new = not path.exists()
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY, MODE)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise DeliveryFailed(f"{path} is not a file; set events.file to one")
            _append(fd, status.st_size, data)
            if new:
                fsync_directory(path.parent)
        finally:
            os.close(fd)
    except OSError as problem:
        raise DeliveryFailed(f"{path}: {problem.strerror}") from problem


def _append(fd: int, size: int, data: bytes) -> None:
    if size and os.pread(fd, 1, size - 1) != b"\n":
        data = b"\n" + data
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view) :]
        os.fdatasync(fd)
    except OSError:
        os.ftruncate(fd, size)
        raise
