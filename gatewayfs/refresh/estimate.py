"""How many LISTs the refresh of a known tree costs, asked for directory by directory or as one stream.

With a delimiter, one for each directory and one more for each thousand names in it. As one stream (``flat.py``), one
for each thousand names of the whole tree, and at most one for each directory in it that is not known here, which has to
be jumped over. Counting costs a few microseconds a directory, and under one a name.
"""

from collections.abc import Callable
from dataclasses import dataclass

import trio

from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.schema import Inode

PAGE = 1000
"""Names, or keys, that one LIST shows."""

SPLIT_PAGES = 50
"""Streams longer than this are worth splitting: their LISTs come one after the other, 50 of them in 3 to 10 s."""

SPLIT_COST = 0.1
"""What splitting may add to their number."""

SLICE = 500


@dataclass(slots=True)
class Estimate:
    """LISTs, for a tree.

    Attributes:
        stream: as one stream. single: directory by directory.
        below: directories right in the top, each of which can be a stream of its own.
    """

    names: int = 0
    unknown: int = 0
    single: int = 0
    below: int = 0

    @property
    def stream(self) -> int:
        return -(-self.names // PAGE) + self.unknown

    @property
    def streams(self) -> bool:
        """Whether the tree is best taken as one stream."""
        if self.single <= self.stream:
            return False
        return self.stream <= SPLIT_PAGES or self.below > self.stream * SPLIT_COST


async def estimate(meta: MetaStore, top: int, is_done: Callable[[Inode], bool]) -> Estimate:
    """Count the known tree at ``top``; ``is_done``: directories that need no listing."""
    found = Estimate()
    stack: list[tuple[Inode, int, int, int]] = []

    def enter(inode: Inode) -> None:
        if inode.directory is None:
            return
        if inode.directory.complete or meta.has_children(inode.ino):
            stack.append((inode, 0, inode.directory.subdirectories, 0))
        else:
            found.unknown += 1

    enter(meta.require(top))
    found.below = stack[0][2] if stack else 0
    while stack:
        directory, after, left, names = stack.pop()
        batch = meta.children(directory.ino, after, SLICE)
        inodes = (meta.inode(child) for child in batch) if left > 0 else ()
        below = [inode for inode in inodes if inode is not None and inode.is_directory]
        names += len(batch)
        if len(batch) == SLICE:
            stack.append((directory, batch[-1], left - len(below), names))
        else:
            found.names += names
            found.single += 0 if is_done(directory) else max(1, -(-names // PAGE))
        for inode in below:
            enter(inode)
        await trio.lowlevel.checkpoint()
    return found
