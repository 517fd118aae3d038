"""Reads of resident bytes on a disk that may be slow, stuck or failing.

What the bucket has too is read there when the disk gives an error, and as soon as it is known not to be well, also by
those who wait for it at that moment. What the page cache holds is served all the while. Bytes that are only here have
no other source: their readers wait for the disk, and get EIO after the deadline.
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import trio

from gatewayfs.cache.checking import CheckedReads
from gatewayfs.cache.packs import Packs
from gatewayfs.cache.vouched import at_rest, is_clean
from gatewayfs.errors import LocalError, Unavailable
from gatewayfs.meta.env import MetaStore
from gatewayfs.runtime.diskhealth import DiskHealth

if TYPE_CHECKING:
    from gatewayfs.cache.live import Content

Local = Callable[["Content", int, int], Awaitable[bytes]]


class DiskReads:
    """``CheckedReads``, and the bucket where the disk does not do.

    Args:
        from_bucket: bytes ``[start, end)`` of a live file, none of them from the disk.
        deadline_s: longest time a read of what is only here may take.
    """

    def __init__(
        self,
        checked: CheckedReads,
        meta: MetaStore,
        packs: Packs,
        health: DiskHealth,
        from_bucket: Callable[["Content", int, int], Awaitable[bytes]],
        deadline_s: float,
    ) -> None:
        self._checked, self._meta, self._packs, self._health = checked, meta, packs, health
        self._from_bucket, self._deadline_s = from_bucket, deadline_s

    def __repr__(self) -> str:
        return f"<DiskReads of {self._checked!r}, {self._health!r}>"

    async def packed(self, content: "Content", offset: int, length: int) -> bytes:
        """Bytes of a pack entry. Raises as ``Content.read``."""
        is_open = content.placement is not None and self._packs.is_open(content.placement)
        return await self._read(content, offset, length, self._checked.packed, is_open)

    async def sparse(self, content: "Content", offset: int, length: int) -> bytes:
        """Bytes of a sparse file. Raises as ``Content.read``."""
        return await self._read(content, offset, length, self._checked.sparse, content.sparse.file is not None)

    async def _read(self, content: "Content", offset: int, length: int, local: Local, is_open: bool) -> bytes:
        if not self._in_bucket(content):
            return await self._only_here(content, offset, length, local)
        failure: LocalError | None = None
        if is_open or self._health.fit:
            with self._health.while_fit():
                try:
                    return await local(content, offset, length)
                except LocalError as problem:
                    failure = problem
        if not self._in_bucket(content):  # written to meanwhile
            return await content.read(offset, length)
        try:
            return await self._from_bucket(content, offset, offset + length)
        except Unavailable as problem:
            why = failure or self._health.reason
            raise Unavailable(f"{problem}; and from the cache disk: {why}") from problem

    async def _only_here(self, content: "Content", offset: int, length: int, local: Local) -> bytes:
        try:
            with trio.fail_after(self._deadline_s):
                return await local(content, offset, length)
        except trio.TooSlowError:
            raise Unavailable(f"the cache disk gave no answer within {self._deadline_s:g} s") from None

    def _in_bucket(self, content: "Content") -> bool:
        """All bytes of it that are here are those of the object its record names."""
        inode = self._meta.inode(content.ino)
        return inode is not None and is_clean(inode) and at_rest(content, inode)
