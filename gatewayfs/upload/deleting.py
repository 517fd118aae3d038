"""Doomed objects: deleted when nobody wants their key, and only if they are still what we doomed.

    somebody at the key's path will put there     wait: that write takes the key over and the entry is dropped
    the bucket holds another etag                 somebody else's work: it stays, the entry is dropped
    otherwise                                     DELETE, conditional where the store can, else after a look; together
                                                  with others (deletions.py) where it compares the etag of each

Before a request destroys the only object that holds some bytes, the records that made it superfluous are synced: after
power loss they must not describe a world in which that object is still needed.
"""

import logging

from gatewayfs.errors import ConcurrentRequest, ObjectNotFound, PreconditionFailed
from gatewayfs.meta.schema import Doomed
from gatewayfs.runtime.failpoints import failpoint, register
from gatewayfs.s3.store import UNCONDITIONAL, Condition, Deletion
from gatewayfs.s3.xml import writable
from gatewayfs.types import ETag, ObjectKey
from gatewayfs.upload import records
from gatewayfs.upload.context import Context
from gatewayfs.upload.looking import Unexpected, adopt, guarded

log = logging.getLogger(__name__)

_DELETE_BEFORE = register("upload.delete.before", "the doomed entry is on disk; the object is still there")
_DELETE_AFTER = register("upload.delete.after", "the object is deleted; its doomed entry is not yet gone")


async def delete_doomed(ctx: Context, key: str) -> int | None:
    """Delete the doomed object at ``key``; the caller holds the key.

    Returns:
        an inode that will put its own object there and must be looked at first, else None: the entry is done with.
    """
    doomed = ctx.meta.doomed(key)
    if doomed is None:
        return None
    heir = ctx.staying.heir_of(key)
    if heir is not None:
        records.mark_dirty(ctx.meta, heir, ctx.clock.time_ns())
        return heir.ino
    await ctx.meta.sync()
    try:
        await _delete(ctx, doomed)
    except (PreconditionFailed, ConcurrentRequest, Unexpected):
        info = await ctx.look(key)
        if info is not None and info.etag == doomed.etag:
            raise ConcurrentRequest("somebody is writing this object now", operation="DeleteObject", key=key) from None
        if info is not None and not await adopt(ctx, doomed.ino, info):
            log.warning("object %s was changed by others after it was deleted here: it stays", key)
            _tell_kept(ctx, doomed)
    except ObjectNotFound:
        log.debug("doomed object %s is gone already", key)
    else:
        ctx.counters.deleted += 1
    if ctx.meta.doomed(key) == doomed:
        records.forget_object(ctx.meta, key)
    return None


def _tell_kept(ctx: Context, doomed: Doomed) -> None:
    """The object was changed by others after it was deleted here: theirs stays, and the entry goes."""
    what = "deleted here, changed by others"
    ctx.hooks.event({"event": "kept", "key": doomed.key, "what": what, "at_ns": ctx.clock.time_ns()})
    if ctx.meta.doomed(doomed.key) == doomed:
        with ctx.meta.transaction() as tx:
            records.release_key(tx, doomed.key, 0)
            ctx.hooks.news.conflicted(tx, doomed.key, "keep-theirs", kept_by="bucket")


def batched(ctx: Context, key: str) -> bool:
    """Whether the object at ``key`` is deleted together with others: only where the store compares each key's etag."""
    doomed = ctx.meta.doomed(key)
    return ctx.capabilities.delete_many_if_match and doomed is not None and doomed.etag != "" and writable(key)


async def _delete(ctx: Context, doomed: Doomed) -> None:
    key, etag = ObjectKey(doomed.key), ETag(doomed.etag)
    if batched(ctx, key):
        failpoint(_DELETE_BEFORE)
        await ctx.deletions.delete(Deletion(key, etag))
    else:
        sent = await guarded(ctx, key, Condition(match=etag), honoured=ctx.capabilities.delete_if_match)
        failpoint(_DELETE_BEFORE)
        await ctx.call(ctx.store.delete(key, condition=UNCONDITIONAL if sent.absent else sent))
    failpoint(_DELETE_AFTER)
