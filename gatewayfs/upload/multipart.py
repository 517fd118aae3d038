"""Objects in parts: uploads that survive restarts, edits meanwhile, and bytes that are only in the bucket.

    create ── state ──> parts, several at a time ──> still the same revision? ──> complete ──> record
                                  ^                          │ no
                                  └─ the parts that changed ─┘

``delta.py`` plans the parts. One that was sent is identified by its number, range and fingerprint, one that was copied
by number, range and source. After a restart, or when the file changed while it was going up, parts that still fit are
kept: of a whole upload all but those that changed, since its parts lie where they lay; of a delta upload those before
the first new change, since those behind it get other numbers. Nothing becomes visible before ``complete``, which is
conditional like any other write; it is sent only when every part belongs to one snapshot of the file.

An upload whose ``create`` was never answered cannot be told from other people's and stays; it is empty and costs
nothing. Any other one that is not needed any more is aborted.

The attributes travel with ``create``. When they changed before ``complete`` the record says that they are stale, and
the next look writes them.
"""

import msgspec

from gatewayfs.errors import (
    BodyChanged,
    ConcurrentRequest,
    ObjectNotFound,
    PreconditionFailed,
    StoreError,
    StoreRefused,
    UploadNotFound,
)
from gatewayfs.meta.schema import Attempt, Inode, Remote, UploadState
from gatewayfs.runtime.failpoints import failpoint, register
from gatewayfs.s3.store import Condition, ObjectHeaders, Part
from gatewayfs.types import ETag, ObjectKey
from gatewayfs.upload import records
from gatewayfs.upload.conflicts import STALE
from gatewayfs.upload.context import Context, StillChanging
from gatewayfs.upload.delta import PartPlan, fingerprints_of, plan_parts
from gatewayfs.upload.looking import Unexpected, absorb, adopt, guarded
from gatewayfs.upload.metadata import kept_storage_class, metadata_digest, object_headers, object_metadata
from gatewayfs.upload.parts import composite_etag, part_bytes_for, resumable
from gatewayfs.upload.sendparts import bring_parts, relevant
from gatewayfs.upload.sources import source_unchanged

ROUNDS_MAX = 3
"""Snapshots tried before a file that keeps changing is left to settle; its valid parts are kept for the next time."""

CLOCK_SKEW_MAX_NS = 15 * 60 * 1_000_000_000
"""S3 refuses requests whose clock is further off than this."""

_CREATE_BEFORE = register("upload.create.before", "that an upload in parts will be asked for; nothing was sent")
_CREATE_AFTER = register("upload.create.after", "the upload is begun in the store; the record does not know its id")
_COMPLETE_BEFORE = register("upload.complete.before", "all parts are in the store; no object is visible yet")
_COMPLETE_AFTER = register("upload.complete.after", "the object is in the bucket; the record does not know it")


async def send_large(ctx: Context, ino: int, key: str, condition: Condition) -> None:
    """Upload a file of more than one part to ``key``; returns early when the record asks for something else now.

    Raises StillChanging, StoreError, LocalError.
    """
    for _ in range(ROUNDS_MAX):
        inode = ctx.meta.require(ino)
        state = await _state(ctx, inode, key)
        if state is None or (plan := await plan_parts(ctx, inode, state)) is None:
            return
        size = plan.snapshot.size
        now = ctx.meta.inode(ino)
        if now is None or size <= ctx.settings.part_bytes or not relevant(ctx, now, inode, key):
            await abort(ctx, ino)
            return
        if not resumable(state, key, size):
            await abort(ctx, ino)
            continue
        try:
            await bring_parts(ctx, now, state, plan)
        except BodyChanged:
            continue
        if plan.copied_parts and not await _from_one_source(ctx, ino):
            continue
        now = ctx.meta.inode(ino)
        if now is None or not relevant(ctx, now, inode, key):
            return
        if ctx.cache.still(ino, plan.snapshot):
            await _complete(ctx, now, key, condition, plan)
            return
    raise StillChanging


async def _from_one_source(ctx: Context, ino: int) -> bool:
    state = ctx.meta.upload_state(ino)
    return state is None or state.source is None or await source_unchanged(ctx, ino, state.source)


async def _state(ctx: Context, inode: Inode, key: str) -> UploadState | None:
    """The upload to continue, its parts checked with the store, or a new one; None when it turns out to be complete."""
    state = ctx.meta.upload_state(inode.ino)
    if state is not None and resumable(state, key, inode.size):
        try:
            there = await ctx.call(ctx.store.list_parts(ObjectKey(key), state.upload_id))
        except UploadNotFound:
            if await _gone(ctx, inode.ino, key):
                return None
        else:
            known = {(part.number, part.etag) for part in there}
            kept = tuple(part for part in state.parts if (part.number, part.etag) in known)
            return msgspec.structs.replace(state, parts=kept)
    else:
        await abort(ctx, inode.ino)
    return await create(ctx, inode, key, part_bytes_for(inode.size, ctx.settings.part_bytes))


async def create(
    ctx: Context,
    inode: Inode,
    key: str,
    part_bytes: int,
    metadata: dict[str, str] | None = None,
    headers: ObjectHeaders | None = None,
) -> UploadState:
    inode = ctx.meta.inode(inode.ino) or inode
    if metadata is None:
        metadata = object_metadata(inode, ctx.settings.also_write)
    if headers is None:
        headers = object_headers(inode, ctx.settings.guess_mime_type)
    before = ctx.meta.upload_state(inode.ino)
    intent = UploadState(
        key,
        "",
        inode.content_revision,
        inode.meta_revision,
        part_bytes,
        attempts=before.attempts if before is not None else (),
        creating_ns=ctx.clock.time_ns(),
        metadata_digest=metadata_digest(metadata),
    )
    records.save_upload(ctx.meta, inode.ino, intent)
    await ctx.secure()
    failpoint(_CREATE_BEFORE)
    try:
        upload_id = await ctx.call(ctx.store.create_multipart(ObjectKey(key), metadata, headers))
    except StoreError as problem:
        if not problem.transient:
            records.forget_upload(ctx.meta, inode.ino)
        raise
    failpoint(_CREATE_AFTER)
    state = msgspec.structs.replace(intent, upload_id=upload_id, creating_ns=0)
    records.save_upload(ctx.meta, inode.ino, state)
    return state


async def find_created(ctx: Context, ino: int) -> None:
    """An upload was asked for and its id never arrived: if it was begun, it is ours and nobody will go on with it.

    Uploads to the same key from about that time that no record knows are aborted. Should one of them be another
    gateway's after all, that one begins again.
    """
    state = ctx.meta.upload_state(ino)
    if state is None or not state.creating_ns:
        return
    known = {other.upload_id for _, other in ctx.meta.iter_uploads()}
    for pending in await ctx.call(ctx.store.list_uploads(state.key)):
        about_then = abs(pending.initiated_ns - state.creating_ns) < CLOCK_SKEW_MAX_NS
        if pending.key == state.key and pending.upload_id not in known and about_then:
            await ctx.call(ctx.store.abort_multipart(pending.key, pending.upload_id))
    records.forget_upload(ctx.meta, ino)


async def _gone(ctx: Context, ino: int, key: str) -> bool:
    """The store does not know the upload any more: aborted by a lifecycle rule (False), or completed by a request whose
    answer was lost; then its object is ours (True)."""
    records.forget_upload(ctx.meta, ino)
    info = await ctx.look(key)
    return info is not None and await adopt(ctx, ino, info)


async def abort(ctx: Context, ino: int) -> None:
    """End an upload nobody needs, if there is one."""
    state = ctx.meta.upload_state(ino)
    if state is not None and state.upload_id:
        await ctx.call(ctx.store.abort_multipart(ObjectKey(state.key), state.upload_id))
        records.forget_upload(ctx.meta, ino)


async def _complete(ctx: Context, inode: Inode, key: str, condition: Condition, plan: PartPlan) -> None:
    """Make the object visible, if the bucket is as we think."""
    meta, ino, snapshot = ctx.meta, inode.ino, plan.snapshot
    state = meta.upload_state(ino)
    assert state is not None
    planned = [(part.number, part.offset, part.length, part.body is None) for part in plan.parts]
    if [(part.number, part.offset, part.length, part.copied) for part in state.parts] != planned:
        return
    sent = state.metadata_digest
    meta_revision = (
        inode.meta_revision if metadata_digest(object_metadata(inode, ctx.settings.also_write)) == sent else STALE
    )
    parts = [Part(part.number, ETag(part.etag)) for part in state.parts]
    attempt = Attempt(key, snapshot.size, snapshot.revision, meta_revision, b"", sent, composite_etag(parts) or "")
    result = await completed(ctx, ino, state, parts, condition, attempt)
    if result is None:
        return
    ctx.counters.uploaded_files += 1
    ctx.counters.copied_parts += plan.copied_parts
    ctx.counters.saved_bytes += plan.copied_bytes
    remote = msgspec.structs.replace(
        result,
        content_revision=snapshot.revision,
        meta_revision=meta_revision,
        storage_class=kept_storage_class(inode),
    )
    now_ns, news, known = ctx.clock.time_ns(), ctx.hooks.news, fingerprints_of(plan, remote)
    for target in records.record_sent(
        meta, ino, remote, now_ns, news=news, completed=state.upload_id, fingerprints=known
    ):
        ctx.notice(target)


async def completed(
    ctx: Context, ino: int, state: UploadState, parts: list[Part], condition: Condition, attempt: Attempt
) -> Remote | None:
    """The new object; None when it could not be made and the records know why."""
    key = ObjectKey(state.key)
    records.remember_attempt(ctx.meta, ino, attempt)
    await ctx.secure()
    try:
        sent_condition = await guarded(ctx, key, condition, honoured=ctx.capabilities.complete_if_match)
        failpoint(_COMPLETE_BEFORE)
        result = await ctx.call(ctx.store.complete_multipart(key, state.upload_id, parts, condition=sent_condition))
        failpoint(_COMPLETE_AFTER)
    except UploadNotFound:
        await _gone(ctx, ino, key)
        return None
    except (Unexpected, PreconditionFailed, ObjectNotFound, ConcurrentRequest):
        try:
            await absorb(ctx, ino, key, await ctx.look(key))
        finally:
            records.forget_attempt(ctx.meta, ino, attempt)
        return None
    except StoreRefused:
        records.forget_attempt(ctx.meta, ino, attempt)
        await abort(ctx, ino)
        raise
    return Remote(key, result.etag, attempt.size, result.last_modified_ns, 0, 0, result.version_id)
