"""What others removed: taking names, and whole trees of them, out of the namespace.

Called after a listing that did not show them. Whatever was changed here stays: a dirty file keeps its name and the
directories above it, and so does a file renamed into the tree, whose object lies elsewhere. A tree goes bottom up,
``SLICE`` records at a time, looking at each record again, so files may be opened, written and made below it meanwhile.
"""

import trio

from gatewayfs.meta.schema import Inode
from gatewayfs.meta.transaction import Transaction
from gatewayfs.refresh import records
from gatewayfs.refresh.apply import Applier
from gatewayfs.refresh.diff import Verdict, judge_absent
from gatewayfs.refresh.listingpass import ListingPass
from gatewayfs.refresh.news import News

SLICE = 200
"""Records per transaction: 5-8 ms of the loop."""


async def sweep(applier: Applier, walk: ListingPass) -> None:
    """Remove the children that no page of the finished listing showed.

    Raises StaleInode, SourceMoved when the directory is not the one listed any more.
    """
    if walk.seen is None:
        return
    after = 0
    while batch := applier.meta.children(walk.ino, after, SLICE):
        after = batch[-1]
        missing = [ino for ino in batch if not walk.has_seen(ino)]
        for tree, prefix in _sweep_slice(applier, walk, missing) if missing else ():
            await remove_tree(applier, walk, tree, prefix)
        await trio.lowlevel.checkpoint()
    for name, row in walk.shadows.items():
        if applier.meta.lookup(walk.ino, name) is None:
            applier.objects(walk, [(name, row)], walk.mark)
            walk.tally.shadowed -= 1


def _sweep_slice(applier: Applier, walk: ListingPass, missing: list[int]) -> list[tuple[int, str]]:
    """Remove missing files; return missing directories with the prefix that has vanished."""
    trees: list[tuple[int, str]] = []
    with applier.change() as (tx, news):
        directory = applier.directory(tx, walk)
        before = walk.tally.removed
        for ino in missing:
            child = tx.inode(ino)
            if child is None or child.parent != directory.ino:
                continue
            verdict = judge_absent(walk.source, child)
            if verdict is Verdict.LOCAL:
                walk.tally.kept_dirty += 1
            elif verdict is Verdict.REMOVED and child.directory is not None:
                trees.append((ino, child.directory.source or ""))
            elif verdict is Verdict.REMOVED:
                _remove_leaf(applier, tx, news, walk, child)
        if walk.tally.removed != before:
            applier.names_changed(tx, news, walk)
    return trees


def _remove_leaf(applier: Applier, tx: Transaction, news: News, walk: ListingPass, inode: Inode) -> None:
    """Remove a clean file or empty directory, unless we put its object there ourselves since the listing began."""
    key = inode.remote.key if inode.remote else (inode.directory.source or "") if inode.directory else ""
    if not applier.own.changed(key, walk.mark):
        applier.unlink(tx, news, inode)
        walk.tally.removed += 1


async def remove_tree(applier: Applier, walk: ListingPass, root: int, prefix: str) -> None:
    """Remove everything at and below ``root`` that came from ``prefix``, children before parents.

    Args:
        walk: counts what goes; its directory is the parent of ``root``.
    """
    stack = [(root, 0)]
    while stack:
        ino, after = stack.pop()
        batch = applier.meta.children(ino, after, SLICE)
        if batch:
            stack.append((ino, batch[-1]))
            stack.extend((child, 0) for child in _remove_files(applier, walk, batch, prefix))
        else:
            _remove_directory(applier, walk, ino, prefix)
        await trio.lowlevel.checkpoint()


def _remove_files(applier: Applier, walk: ListingPass, batch: list[int], prefix: str) -> list[int]:
    """Remove the files of a batch; return its directories that came from the prefix."""
    directories: list[int] = []
    with applier.change() as (tx, news):
        for ino in batch:
            inode = tx.inode(ino)
            if inode is None:
                continue
            if inode.directory is not None:
                if (inode.directory.source or "").startswith(prefix):
                    directories.append(ino)
            elif inode.remote is not None and inode.remote.key.startswith(prefix):
                if inode.dirty_since_ns:
                    walk.tally.kept_dirty += 1
                else:
                    _remove_leaf(applier, tx, news, walk, inode)
    return directories


def _remove_directory(applier: Applier, walk: ListingPass, ino: int, prefix: str) -> None:
    """Remove a directory if nothing stayed below it; else it lives on without the marker that vanished."""
    with applier.change() as (tx, news):
        inode = tx.inode(ino)
        if inode is None or inode.directory is None or inode.dirty_since_ns or not inode.linked:
            return
        if not (inode.directory.source or "").startswith(prefix):
            return
        if not tx.has_children(ino):
            parent = inode.parent
            before = walk.tally.removed
            _remove_leaf(applier, tx, news, walk, inode)
            if parent == walk.ino and walk.tally.removed != before:
                applier.names_changed(tx, news, walk)
        elif inode.remote is not None and not applier.own.changed(inode.remote.key, walk.mark):
            tx.put(records.without_marker(inode))
            news.stale(ino, attributes_only=True)
