"""Lines for a file, written by a thread of its own: whoever has something to say never waits for a disk.

``put`` is a few microseconds. What does not fit into the bounded queue, or cannot be written, is dropped and counted:
a log must not stop what it tells about. The file is opened again when something else has its name (logrotate, without
``copytruncate``). Nothing is fsynced: power loss may take the last lines.
"""

import logging
import os
import queue
import threading
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

LINES_MAX = 20_000
"""About 10 MB; a second or two of the busiest share there is."""
BATCH_LINES = 500
MODE = 0o640
CLOSE_S_MAX = 5.0


@dataclass(frozen=True, slots=True)
class LineStatistics:
    """Since the start: lines written, lines given up, and what the file system said last ("" when all is well)."""

    written: int
    dropped: int
    error: str


class LineFile:
    """Appends lines to ``path``.

    Args:
        lines_max: how many may wait.

    Raises:
        OSError: the file cannot be opened now. Later troubles are counted, not raised.
    """

    def __init__(self, path: Path, lines_max: int = LINES_MAX) -> None:
        self._path = path
        self._queue: queue.Queue[bytes | None] = queue.Queue(lines_max)
        self._written = self._dropped = 0
        self._error = ""
        self._fd = self._opened()
        self._thread = threading.Thread(target=self._run, name=f"lines {path.name}", daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> None:
        """Queue a line, without its end. Never blocks."""
        try:
            self._queue.put_nowait(line)
        except queue.Full:
            self._dropped += 1

    def statistics(self) -> LineStatistics:
        """Return a snapshot."""
        return LineStatistics(self._written, self._dropped, self._error)

    def close(self) -> None:
        """Write what waits; a file system that hangs is left behind after a few seconds. Blocks."""
        try:
            self._queue.put(None, timeout=CLOSE_S_MAX)
        except queue.Full:
            return  # the thread hangs in a write; it ends with the process
        self._thread.join(CLOSE_S_MAX)

    def _run(self) -> None:
        while True:
            lines = [self._queue.get()]
            try:
                while len(lines) < BATCH_LINES:
                    lines.append(self._queue.get_nowait())
            except queue.Empty:
                pass  # all there is
            wanted = [line + b"\n" for line in lines if line is not None]
            if wanted:
                self._write(wanted)
            if None in lines:
                os.close(self._fd)
                return

    def _write(self, lines: list[bytes]) -> None:
        try:
            if self._moved():
                opened = self._opened()
                os.close(self._fd)
                self._fd = opened
            append(self._fd, b"".join(lines))
        except OSError as problem:
            self._dropped += len(lines)
            if not self._error:
                log.error("%s cannot be written, lines are dropped: %s", self._path, problem.strerror)
            self._error = problem.strerror or str(problem)
        else:
            self._written += len(lines)
            self._error = ""

    def _moved(self) -> bool:
        """Whether the name means another file now, or none."""
        ours = os.fstat(self._fd)
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            return True
        return (ours.st_dev, ours.st_ino) != (there.st_dev, there.st_ino)

    def _opened(self) -> int:
        # Not blocking: a named pipe without a reader would hang here, and is refused instead (ENXIO).
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        return os.open(self._path, flags, MODE)


def append(fd: int, data: bytes) -> None:
    """Append all of it, or cut off what was written and raise OSError: no half lines."""
    size = os.fstat(fd).st_size
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except OSError:
        if os.fstat(fd).st_size > size:
            os.ftruncate(fd, size)
        raise
