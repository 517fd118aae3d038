"""Reading the journal at start: what counts of what a kill or power loss left.

What power loss can do, and how it is told apart from damage
-----------------------------------------------------------
Pages that were never fdatasynced reach the disk in any order, so after power loss a frame may be torn while a later
one is whole. Nothing was promised for either: the journal ends at the first frame that is missing. But if any later
frame says "everything up to ``synced`` had been fdatasynced" and the missing frame is among those, then something that
*was* promised is gone: that is damage, and opening refuses with CorruptRecord instead of quietly losing it. (Damage to
the very last frames, which no later frame vouches for, looks like a torn tail. No journal can know better.)

A metadata frame may also reach the disk before the file contents it talks about. Within one boot that does not matter,
the page cache survived. After power loss (the segment carries another boot identity) the journal therefore ends at the
first frame that names cache files not known to be on disk (``ordered``). ``sync`` makes sure that this can only
concern frames after it.

Frames dropped at the end are never seen again. New frames take up their numbers in a new segment; the old segments are
gone by then, or, where LMDB could not take their frames yet, the dropped ones were erased.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gatewayfs.errors import CorruptRecord
from gatewayfs.meta import frames
from gatewayfs.meta.frames import Frame
from gatewayfs.meta.journal import segment_paths


@dataclass
class Replay:
    """Reads the frames after ``applied`` from a journal directory, in order, following the rules above.

    Args:
        directory: where the segments are.
        applied: the last sequence number LMDB holds.
        boot: digest of the present boot identity.

    After iterating: ``last_sequence`` is the last frame delivered (or ``applied``), ``dropped`` the number of whole
    frames behind the end that were not promised to anybody, ``next_number`` a number for a new segment.
    """

    directory: Path
    applied: int
    boot: bytes
    last_sequence: int = 0
    dropped: int = 0
    next_number: int = 1

    def __iter__(self) -> Iterator[Frame]:
        paths = segment_paths(self.directory)
        ordered = self._ordered(paths)
        expected = self.applied + 1
        beyond: list[tuple[int, int]] = []
        for path in paths:
            self.next_number = max(self.next_number, int(path.stem, 16) + 1)
            data = path.read_bytes()
            header = frames.header_of(path.name, data)
            if header is None:
                continue  # being prepared when the machine stopped
            survived_power_loss = header.boot == self.boot and header.boot != bytes(16)
            for frame in frames.frames_in(data, header.salt):
                lacks_data = frame.flags & frames.NEEDS_DATA and not survived_power_loss and frame.sequence > ordered
                if frame.sequence == expected and not lacks_data:
                    yield frame
                    expected += 1
                elif frame.sequence >= expected:
                    beyond.append((frame.sequence, frame.synced))
        left = [synced for sequence, synced in beyond if sequence >= expected]
        self.last_sequence = expected - 1
        self.dropped = len(left)
        if left and max(left) >= expected:
            raise CorruptRecord(
                f"journal {self.directory}: change {expected} is damaged or missing although it had been synced "
                f"(up to {max(left)}); stop the daemon and run `gatewayfs recover`"
            )

    def _ordered(self, paths: list[Path]) -> int:
        """The highest ``ordered`` any whole frame states; only asked after power loss."""
        highest = self.applied
        for path in paths:
            data = path.read_bytes()
            header = frames.decode_header(data)
            if header is None or (header.boot == self.boot and header.boot != bytes(16)):
                continue
            # A run that began with LMDB full starts again from what LMDB holds, below what was stated before it.
            highest = max(highest, *(frame.ordered for frame in frames.frames_in(data, header.salt)), 0)
        return highest


def erase_frames_after(directory: Path, sequence: int) -> None:
    """Durably remove the whole frames behind the journal's end. Blocks. Raises OSError.

    For segments that stay: ``ordered`` of the frames that take up the same numbers must not vouch for these.
    """
    for path in segment_paths(directory):
        data = path.read_bytes()
        header = frames.decode_header(data)
        if header is None:
            continue
        dropped = [at for at, frame in frames.placed_frames_in(data, header.salt) if frame.sequence > sequence]
        if not dropped:
            continue
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            for offset in dropped:
                os.pwrite(fd, bytes(frames.FRAME_HEADER_BYTES), offset)
            os.fdatasync(fd)
        finally:
            os.close(fd)
