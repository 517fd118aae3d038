"""Fences: which bytes of which files are damaged and only here.

Few files have any, and all of them are in memory: a read of a sound cache costs one look into an empty dictionary. They
are recorded (``meta.schema.Fence``), so that a restart does not let through what was found before it.
"""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from gatewayfs.cache.extents import Extents
from gatewayfs.cache.gate import END_OF_FILE
from gatewayfs.errors import CorruptRecord, GatewayError
from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.schema import PLACED_IN_FILE, Fence, Inode
from gatewayfs.meta.transaction import Transaction
from gatewayfs.runtime.clock import Clock

if TYPE_CHECKING:
    from gatewayfs.cache.live import Content

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FencedFile:
    """A file with damaged bytes that are only here, for ``status``."""

    key: str
    ino: int
    size_bytes: int
    """How many of its bytes are fenced."""
    since_ns: int


class Fences:
    """The fences of one cache."""

    def __init__(self, meta: MetaStore, clock: Clock) -> None:
        self._meta, self._clock = meta, clock
        self._fences = dict(meta.iter_fences())

    def __repr__(self) -> str:
        return f"<Fences of {len(self._fences)} files>"

    def __contains__(self, ino: int) -> bool:
        return ino in self._fences

    def add(self, inode: Inode, kind: int, pack: int, offset: int, start: int, end: int) -> None:
        """Fence ``[start, end)`` of a file, whose bytes lie where the next three say. Raises LocalError."""
        fence = self._fences.get(inode.ino) or Fence(kind, pack, offset, (), self._clock.time_ns())
        ranges = Extents(fence.ranges)
        ranges.add(start, end)
        fence = msgspec.structs.replace(fence, ranges=ranges.flat)
        with self._meta.transaction() as tx:
            tx.put_fence(inode.ino, fence)
        self._fences[inode.ino] = fence
        log.error(
            "the cache disk damaged bytes %d..%d of %s, which are not in the bucket: nobody gets them, and the file is "
            "not uploaded before they are written anew",
            start, end, self.key_of(inode.ino),
        )  # fmt: skip

    def refuse(self, content: "Content", start: int = 0, end: int = END_OF_FILE) -> None:
        """Raise CorruptRecord if a byte of ``[start, end)`` of a live file is fenced."""
        fence = self._fences.get(content.ino)
        if fence is None or not _stands_before(fence, content):
            return
        for fence_start, fence_end in Extents(fence.ranges):
            if fence_start < end and start < fence_end:
                raise CorruptRecord(
                    f"bytes {fence_start}..{fence_end} of {self.key_of(content.ino)} are damaged on the cache disk, "
                    "and the bucket does not have them: write the file anew, or remove it"
                )

    def overwritten(self, content: "Content", start: int, end: int) -> None:
        """These bytes of a live sparse file are others now."""
        fence = self._fences.get(content.ino)
        if fence is None or not _stands_before(fence, content):
            return
        left = Extents(fence.ranges)
        left.remove(start, end)
        self._fences[content.ino] = msgspec.structs.replace(fence, ranges=left.flat)

    def record(self, tx: Transaction, ino: int) -> None:
        """The record of a file is written: its fence, too, if it became smaller."""
        if (fence := self._fences.get(ino)) is not None and tx.fence(ino) is not None:
            tx.put_fence(ino, fence if fence.ranges else None)

    def observe(self, tx: Transaction) -> None:
        """Records changed: fences end with the bytes they are about."""
        if self._fences:
            for ino in tx.inodes:
                if ino in self._fences and tx.fence(ino) is None:
                    del self._fences[ino]

    def files(self) -> tuple[FencedFile, ...]:
        """All files with fences."""
        return tuple(
            FencedFile(self.key_of(ino), ino, Extents(fence.ranges).total_bytes, fence.since_ns)
            for ino, fence in self._fences.items()
        )

    def key_of(self, ino: int) -> str:
        """What to call a file."""
        try:
            return str(self._meta.key_of(self._meta.require(ino)))
        except GatewayError:
            return f"inode {ino}"


def _stands_before(fence: Fence, content: "Content") -> bool:
    """Whether a fence is about the bytes a live file has now."""
    if fence.kind == PLACED_IN_FILE:
        return content.sparse.number == fence.pack
    placement = content.placement
    return (
        content.in_pack and placement is not None and (placement.pack, placement.offset) == (fence.pack, fence.offset)
    )
