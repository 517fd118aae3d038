"""Looking at the bucket, and telling our own objects from other people's.

A write whose answer got lost (a time-out, a crash) may have had its effect. What was sent was recorded beforehand as an
``Attempt``; an object that matches one in size, metadata and bytes is ours, whatever else happened since. Everything
else that we did not expect is somebody else's work and goes to ``conflicts.py``.
"""

import hashlib

import xxhash

from gatewayfs.errors import ConcurrentRequest
from gatewayfs.meta.schema import Attempt, Doomed, Remote
from gatewayfs.runtime.fingerprints import Fingerprinter, combined
from gatewayfs.s3.store import (
    INLINE_BODY_BYTES_MAX,
    UNCONDITIONAL,
    Body,
    Condition,
    InlineBody,
    ObjectInfo,
)
from gatewayfs.types import ETag
from gatewayfs.upload import records
from gatewayfs.upload.conflicts import base_changed, name_taken, remote_from
from gatewayfs.upload.context import Context
from gatewayfs.upload.metadata import metadata_digest


class Unexpected(Exception):
    """Not what the condition asked for is at the key (internal: found by looking, as a 412 would say it)."""

    def __init__(self, info: ObjectInfo | None) -> None:
        super().__init__(info)
        self.info = info


async def guarded(ctx: Context, key: str, condition: Condition, *, honoured: bool) -> Condition:
    """The condition to send with a write; where the store does not honour it, look first and send none.

    Args:
        honoured: the store evaluates this kind of condition on this kind of request.

    Raises:
        Unexpected: looked, and found something else.
    """
    unknown = condition.match == ""
    if honoured and not unknown:
        return condition
    info = await ctx.look(key, sure=not condition.absent)
    if unknown:
        condition = Condition(match=info.etag) if info is not None else Condition(absent=True)
    elif (info.etag if info is not None else None) != condition.match:
        raise Unexpected(info)
    return condition if honoured else UNCONDITIONAL


def put_attempt(key: str, body: Body, metadata: dict[str, str], content_revision: int, meta_revision: int) -> Attempt:
    """What is about to be PUT."""
    etag = hashlib.md5(body.data, usedforsecurity=False).hexdigest() if isinstance(body, InlineBody) else ""
    digest = xxhash.xxh3_128_digest(body.data) if isinstance(body, InlineBody) else body.fingerprint or b""
    return Attempt(key, body.length, content_revision, meta_revision, digest, metadata_digest(metadata), etag)


async def as_ours(ctx: Context, info: ObjectInfo, attempt: Attempt) -> Remote | None:
    """The object as a record, if it is what ``attempt`` wrote."""
    if attempt.key != info.key or attempt.size != info.size:
        return None
    if attempt.metadata_digest and attempt.metadata_digest != metadata_digest(info.metadata):
        return None
    if info.etag != attempt.etag:
        if attempt.body_digest:
            if attempt.body_digest not in await _body_digests(ctx, info):
                return None
        elif attempt.etag and "-" not in attempt.etag and not attempt.metadata_digest:
            return None
    return remote_from(info, attempt.content_revision, attempt.meta_revision)


async def _body_digests(ctx: Context, info: ObjectInfo) -> tuple[bytes, bytes]:
    """What ``put_attempt`` would say of a single-PUT object (never much larger than a part), as an inline body and as a
    range of a file."""
    inline = xxhash.xxh3_128()
    cells = Fingerprinter(ctx.settings.cell_bytes_for(info.size))
    for start in range(0, info.size, INLINE_BODY_BYTES_MAX):
        length = min(INLINE_BODY_BYTES_MAX, info.size - start)
        _, data = await ctx.call(ctx.store.get(info.key, start, length, if_match=ETag(info.etag)))
        inline.update(data)
        cells.update(data)
    return inline.digest(), combined(cells.cells())


async def absorb(ctx: Context, ino: int, key: str, info: ObjectInfo | None) -> None:
    """The bucket holds ``info`` at ``key`` (None: nothing), not what a step for ``ino`` expected: put that into the
    records, so that the next look plans with it.

    Raises:
        ConcurrentRequest: it is what we expected after all; somebody was writing at that moment.
    """
    if info is not None and await adopt(ctx, ino, info):
        return
    meta = ctx.meta
    inode = meta.inode(ino)
    if inode is None:
        return
    own = inode.remote if inode.remote is not None and inode.remote.key == key else None
    known = own or meta.doomed(key)
    if known is None and (holder := meta.holder(key)) is not None:
        known = holder.remote
    if info is not None and known is not None and known.etag == info.etag:
        raise ConcurrentRequest("the store refused a condition that holds", operation="HeadObject", key=key)
    if own is not None:
        await base_changed(ctx, ino, own, info)
    elif info is None:
        # A doomed object, or one an unlinked file read from: gone already.
        records.forget_object(meta, key)
        if known is None:
            raise ConcurrentRequest("the object in the way is gone again", operation="HeadObject", key=key)
    else:
        await name_taken(ctx, ino, key, info)


async def adopt(ctx: Context, ino: int, info: ObjectInfo) -> bool:
    """If one of our lost writes made this object, record it. Returns whether that is so.

    Usually it was a write for ``ino``. But names move: after a crash the key may be wanted by an inode that came by its
    name later, while the writer has another name now, or none.
    """
    writers = [ino, *(other for other, _ in ctx.meta.iter_uploads() if other != ino)]
    for writer in writers:
        state = ctx.meta.upload_state(writer)
        for attempt in reversed(state.attempts if state is not None else ()):
            remote = await as_ours(ctx, info, attempt)
            if remote is not None:
                record_adopted(ctx, writer, remote)
                records.forget_attempt(ctx.meta, writer, attempt)
                return True
    return False


def record_adopted(ctx: Context, ino: int, remote: Remote) -> None:
    """An object we wrote without knowing it: this inode's, or, where the inode has moved on, nobody's."""
    meta, now_ns = ctx.meta, ctx.clock.time_ns()
    inode = meta.inode(ino)
    useful = inode is not None and (
        inode.remote is None or remote.key in (inode.remote.key, records.wanted_key(meta, inode))
    )
    if useful:
        for target in records.record_sent(meta, ino, remote, now_ns, news=ctx.hooks.news):
            ctx.notice(target)
        return
    with meta.transaction() as tx:
        if tx.holder(remote.key) is None:
            tx.doom(Doomed(remote.key, remote.etag, now_ns, version_id=remote.version_id))
    ctx.notice(remote.key)


async def resolve_attempts(ctx: Context, ino: int, key: str | None) -> None:
    """Account for writes at other keys than ``key`` whose answers were lost; the caller holds those keys."""
    state = ctx.meta.upload_state(ino)
    for attempt in state.attempts if state is not None else ():
        if attempt.key == key:
            continue
        info = await ctx.look(attempt.key)
        if info is not None and not _accounted(ctx, ino, info):
            remote = await as_ours(ctx, info, attempt)
            if remote is not None and not _accounted(ctx, ino, info):
                record_adopted(ctx, ino, remote)
        records.forget_attempt(ctx.meta, ino, attempt)


def _accounted(ctx: Context, ino: int, info: ObjectInfo) -> bool:
    """The object is in the records already, or its key is another inode's, which will find out by itself."""
    inode, holder, doomed = ctx.meta.inode(ino), ctx.meta.holder(info.key), ctx.meta.doomed(info.key)
    if holder is not None and holder.ino != ino and holder.linked:
        return True
    known = inode.remote if inode is not None else None
    return (known is not None and (known.key, known.etag) == (info.key, info.etag)) or (
        doomed is not None and doomed.etag == info.etag
    )
