"""What the bytes of a file on the cache disk must be, as far as the records know.

Two records vouch for bytes of sparse files, cell by cell. The *fingerprints* of an object do, for what is clean: what
an upload sent, or what one GET brought whole. A *seal* does, for what is only here: what the first snapshot of a
content revision found, taken by the upload or, while that has to wait, by ``sealing.py``. Small files need neither:
the record that names their bytes has their checksum.

A file is not compared with either while it is being changed: its record moves on before its first byte does.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatewayfs.cache.eviction import Hold
from gatewayfs.meta.reader import Reader
from gatewayfs.meta.schema import PLACED_IN_FILE, Fingerprints, Inode, Seal
from gatewayfs.runtime.fingerprints import DIGEST_BYTES

if TYPE_CHECKING:
    from gatewayfs.cache.live import Content


@dataclass(frozen=True, slots=True)
class Vouched:
    """The fingerprints of a file's cells.

    Attributes:
        clean: the bucket has these bytes, too.
        revision: the content revision they are.
    """

    clean: bool
    revision: int
    size: int
    cell_bytes: int
    digests: bytes

    def cells(self, start: int, end: int) -> Iterator[tuple[int, int, bytes]]:
        """Start, end and fingerprint of the cells that ``[start, end)`` touches and that are known."""
        unit = self.cell_bytes
        for number in range(start // unit, -(-min(end, self.size) // unit)):
            digest = self.digests[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES]
            if any(digest):
                yield number * unit, min((number + 1) * unit, self.size), digest


def vouched(meta: Reader, inode: Inode | None) -> Vouched | None:
    """What is known of a sparse file nobody is changing just now (``at_rest``)."""
    if inode is None:
        return None
    if is_clean(inode):
        known = meta.fingerprints(inode.ino)
        return None if known is None or not known.describes(inode.remote) else _of(inode, known, clean=True)
    seal = meta.seal(inode.ino)
    return None if seal is None or not describes(seal, inode) else _of(inode, seal, clean=False)


def _of(inode: Inode, known: Fingerprints | Seal, *, clean: bool) -> Vouched:
    return Vouched(clean, inode.content_revision, known.size, known.cell_bytes, known.digests)


def describes(seal: Seal, inode: Inode) -> bool:
    """Whether a seal is of the bytes that a record names."""
    placement = inode.placement
    same = (seal.content_revision, seal.size) == (inode.content_revision, inode.size)
    return same and placement is not None and (placement.kind, placement.pack) == (PLACED_IN_FILE, seal.pack)


def is_clean(inode: Inode) -> bool:
    """The bucket has the bytes that the record describes."""
    return inode.remote is not None and inode.content_revision == inode.remote.content_revision


def at_rest(content: "Content", inode: Inode | None) -> bool:
    """Whether the bytes of a live file are those its record describes, and nobody is changing them."""
    if content.changed or content.stale or not content.frozen or content.being_changed or inode is None:
        return False
    return content.hold is not Hold.DIRTY or not is_clean(inode)
