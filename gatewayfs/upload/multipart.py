"""Objects in parts: uploads that survive restarts, edits meanwhile, and bytes that are only in the bucket.

    create ── state ──> parts, several at a time ──> still the same revision? ──> complete ──> record
                                  ^                          │ no
                                  └─ the parts that changed ─┘

A part is identified by its fingerprint. After a restart, or when the file changed while it was going up, parts whose
fingerprint still fits are kept. Parts of which no byte is here are copied inside the bucket from the object they are
in. Nothing becomes visible before ``complete``, which is conditional like any other write; it is sent only when every
part belongs to one snapshot of the file.

An upload whose ``create`` was never answered cannot be told from other people's and stays; it is empty and costs
nothing. Any other one that is not needed any more is aborted.

The attributes travel with ``create``. When they changed before ``complete`` the record says that they are stale, and
the next look writes them.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import msgspec
import trio

from gatewayfs.cache.content import Snapshot
from gatewayfs.errors import (
    BodyChanged,
    ConcurrentRequest,
    GatewayError,
    ObjectNotFound,
    PreconditionFailed,
    StoreError,
    StoreRefused,
    UploadNotFound,
)
from gatewayfs.meta.schema import Attempt, Inode, Remote, UploadPart, UploadState
from gatewayfs.runtime.failpoints import failpoint, register
from gatewayfs.s3.store import Body, Condition, ObjectHeaders, Part
from gatewayfs.types import ETag, ObjectKey
from gatewayfs.upload import records
from gatewayfs.upload.conflicts import STALE
from gatewayfs.upload.context import Context
from gatewayfs.upload.looking import Unexpected, absorb, adopt, guarded
from gatewayfs.upload.metadata import metadata_digest, object_headers, object_metadata
from gatewayfs.upload.parts import (
    composite_etag,
    copy_ranges,
    fingerprint_of,
    mixed_parts,
    part_bytes_for,
    resumable,
    still_valid,
)
from gatewayfs.upload.plan import Copy

ROUNDS_MAX = 3
"""Snapshots tried before a file that keeps changing is left to settle; its valid parts are kept for the next time."""

CLOCK_SKEW_MAX_NS = 15 * 60 * 1_000_000_000
"""S3 refuses requests whose clock is further off than this."""

_CREATE_BEFORE = register("upload.create.before", "that an upload in parts will be asked for; nothing was sent")
_CREATE_AFTER = register("upload.create.after", "the upload is begun in the store; the record does not know its id")
_COMPLETE_BEFORE = register("upload.complete.before", "all parts are in the store; no object is visible yet")
_COMPLETE_AFTER = register("upload.complete.after", "the object is in the bucket; the record does not know it")
_PART_AFTER = register("upload.part.after", "the part is in the store; the record may not know it")


class StillChanging(Exception):
    """The file changes faster than it can be sent (internal: let it settle)."""


@dataclass(frozen=True, slots=True)
class _PlannedPart:
    number: int
    offset: int
    length: int
    body: Body | None


async def send_large(ctx: Context, ino: int, key: str, condition: Condition) -> None:
    """Upload a file of more than one part to ``key``; returns early when the record asks for something else now.

    Raises StillChanging, StoreError, LocalError.
    """
    for _ in range(ROUNDS_MAX):
        inode = ctx.meta.require(ino)
        state = await _state(ctx, inode, key)
        if state is None or not await _fetched(ctx, ino, state.part_bytes):
            return
        snapshot = await ctx.cache.snapshot(ino, state.part_bytes)
        now = ctx.meta.inode(ino)
        if now is None or snapshot.size <= ctx.settings.part_bytes or not _relevant(ctx, now, inode, key):
            await abort(ctx, ino)
            return
        if not resumable(state, key, snapshot.size):
            await abort(ctx, ino)
            continue
        try:
            await _bring_parts(ctx, now, state, snapshot)
        except BodyChanged:
            continue
        now = ctx.meta.inode(ino)
        if now is None or not _relevant(ctx, now, inode, key):
            return
        if ctx.cache.still(ino, snapshot):
            await _complete(ctx, now, key, condition, snapshot)
            return
    raise StillChanging


def _can_copy_parts(ctx: Context) -> bool:
    return ctx.capabilities.part_copy and ctx.capabilities.copy_source_if_match


def _relevant(ctx: Context, now: Inode, planned: Inode, key: str) -> bool:
    """The record still wants these bytes at this key, based on the same object."""
    return records.wanted_key(ctx.meta, now) == key and now.remote == planned.remote


async def _fetched(ctx: Context, ino: int, part_bytes: int) -> bool:
    """Fetch what cannot be copied inside the bucket: the rest of parts that are partly here. False: it is gone."""
    await ctx.hooks.flush_live(ino)
    inode = ctx.meta.require(ino)
    remote = inode.remote
    if remote is None or ctx.cache.is_resident(inode):
        return True
    placement = inode.placement
    extents = placement.extents if placement is not None else ()
    ranges = mixed_parts(extents, inode.size, part_bytes) if _can_copy_parts(ctx) else [(0, inode.size)]
    try:
        for start, end in ranges:
            ctx.doing(ino, "fetching")
            await ctx.call(ctx.cache.ensure_resident(ino, start, end))
    except (PreconditionFailed, ObjectNotFound):
        await absorb(ctx, ino, remote.key, await ctx.look(remote.key))
        return False
    return True


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
    return await _create(ctx, inode, key, part_bytes_for(inode.size, ctx.settings.part_bytes))


async def _create(
    ctx: Context,
    inode: Inode,
    key: str,
    part_bytes: int,
    metadata: dict[str, str] | None = None,
    headers: ObjectHeaders | None = None,
) -> UploadState:
    inode = ctx.meta.inode(inode.ino) or inode
    if metadata is None:
        metadata = object_metadata(inode)
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


async def _bring_parts(ctx: Context, inode: Inode, state: UploadState, snapshot: Snapshot) -> None:
    """Make the store hold every part of the snapshot; what it holds is in the upload state afterwards."""
    size = state.part_bytes
    planned = [
        _PlannedPart(number, (number - 1) * size, min(size, snapshot.size - (number - 1) * size), body)
        for number, body in enumerate(snapshot.parts, 1)
    ]
    done = {part.number: part for part in state.parts}
    keep = {
        part.number: done[part.number]
        for part in planned
        if part.number in done and still_valid(done[part.number], part.number, part.offset, part.length, part.body)
    }
    progress = _Progress(ctx, inode.ino, state, keep)
    sends = [_sender(ctx, inode, state, part, progress) for part in planned if part.number not in keep]
    await _in_parallel(sends, ctx.settings.parts_per_file)
    progress.save()


class _Progress:
    """Parts acknowledged so far, written to the record often enough to lose little and seldom enough to cost little."""

    def __init__(self, ctx: Context, ino: int, state: UploadState, done: dict[int, UploadPart]) -> None:
        self._ctx, self._ino, self._state, self.done = ctx, ino, state, done
        self._unsaved = 0

    def add(self, part: UploadPart) -> None:
        """The store acknowledged ``part``."""
        self.done[part.number] = part
        self._unsaved += 1
        # The state is written whole: writing it every n/8 parts keeps the sum of all writes proportional to its size.
        if self._unsaved * 8 >= len(self.done):
            self.save()

    def save(self) -> None:
        """Put the acknowledged parts into the upload state, if it is still the same upload."""
        current = self._ctx.meta.upload_state(self._ino)
        if current is not None and current.upload_id == self._state.upload_id:
            parts = tuple(self.done[number] for number in sorted(self.done))
            records.save_upload(self._ctx.meta, self._ino, msgspec.structs.replace(current, parts=parts))
        self._unsaved = 0


def _sender(
    ctx: Context, inode: Inode, state: UploadState, part: _PlannedPart, progress: _Progress
) -> Callable[[], Awaitable[None]]:
    async def send() -> None:
        now = ctx.meta.inode(inode.ino)
        if now is None or not _relevant(ctx, now, inode, state.key):
            return
        if part.body is None:
            answer = await _copy_part(ctx, inode, state, part)
        else:
            async with ctx.budget.hold(part.length):
                answer = await ctx.call(
                    ctx.store.upload_part(ObjectKey(state.key), state.upload_id, part.number, part.body)
                )
            ctx.counters.sent(part.length, ctx.clock.monotonic())
        failpoint(_PART_AFTER)
        fingerprint = fingerprint_of(part.body)
        progress.add(UploadPart(part.number, answer.etag, part.offset, part.length, fingerprint))

    return send


async def _copy_part(ctx: Context, inode: Inode, state: UploadState, part: _PlannedPart) -> Part:
    remote = inode.remote
    assert remote is not None, f"inode {inode.ino} lacks bytes and the bucket holds none"
    try:
        return await ctx.call(
            ctx.store.copy_part(
                ObjectKey(state.key),
                state.upload_id,
                part.number,
                ObjectKey(remote.key),
                part.offset,
                part.length,
                source_etag=ETag(remote.etag),
            )
        )
    except (PreconditionFailed, ObjectNotFound):
        await absorb(ctx, inode.ino, remote.key, await ctx.look(remote.key))
        raise BodyChanged("the object the missing bytes are in changed", key=remote.key) from None


async def _in_parallel(sends: Sequence[Callable[[], Awaitable[None]]], at_a_time: int) -> None:
    """Run all, at most ``at_a_time`` together; the first failure stops the others and is raised."""
    failure: list[GatewayError] = []
    remaining = iter(sends)

    async def worker() -> None:
        for send in remaining:
            try:
                await send()
            except GatewayError as problem:
                failure.append(problem)
                nursery.cancel_scope.cancel()
                return

    async with trio.open_nursery() as nursery:
        for _ in range(min(at_a_time, len(sends))):
            nursery.start_soon(worker)
    if failure:
        raise failure[0]


async def _complete(ctx: Context, inode: Inode, key: str, condition: Condition, snapshot: Snapshot) -> None:
    """Make the object visible, if the bucket is as we think."""
    meta, ino = ctx.meta, inode.ino
    state = meta.upload_state(ino)
    assert state is not None
    kept = tuple(part for part in state.parts if part.number <= len(snapshot.parts))
    if len(kept) < len(snapshot.parts):
        return
    state = msgspec.structs.replace(state, parts=kept)
    fresh = state.content_revision == snapshot.revision and state.meta_revision == inode.meta_revision
    meta_revision = inode.meta_revision if fresh else STALE
    parts = [Part(part.number, ETag(part.etag)) for part in state.parts]
    digest = metadata_digest(object_metadata(inode)) if fresh else b""
    attempt = Attempt(key, snapshot.size, snapshot.revision, meta_revision, b"", digest, composite_etag(parts) or "")
    result = await _completed(ctx, ino, state, parts, condition, attempt)
    if result is None:
        return
    ctx.counters.uploaded_files += 1
    remote = msgspec.structs.replace(result, content_revision=snapshot.revision, meta_revision=meta_revision)
    for target in records.record_sent(meta, ino, remote, ctx.clock.time_ns(), completed=state.upload_id):
        ctx.notice(target)


async def _completed(
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


async def copy_large(ctx: Context, inode: Inode, step: Copy) -> None:
    """A copy of more than 5 GiB: range by range, then complete. Not resumed: nothing of it crosses our link."""
    ino, source, key = inode.ino, step.source, step.key
    info = await ctx.look(source.key)
    if info is None or (source.etag and info.etag != source.etag):
        await absorb(ctx, ino, source.key, info)
        return
    await abort(ctx, ino)
    metadata = object_metadata(inode) if step.rewrite else dict(info.metadata)
    headers = object_headers(inode, ctx.settings.guess_mime_type) if step.rewrite else info.headers
    state = await _create(ctx, inode, key, 0, metadata, headers)
    planned = [_PlannedPart(n, start, length, None) for n, (start, length) in enumerate(copy_ranges(source.size), 1)]
    progress = _Progress(ctx, ino, state, {})
    try:
        await _in_parallel(
            [_sender(ctx, inode, state, part, progress) for part in planned], ctx.settings.parts_per_file
        )
    except BodyChanged:
        await abort(ctx, ino)
        return
    now = ctx.meta.inode(ino)
    if now is None or not _relevant(ctx, now, inode, key) or len(progress.done) < len(planned):
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
    remote = await _completed(ctx, ino, state, parts, step.condition, attempt)
    if remote is None:
        return
    ctx.counters.copied += 1
    remote = msgspec.structs.replace(remote, content_revision=source.content_revision, meta_revision=meta_revision)
    for target in records.record_sent(ctx.meta, ino, remote, ctx.clock.time_ns(), completed=state.upload_id):
        ctx.notice(target)
