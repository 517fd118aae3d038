"""When the wanted key belongs to the bytes of another inode.

Usually that inode moves away by itself soon (``mv a b; create a``) and it is enough to wait. Three cases never end by
waiting: a circle (two names exchanged, or a longer ring of renames), and a holder whose upload is parked, or held. Then
one inode gives up its object's key without losing its bytes:

    marker, symlink, fifo           everything is in the record: its object is doomed, it will be written anew
    all bytes here, or few enough   fetch the rest, sync, then the same
    too much to fetch               copied inside the bucket to a name of our own; from there it moves on as usual

Everybody in a circle chooses the same member, so two workers cannot both decide to wait for the other.
"""

from collections.abc import Sequence

from gatewayfs.errors import CacheDiskFull, NoSpace
from gatewayfs.meta.schema import Inode
from gatewayfs.s3.store import Condition
from gatewayfs.upload import records
from gatewayfs.upload.context import Context
from gatewayfs.upload.copying import send_copy
from gatewayfs.upload.entries import Aside
from gatewayfs.upload.keeping import let_go
from gatewayfs.upload.plan import Copy, content_differs
from gatewayfs.upload.sending import fetch_rest, learn

CHAIN_MAX = 10_000
"""Longest ring of renames looked for; a longer one would wait for ever, and nobody makes one."""


def circle(ctx: Context, inode: Inode) -> Sequence[Inode]:
    """The ring of inodes each of which wants the key the next one holds, from ``inode`` on; () if there is none."""
    chain, current = [inode], inode
    for _ in range(CHAIN_MAX):
        key = records.wanted_key(ctx.meta, current)
        holder = ctx.meta.holder(key) if key is not None else None
        if holder is None or not holder.linked or holder.ino == current.ino:
            return ()
        if holder.ino == inode.ino:
            return chain
        if any(holder.ino == seen.ino for seen in chain):
            return ()
        chain.append(holder)
        current = holder
    return ()


def must_yield(ctx: Context, inode: Inode, holder: Inode) -> bool:
    """Whether ``holder`` must give up the key that ``inode`` wants, because waiting for it would not end."""
    if ctx.meta.parked(holder.ino) is not None or ctx.staying.why(holder.ino) is Aside.HELD:
        return True
    ring = circle(ctx, inode)
    return bool(ring) and min(ring, key=lambda member: _cost(ctx, member)).ino == holder.ino


def breaker(ctx: Context, inode: Inode) -> int | None:
    """In a ring with ``inode``: the member that makes the chosen one yield. It may have begun to wait before the ring
    was closed, and must look again."""
    ring = circle(ctx, inode)
    if not ring:
        return None
    chosen = min(range(len(ring)), key=lambda place: _cost(ctx, ring[place]))
    return ring[chosen - 1].ino


def _cost(ctx: Context, inode: Inode) -> tuple[int, int]:
    """How much it takes to free an inode from its object; equal for nobody."""
    size = 0 if not inode.is_regular or ctx.cache.is_resident(inode) or inode.remote is None else inode.remote.size
    return size, inode.ino


async def give_up_key(ctx: Context, ino: int) -> None:
    """Make ``ino`` not need the object it has in the bucket; the caller holds its key (and its parking name's)."""
    inode = ctx.meta.inode(ino)
    if inode is None or inode.remote is None or not inode.linked:
        return
    remote = inode.remote
    if not inode.attributes_known:
        await learn(ctx, ino)
        return
    if inode.is_symlink and inode.target is None:
        await _move_aside(ctx, inode)
        return
    if inode.is_regular and not ctx.cache.is_resident(inode):
        if remote.size > ctx.settings.fetch_bytes_max and not content_differs(inode):
            await _move_aside(ctx, inode)
            return
        try:
            if not await fetch_rest(ctx, ino):
                return
        except (NoSpace, CacheDiskFull):
            if content_differs(inode):
                raise
            await _move_aside(ctx, inode)
            return
    await let_go(ctx, ino, remote)


def aside_key(ctx: Context, ino: int) -> str:
    """Where an object too large to fetch waits while a circle is broken."""
    return f"{ctx.meta.prefix}.gatewayfs-moving-{ino}"


async def _move_aside(ctx: Context, inode: Inode) -> None:
    assert inode.remote is not None
    step = Copy(inode.remote, aside_key(ctx, inode.ino), Condition(absent=True), rewrite=False)
    await send_copy(ctx, inode, step)
    ctx.notice(inode.ino)
