"""Server-side copies: a new name for an object, or new metadata for it, without its bytes crossing our link.

Up to 5 GiB one request does it; beyond, ranges are copied as the parts of a multipart upload. A copy keeps tags and,
unless attributes changed too, metadata and headers as they are.
"""

import msgspec

from gatewayfs.errors import BodyChanged, StoreError
from gatewayfs.meta.schema import Attempt, Inode, Remote, Source
from gatewayfs.runtime.failpoints import failpoint, register
from gatewayfs.s3.store import COPY_BYTES_MAX, UNCONDITIONAL, Condition, ObjectInfo, Part
from gatewayfs.types import ETag, ObjectKey
from gatewayfs.upload import records
from gatewayfs.upload.context import Context
from gatewayfs.upload.delta import PlannedPart
from gatewayfs.upload.looking import Unexpected, absorb, guarded
from gatewayfs.upload.metadata import metadata_digest, object_headers, object_metadata
from gatewayfs.upload.multipart import abort, completed, create
from gatewayfs.upload.parts import composite_etag, copy_ranges
from gatewayfs.upload.plan import Copy
from gatewayfs.upload.sending import MISMATCH, record
from gatewayfs.upload.sendparts import Progress, in_parallel, relevant, sender
from gatewayfs.upload.sources import source_unchanged

_COPY_BEFORE = register("upload.copy.before", "the attempt is in the journal; nothing was sent")
_COPY_AFTER = register("upload.copy.after", "the copy is in the bucket; the record does not know it")


async def send_copy(ctx: Context, inode: Inode, step: Copy) -> None:
    """Server-side copy to a new key, or onto itself with new metadata."""
    source, key, meta = step.source, step.key, ctx.meta
    if source.size > COPY_BYTES_MAX:
        await copy_large(ctx, inode, step)
        return
    metadata = object_metadata(inode, ctx.settings.also_write) if step.rewrite else None
    headers = object_headers(inode, ctx.settings.guess_mime_type)
    digest = metadata_digest(metadata) if metadata is not None else b""
    attempt: Attempt | None = None
    try:
        if not ctx.capabilities.copy_source_if_match or not source.etag or (metadata is None and "-" in source.etag):
            # A multipart object's copy has another etag: its metadata will have to tell whether it is ours.
            info = await _source(ctx, source)
            digest = digest or metadata_digest(info.metadata)
        if metadata is None and not inode.attributes_known and not source.size:
            # A website redirect, which only a HEAD tells and no copy carries over, is an empty object.
            headers = (await _source(ctx, source)).headers
        attempt = Attempt(
            key, source.size, source.content_revision, _copied_meta(inode, step), b"", digest, source.etag
        )
        records.remember_attempt(meta, inode.ino, attempt)
        await ctx.secure()
        condition = UNCONDITIONAL
        if key != source.key and not await _vacant(ctx, key, step.condition):
            condition = await guarded(ctx, key, step.condition, honoured=ctx.capabilities.copy_if_match)
        failpoint(_COPY_BEFORE)
        result = await ctx.call(
            ctx.store.copy(
                ObjectKey(source.key),
                ObjectKey(key),
                source_etag=ETag(source.etag) if source.etag else None,
                metadata=metadata,
                headers=headers,
                condition=condition,
            )
        )
        failpoint(_COPY_AFTER)
    except (Unexpected, *MISMATCH):
        await copy_mismatch(ctx, inode.ino, step, attempt)
        return
    except StoreError as problem:
        if not problem.transient and attempt is not None:
            records.forget_attempt(meta, inode.ino, attempt)
        raise
    ctx.counters.copied += 1
    remote = Remote(
        key,
        result.etag,
        source.size,
        result.last_modified_ns,
        source.content_revision,
        _copied_meta(inode, step),
        result.version_id,
        source.storage_class,
        inode.mtime_ns if step.rewrite and inode.is_directory else source.marker_mtime_ns,
    )
    record(ctx, inode.ino, remote, copied=source)
    if key != source.key:
        ctx.renames.arrived(key)


async def _vacant(ctx: Context, key: str, condition: Condition) -> bool:
    """Whether a listing just said, where nothing else can, that the condition to find nothing holds."""
    if not condition.absent or ctx.capabilities.copy_if_match:
        return False
    try:
        return await ctx.destinations.vacant(key)
    except StoreError as problem:
        if problem.transient:
            raise
        return False  # who may not list can still look


def _copied_meta(inode: Inode, step: Copy) -> int:
    """Whose attributes the copy carries."""
    return inode.meta_revision if step.rewrite else step.source.meta_revision


async def _source(ctx: Context, source: Remote) -> ObjectInfo:
    """The source as it is; raises Unexpected when it is not what the record says."""
    info = await ctx.look(source.key)
    if info is None or (source.etag and info.etag != source.etag):
        raise Unexpected(info)
    return info


async def copy_mismatch(ctx: Context, ino: int, step: Copy, attempt: Attempt | None) -> None:
    """A copy was refused: either its source or what lies at its destination is not what we thought."""
    try:
        source = await ctx.look(step.source.key)
        if step.key == step.source.key or source is None or source.etag != step.source.etag:
            await absorb(ctx, ino, step.source.key, source)
        else:
            await absorb(ctx, ino, step.key, await ctx.look(step.key))
    finally:
        if attempt is not None:
            records.forget_attempt(ctx.meta, ino, attempt)


async def copy_large(ctx: Context, inode: Inode, step: Copy) -> None:
    """A copy of more than 5 GiB: range by range, then complete. Not resumed: nothing of it crosses our link."""
    ino, source, key = inode.ino, step.source, step.key
    info = await ctx.look(source.key)
    if info is None or (source.etag and info.etag != source.etag):
        await absorb(ctx, ino, source.key, info)
        return
    pinned = Source(source.key, info.etag, info.last_modified_ns, info.version_id)
    await abort(ctx, ino)
    metadata = object_metadata(inode, ctx.settings.also_write) if step.rewrite else dict(info.metadata)
    headers = object_headers(inode, ctx.settings.guess_mime_type) if step.rewrite else info.headers
    state = await create(ctx, inode, key, 0, metadata, headers)
    planned = [PlannedPart(n, start, length, None) for n, (start, length) in enumerate(copy_ranges(source.size), 1)]
    progress = Progress(ctx, ino, state, {})
    try:
        await in_parallel([sender(ctx, inode, state, part, progress) for part in planned], ctx.settings.parts_per_file)
    except BodyChanged:
        await abort(ctx, ino)
        return
    if not await source_unchanged(ctx, ino, pinned):
        await abort(ctx, ino)
        return
    now = ctx.meta.inode(ino)
    if now is None or not relevant(ctx, now, inode, key) or len(progress.done) < len(planned):
        await abort(ctx, ino)
        return
    parts = [Part(part.number, ETag(part.etag)) for _, part in sorted(progress.done.items())]
    meta_revision = inode.meta_revision if step.rewrite else source.meta_revision
    attempt = Attempt(
        key,
        source.size,
        source.content_revision,
        meta_revision,
        b"",
        metadata_digest(metadata),
        composite_etag(parts) or "",
    )
    remote = await completed(ctx, ino, state, parts, step.condition, attempt)
    if remote is None:
        return
    ctx.counters.copied += 1
    remote = msgspec.structs.replace(remote, content_revision=source.content_revision, meta_revision=meta_revision)
    remote = msgspec.structs.replace(remote, storage_class=source.storage_class)
    now_ns, news = ctx.clock.time_ns(), ctx.hooks.news
    if step.key != source.key:
        ctx.renames.arrived(step.key)
    for target in records.record_sent(
        ctx.meta, ino, remote, now_ns, news=news, completed=state.upload_id, copied=source
    ):
        ctx.notice(target)
