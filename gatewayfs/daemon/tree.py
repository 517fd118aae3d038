"""The tree below what an operator named, walked without holding it: for warm, evict, pin and unpin."""

from collections.abc import AsyncIterator, Callable

import trio

from gatewayfs.errors import GatewayError
from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.schema import Inode
from gatewayfs.refresh.refresher import Refresh

CHILDREN = 1000
"""Names of a directory read at a time."""

Failed = Callable[[str, str], None]
"""Told the path of what cannot be looked at, and why."""


class Tree:
    """What the records, and where asked for the bucket, have below a directory."""

    def __init__(self, meta: MetaStore, refresh: Refresh) -> None:
        self._meta, self._refresh = meta, refresh

    async def ensure_listed(self, ino: int) -> None:
        """Have a directory listed, its own attributes known. Raises as ``Refresh.ensure_listed``."""
        await self._refresh.ensure_attributes(ino)
        await self._refresh.ensure_listed(ino)

    async def children(self, ino: int) -> AsyncIterator[Inode]:
        """What is known in a directory."""
        after = 0
        while children := self._meta.children(ino, after, CHILDREN):
            after = children[-1]
            for child in children:
                inode = self._meta.inode(child)
                if inode is not None and inode.parent == ino:
                    yield inode
            await trio.lowlevel.checkpoint()

    async def files(self, roots: list[tuple[str, Inode]], failed: Failed | None) -> AsyncIterator[tuple[str, Inode]]:
        """Every regular file at and below ``roots``, with its path; without ``failed`` nothing is listed on the way."""
        waiting = list(roots)
        while waiting:
            path, inode = waiting.pop()
            if inode.is_regular:
                yield path, inode
            elif inode.is_directory:
                if failed is not None:
                    try:
                        await self.ensure_listed(inode.ino)
                    except GatewayError as problem:
                        failed(path, str(problem))
                async for child in self.children(inode.ino):
                    waiting.append((f"{path}/{child.name.decode(errors='replace')}".lstrip("/"), child))
