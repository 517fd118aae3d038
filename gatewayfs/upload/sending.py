"""One write to the bucket: remembered before, conditional, and recorded after.

    remember the attempt ── journal ──> request ──> record what is there now ── journal ──>

A crash or a lost answer between the first and the last step leaves the attempt behind; the next look finds an object
it did not expect and recognises it (``looking.py``).
"""

import stat

import msgspec

from gatewayfs.cache.snapshot import Snapshot
from gatewayfs.errors import (
    ConcurrentRequest,
    ObjectNotFound,
    PreconditionFailed,
    StoreError,
)
from gatewayfs.meta.schema import Attempt, Fingerprints, Inode, Remote
from gatewayfs.objectrecords import attribute_fields, headers_record
from gatewayfs.runtime.failpoints import failpoint, register
from gatewayfs.runtime.fingerprints import UNKNOWN
from gatewayfs.s3.attributes import split_metadata
from gatewayfs.s3.store import (
    Body,
    Condition,
    InlineBody,
    ObjectInfo,
)
from gatewayfs.types import ObjectKey
from gatewayfs.upload import records
from gatewayfs.upload.context import Context, StillChanging
from gatewayfs.upload.delta import PartPlan, fingerprints_of
from gatewayfs.upload.looking import Unexpected, absorb, guarded, put_attempt
from gatewayfs.upload.metadata import kept_storage_class, object_headers, object_metadata
from gatewayfs.upload.multipart import send_large
from gatewayfs.upload.plan import SendContent, SendSmall, content_differs

_PUT_BEFORE = register("upload.put.before", "the attempt is in the journal; nothing was sent")
_PUT_AFTER = register("upload.put.after", "the object is in the bucket; the record does not know it")

MISMATCH = (PreconditionFailed, ObjectNotFound, ConcurrentRequest)
"""Answers that say "not what you expected"; 404 is what If-Match gets where nothing is."""


async def send_small(ctx: Context, inode: Inode, step: SendSmall) -> None:
    """PUT a marker, symlink, fifo or socket."""
    await _put(ctx, inode, step.key, InlineBody(step.body), step.condition, inode.content_revision)


async def send_content(ctx: Context, ino: int, step: SendContent) -> None:
    """PUT the bytes of a regular file as they are now, or upload them in parts.

    Raises StillChanging, StoreError, LocalError.
    """
    cache, part_bytes = ctx.cache, ctx.settings.part_bytes
    inode = ctx.meta.require(ino)
    if cache.writer_count(ino):
        await ctx.hooks.flush_live(ino)
        inode = ctx.meta.require(ino)
    if inode.size > part_bytes:
        await send_large(ctx, ino, step.key, step.condition)
        return
    if not cache.is_resident(inode) and not await fetch_rest(ctx, ino):
        return
    snapshot = await cache.snapshot(ino, ctx.settings.cell_bytes_for(inode.size))
    now = ctx.meta.inode(ino)
    if now is None or not _same_base(inode, now):
        return
    if snapshot.size > part_bytes or UNKNOWN in snapshot.cells:
        raise StillChanging
    if records.wanted_key(ctx.meta, now) == step.key:
        body = snapshot.body(0, snapshot.size)
        await _put(ctx, now, step.key, body, step.condition, snapshot.revision, snapshot)


def _same_base(before: Inode, after: Inode) -> bool:
    """The condition of the step still holds for the record."""
    return before.remote == after.remote


async def fetch_rest(ctx: Context, ino: int) -> bool:
    """Bring absent bytes here. False: the object they were in is not there any more; the records say so now."""
    inode = ctx.meta.require(ino)
    assert inode.remote is not None, f"inode {ino} lacks bytes and the bucket holds none"
    key = inode.remote.key
    try:
        await ctx.call(ctx.cache.ensure_resident(ino))
    except (PreconditionFailed, ObjectNotFound):
        await absorb(ctx, ino, key, await ctx.look(key))
        return False
    return True


async def _put(
    ctx: Context,
    inode: Inode,
    key: str,
    body: Body,
    condition: Condition,
    content_revision: int,
    snapshot: Snapshot | None = None,
) -> None:
    metadata = object_metadata(inode, ctx.settings.also_write)
    headers = object_headers(inode, ctx.settings.guess_mime_type)
    attempt = put_attempt(key, body, metadata, content_revision, inode.meta_revision)
    flags = ctx.capabilities
    records.remember_attempt(ctx.meta, inode.ino, attempt)
    await ctx.secure()
    try:
        honoured = flags.put_if_none_match if condition.absent else flags.put_if_match
        sent_condition = await guarded(ctx, key, condition, honoured=honoured)
        failpoint(_PUT_BEFORE)
        async with ctx.budget.hold(body.length):
            result = await ctx.call(ctx.store.put(ObjectKey(key), body, metadata, headers, condition=sent_condition))
        failpoint(_PUT_AFTER)
    except Unexpected as found:
        await mismatch(ctx, inode.ino, key, attempt, found.info)
        return
    except MISMATCH:
        await mismatch(ctx, inode.ino, key, attempt, await ctx.look(key))
        return
    except StoreError as problem:
        if not problem.transient:
            records.forget_attempt(ctx.meta, inode.ino, attempt)
        raise
    ctx.counters.uploaded_files += 1
    ctx.counters.sent(body.length, ctx.clock.monotonic())
    remote = Remote(
        key,
        result.etag,
        body.length,
        result.last_modified_ns,
        content_revision,
        inode.meta_revision,
        result.version_id,
        kept_storage_class(inode),
        inode.mtime_ns if inode.is_directory else None,
    )
    known = None
    # A smaller object cannot be copied as a part, unless it is the last one.
    if snapshot is not None and snapshot.size >= ctx.settings.part_bytes_min:
        known = fingerprints_of(PartPlan(snapshot, (), None), remote)
    record(ctx, inode.ino, remote, known)


async def mismatch(ctx: Context, ino: int, key: str, attempt: Attempt, info: ObjectInfo | None) -> None:
    """A write was refused because of what is at ``key``: learn from it."""
    try:
        await absorb(ctx, ino, key, info)
    finally:
        records.forget_attempt(ctx.meta, ino, attempt)


def record(
    ctx: Context, ino: int, remote: Remote, fingerprints: Fingerprints | None = None, copied: Remote | None = None
) -> None:
    """``remote`` is in the bucket; look at whatever that changes."""
    now_ns, news = ctx.clock.time_ns(), ctx.hooks.news
    for target in records.record_sent(
        ctx.meta, ino, remote, now_ns, news=news, fingerprints=fingerprints, copied=copied
    ):
        ctx.notice(target)


async def learn(ctx: Context, ino: int) -> None:
    """Read the metadata of an object only a listing told us of, before a write replaces it."""
    inode = ctx.meta.require(ino)
    remote = inode.remote
    assert remote is not None
    info = await ctx.look(remote.key)
    inode = ctx.meta.inode(ino) or inode
    if inode.remote != remote:
        return
    if info is None or (remote.etag and info.etag != remote.etag):
        await absorb(ctx, ino, remote.key, info)
        return
    with ctx.meta.transaction() as tx:
        tx.put(learned(ctx, inode, remote, info))
    ctx.hooks.kernel.invalidate_inode(ino, True)


def learned(ctx: Context, inode: Inode, remote: Remote, info: ObjectInfo) -> Inode:
    """The record with what HEAD said, except what was changed here since."""
    found = attribute_fields(info, ctx.settings.defaults)
    marker_mtime_ns = found["mtime_ns"] if inode.is_directory else None
    if content_differs(inode):
        found.pop("mtime_ns")
    if stat.S_IFMT(found["mode"]) != stat.S_IFMT(inode.mode):
        found["mode"] = stat.S_IFMT(inode.mode) | stat.S_IMODE(found["mode"])
    return msgspec.structs.replace(
        inode,
        **(found if inode.meta_revision == remote.meta_revision else {}),
        foreign=split_metadata(info.metadata)[1],
        headers=headers_record(info.headers),
        attributes_known=True,
        remote=msgspec.structs.replace(
            remote, etag=info.etag, version_id=info.version_id, marker_mtime_ns=marker_mtime_ns
        ),
    )
