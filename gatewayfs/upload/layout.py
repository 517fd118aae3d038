"""Which ranges of a file are sent, and which are copied from the object it was before?        [pure]

    cells      . . . . . . . . . . . . . # . . . . . . . . .      # differs, or is not known to be equal
    parts      |--------- copy ---------|-- send --|- copy -|     every part but the last has 5 MiB at least

S3 takes up to 10,000 parts of 5 MiB to 5 GiB, the last one may be shorter. So a gap between two changes is copied when
it has 5 MiB; a shorter one is sent along. Copying a range makes at most two parts more, so every request it adds saves
2.5 MiB or more of the link; only the end of a file can be a shorter gap, and is copied when it has a cell. A request
costs a round trip and some hundredths of a cent per thousand; a cell of 1 MiB takes longer than 20 ms on links of up to
400 Mbit/s. So whatever may be copied is, and a whole upload is just the case in which nothing may.

Nothing here knows about shifted bytes: a range is copied to where it was.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from gatewayfs.meta.schema import Fingerprints
from gatewayfs.runtime.fingerprints import DIGEST_BYTES, UNKNOWN, coarser
from gatewayfs.s3.store import COPY_BYTES_MAX, PARTS_MAX

COPY_PART_BYTES = 1 << 30
"""Range of one UploadPartCopy: few requests, and short enough to be retried. More where 10,000 parts ask for it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What parts may be like, in bytes.

    Attributes:
        cell: ranges begin and end with a cell (or the file).
        part_min: of every part but the last; whole cells.
        part: of a part that is sent, up to ``part_min`` more for the last one of a range; whole cells.
        copy: of a part that is copied, likewise.
    """

    cell: int
    part_min: int
    part: int
    copy: int


@dataclass(frozen=True, slots=True)
class Range:
    """One part: bytes that are sent, or copied from the same place in the object the file was before."""

    offset: int
    length: int
    copied: bool


def limits_for(cell: int, part_min: int, part: int) -> Limits:
    """Limits in whole cells."""
    part_min = _up(part_min, cell)
    return Limits(cell, part_min, max(part_min, _up(part, cell)), _up(COPY_PART_BYTES, cell))


def lay_out(size_bytes: int, copyable: Sequence[bool], limits: Limits) -> list[Range]:
    """The parts of a file, in order and without a gap.

    Args:
        copyable: for each cell, whether the object has the same bytes in the same place.
    """
    while True:
        ranges = _lay_out(size_bytes, copyable, limits)
        if len(ranges) <= PARTS_MAX:
            return ranges
        copy_max = COPY_BYTES_MAX // limits.cell * limits.cell
        part_min, part = limits.part_min * 2, limits.part * 2
        limits = replace(limits, part_min=part_min, part=part, copy=max(part_min, min(limits.copy * 2, copy_max)))


def same_cells(size_bytes: int, cell_bytes: int, cells: Sequence[bytes], base: Fingerprints | None) -> list[bool]:
    """Which cells of a file the object described by ``base`` has too, in the same place; not those that are UNKNOWN."""
    if base is None:
        return [False] * len(cells)
    grid, ours, theirs = cell_bytes, list(cells), base.cells
    while base.cell_bytes > grid:
        grid, ours = grid * 2, coarser(ours)
    theirs_grid = base.cell_bytes
    while grid > theirs_grid:
        theirs_grid, theirs = theirs_grid * 2, coarser(theirs)
    if grid != theirs_grid:
        return [False] * len(cells)
    equal = [
        bool(our) and our == their and _as_long(number, grid, size_bytes, base.size)
        for number, (our, their) in enumerate(zip(ours, theirs, strict=False))
    ]
    equal += [False] * (len(ours) - len(equal))
    return [equal[number * cell_bytes // grid] for number in range(len(cells))]


def digests_of(size_bytes: int, cell_bytes: int, cells: Sequence[bytes], base: Fingerprints | None) -> bytes:
    """What ``Fingerprints`` keeps of a new object.

    Args:
        cells: UNKNOWN for those that are copied from the object ``base`` describes without being here.
    """
    theirs: list[bytes] = []
    if base is not None:
        grid, theirs = base.cell_bytes, base.cells
        while grid < cell_bytes:
            grid, theirs = grid * 2, coarser(theirs)
        kept = len(theirs) if grid == cell_bytes else 0
        theirs = [t for number, t in enumerate(theirs[:kept]) if _as_long(number, grid, size_bytes, base.size)]
    known = [cell or (theirs[number] if number < len(theirs) else UNKNOWN) for number, cell in enumerate(cells)]
    return b"".join(digest or bytes(DIGEST_BYTES) for digest in known)


def _as_long(number: int, cell: int, size_bytes: int, other_bytes: int) -> bool:
    """Whether a cell has one length in two files of these sizes: the last one may be shorter."""
    return size_bytes == other_bytes or (number + 1) * cell <= min(size_bytes, other_bytes)


def _lay_out(size_bytes: int, copyable: Sequence[bool], limits: Limits) -> list[Range]:
    ranges: list[Range] = []
    position = 0
    for start, end in _sent(size_bytes, copyable, limits):
        ranges += _cut(position, start, limits.copy, limits.part_min, size_bytes, copied=True)
        ranges += _cut(start, end, limits.part, limits.part_min, size_bytes, copied=False)
        position = end
    return ranges + _cut(position, size_bytes, limits.copy, limits.part_min, size_bytes, copied=True)


def _sent(size_bytes: int, copyable: Sequence[bool], limits: Limits) -> list[tuple[int, int]]:
    """(start, end) of what must be sent, each and the gaps between them long enough to be parts."""
    sent: list[tuple[int, int]] = []
    number = 0
    for copies, group in groupby(copyable):
        start = number * limits.cell
        number += len(list(group))
        end = min(number * limits.cell, size_bytes)
        if copies:
            continue
        after = sent[-1][1] if sent else 0
        if start - after < limits.part_min:
            start = sent.pop()[0] if sent else 0
        sent.append((start, max(end, after, min(start + limits.part_min, size_bytes))))
    if sent and size_bytes - sent[-1][1] < limits.cell:
        sent[-1] = (sent[-1][0], size_bytes)
    return sent


def _cut(start: int, end: int, longest: int, part_min: int, size_bytes: int, *, copied: bool) -> list[Range]:
    """A range as parts of ``longest``. A rest too short for a part joins the one before, unless it ends the file."""
    ranges: list[Range] = []
    while start < end:
        length = min(longest, end - start)
        rest = end - start - length
        if 0 < rest < part_min and end < size_bytes:
            length += rest
        ranges.append(Range(start, length, copied))
        start += length
    return ranges


def _up(value: int, step: int) -> int:
    return -(-value // step) * step
