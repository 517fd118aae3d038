"""Renamed directories: O(1) for the application, a walk for us.

The rename only marks the directory (``children_unsettled``). Here its children are put into the queue in slices, child
directories marked in turn, so the walk goes down level by level and is durable at every step. Only when every child is
in the queue does the directory's ``source`` become its new prefix: until then what is in the bucket for it is listed
from the old one, and after a crash the slices are simply gone through again. A child that turns out to be in the right
place (the directory was renamed back) costs no request.

No two directories have one ``source``, or what lies there would be shown in the wrong one. Where two change places, the
first to be visited comes to a prefix whose objects are the other's still: its ``source`` is None, as if it was made
there, until the other has been visited, too, and it settles (``reconcile.py``).
"""

import logging

import msgspec
import trio

from gatewayfs.meta.schema import Inode
from gatewayfs.runtime.failpoints import failpoint, register
from gatewayfs.upload import records
from gatewayfs.upload.context import Context
from gatewayfs.upload.plan import differs

log = logging.getLogger(__name__)

SLICE = 500
"""Children per transaction: some milliseconds of the event loop at a time."""

_SLICE_AFTER = register("upload.visit.after", "some children of a renamed directory are in the queue, perhaps not all")


async def visit(ctx: Context, ino: int) -> bool:
    """Put all children of a renamed directory into the queue. False when the directory was removed meanwhile.

    Raises:
        StoreError: its children could not be listed.
    """
    _begun(ctx, ino)
    await ctx.hooks.ensure_listed(ino)
    after = 0
    while True:
        inode = ctx.meta.inode(ino)
        if inode is None or inode.directory is None or not inode.linked:
            return False
        children = ctx.meta.children(ino, after, SLICE)
        if not children:
            return True
        after = children[-1]
        for child in _mark(ctx, inode, children):
            ctx.notice(child)
        failpoint(_SLICE_AFTER)
        await trio.lowlevel.checkpoint()


def _begun(ctx: Context, ino: int) -> None:
    """The counting of what moves begins, or is gone on with from the directory above."""
    inode = ctx.meta.inode(ino)
    new = records.wanted_key(ctx.meta, inode) if inode is not None else None
    if inode is not None and inode.directory is not None and inode.directory.source is not None and new:
        ctx.renames.begun(inode.directory.source, new)


def _mark(ctx: Context, parent: Inode, children: list[int]) -> list[int]:
    now_ns = ctx.clock.time_ns()
    marked: list[int] = []
    moving = directories = 0
    with ctx.meta.transaction() as tx:
        for child_ino in children:
            child = tx.inode(child_ino)
            if child is None:
                continue
            if child.directory is not None:
                child = _unsettled(child)
                directories += 1
            elif not differs(child, tx.key_of(child)):
                continue
            moving += child.directory is None and child.remote is not None
            tx.put(msgspec.structs.replace(child, dirty_since_ns=child.dirty_since_ns or now_ns))
            marked.append(child_ino)
        ctx.renames.found(records.wanted_key(tx, parent) or "", moving, directories)
    for child_ino in marked:
        ctx.hooks.note_moved(child_ino)
    return marked


def _unsettled(inode: Inode) -> Inode:
    assert inode.directory is not None
    return msgspec.structs.replace(inode, directory=msgspec.structs.replace(inode.directory, children_unsettled=True))


def visited(ctx: Context, ino: int) -> None:
    """Every child is in the queue: from now on the directory is listed from where it is, if nobody else is."""
    with ctx.meta.transaction() as tx:
        inode = tx.inode(ino)
        if inode is None or inode.directory is None:
            return
        key = records.wanted_key(tx, inode)
        ctx.renames.visited(key or "")
        hidden = inode.directory.hidden
        if hidden and key != inode.directory.source:
            # What has no name cannot move to another: it stays, and a refresh shows the directory it is in again.
            log.warning("%d keys below %r are not shown and were not moved", hidden, inode.directory.source)
        if key is None:
            source = inode.directory.source
        else:
            source = None if ctx.hooks.claimant(key, ino) else key
        directory = msgspec.structs.replace(inode.directory, children_unsettled=False, source=source, hidden=0)
        tx.put(msgspec.structs.replace(inode, directory=directory))
