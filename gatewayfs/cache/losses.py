"""Cache files the disk could not write back: is anything lost?

The kernel tells once that it could not write a file back, and what reading it gives from then on is anybody's guess.
Bytes that the bucket has too are let go and fetched again when somebody wants them; then nothing is lost, and all goes
on. The entries of a pack have checksums, so only those that are nowhere else count.
"""

import logging
from pathlib import Path

from gatewayfs.cache.content import ContentCache
from gatewayfs.cache.eviction import Hold
from gatewayfs.cache.room import hold_of
from gatewayfs.cache.sparse import owner_of
from gatewayfs.errors import GatewayError
from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.schema import PLACED_IN_FILE, PLACED_IN_PACK

log = logging.getLogger(__name__)


class Losses:
    """Judges them. The loop's thread only."""

    def __init__(self, cache: ContentCache, meta: MetaStore) -> None:
        self._cache, self._meta = cache, meta

    def judge(self, path: str) -> bool:
        """Whether bytes are lost that were nowhere else; clean ones leave the cache. Asked once per failure."""
        owner = owner_of(Path(path))
        if owner is None:
            return self._pack_lost(int(Path(path).stem))
        try:
            return self._file_lost(*owner)
        except GatewayError as problem:
            log.warning("%s: what the disk could not write back stays: %s", path, problem)
            return True

    def _file_lost(self, ino: int, number: int) -> bool:
        inode, content = self._meta.inode(ino), self._cache.live(ino)
        placement = None if inode is None else inode.placement
        if content is not None and content.sparse.number == number and content.hold is Hold.DIRTY:
            return True
        if inode is None or placement is None or (placement.kind, placement.pack) != (PLACED_IN_FILE, number):
            return False
        if hold_of(inode) is Hold.DIRTY:
            return True
        with self._meta.transaction() as tx:
            tx.put(self._cache.rebase(tx, inode))
        log.warning("the disk could not write back bytes of inode %d; the bucket has them", ino)
        return False

    def _pack_lost(self, pack: int) -> bool:
        for _, ino in self._meta.iter_dirty():
            inode = self._meta.inode(ino)
            placement = None if inode is None else inode.placement
            if placement is not None and (placement.kind, placement.pack) == (PLACED_IN_PACK, pack):
                return True
        return False
