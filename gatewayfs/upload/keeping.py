"""Letting an object go without losing its bytes: everything comes here first, and is on disk before.

Two ask for it: whoever needs the key that another inode's bytes lie at (``cycles.py``), and a file renamed to a name
that never leaves the site, whose object has no place in the bucket any more.
"""

import msgspec

from gatewayfs.errors import LocalError, ObjectNotFound, PreconditionFailed
from gatewayfs.meta.schema import Doomed, Inode, Remote
from gatewayfs.objectrecords import link_text
from gatewayfs.types import ETag, ObjectKey
from gatewayfs.upload import records
from gatewayfs.upload.context import Context
from gatewayfs.upload.looking import absorb
from gatewayfs.upload.sending import fetch_rest, learn


async def keep_here(ctx: Context, ino: int) -> None:
    """Bring everything of an excluded inode here; then its object is doomed, unless it already lay under this name.

    Raises StoreError, LocalError (the cache disk may be full: then the object stays where it is).
    """
    inode = ctx.meta.require(ino)
    if inode.remote is None:
        return
    if not inode.attributes_known:
        await learn(ctx, ino)
    elif inode.is_symlink and inode.target is None:
        await _fetch_target(ctx, inode, inode.remote)
    elif inode.is_regular and not ctx.cache.is_resident(inode):
        await fetch_rest(ctx, ino)
    elif inode.remote.key != records.wanted_key(ctx.meta, inode):
        await let_go(ctx, ino, inode.remote)


async def let_go(ctx: Context, ino: int, remote: Remote) -> None:
    """Doom the object ``remote`` of an inode whose bytes are all here. Nothing happens when the record has moved on."""
    inode = ctx.meta.inode(ino)
    if inode is not None and inode.is_regular:
        # The only durable copy may be overwritten next: ours must be on disk before.
        await ctx.meta.checkpoint()
        inode = ctx.meta.inode(ino)
    if inode is None or inode.remote != remote or not inode.linked:
        return
    if inode.is_regular and not ctx.cache.is_resident(inode):
        raise LocalError(f"bytes of inode {ino} vanished from the cache while they were needed")
    now_ns = ctx.clock.time_ns()
    with ctx.meta.transaction() as tx:
        tx.put(msgspec.structs.replace(inode, remote=None, dirty_since_ns=inode.dirty_since_ns or now_ns))
        tx.doom(Doomed(remote.key, remote.etag, now_ns, version_id=remote.version_id))
    ctx.notice(remote.key)
    ctx.notice(ino)


async def _fetch_target(ctx: Context, inode: Inode, remote: Remote) -> None:
    """A symlink's target is its object's data."""
    match = ETag(remote.etag) if remote.etag else None
    try:
        info, data = await ctx.call(ctx.store.get(ObjectKey(remote.key), 0, max(remote.size, 1), if_match=match))
    except (PreconditionFailed, ObjectNotFound):
        await absorb(ctx, inode.ino, remote.key, await ctx.look(remote.key))
        return
    target, now = link_text(info, data), ctx.meta.inode(inode.ino)
    if now is not None and now.remote == remote:
        with ctx.meta.transaction() as tx:
            tx.put(msgspec.structs.replace(now, target=target, size=len(target)))
