"""Parts of one multipart upload: several at a time, acknowledged ones remembered.

Some are copied inside the bucket from the object the file is in (``delta.py`` says which); the others are read from the
cache disk by the store, which checks their fingerprint first. Acknowledged parts are written to the upload state often
enough that a crash loses little, and seldom enough that it costs little.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import trio

from gatewayfs.errors import (
    BodyChanged,
    GatewayError,
    ObjectArchived,
    ObjectNotFound,
    PreconditionFailed,
    StoreAccessDenied,
    StoreRefused,
)
from gatewayfs.meta.schema import Inode, UploadPart, UploadState
from gatewayfs.runtime.failpoints import failpoint, register
from gatewayfs.s3.store import Part
from gatewayfs.types import ETag, ObjectKey
from gatewayfs.upload import records
from gatewayfs.upload.context import Context
from gatewayfs.upload.delta import PartPlan, PlannedPart
from gatewayfs.upload.looking import absorb
from gatewayfs.upload.parts import fingerprint_of, still_valid
from gatewayfs.upload.sources import pin_source

log = logging.getLogger(__name__)

_PART_AFTER = register("upload.part.after", "the part is in the store; the record may not know it")


def relevant(ctx: Context, now: Inode, planned: Inode, key: str) -> bool:
    """The record still wants these bytes at this key, based on the same object."""
    return records.wanted_key(ctx.meta, now) == key and now.remote == planned.remote


async def bring_parts(ctx: Context, inode: Inode, state: UploadState, plan: PartPlan) -> None:
    """Make the store hold every part of the plan; what it holds is in the upload state afterwards.

    Raises BodyChanged: the bytes, or the object to copy from, are others by now. StoreError.
    """
    remote = inode.remote
    if remote is not None and plan.copied_parts:
        pinned = await pin_source(ctx, inode.ino, state, remote)
        if pinned is None:
            raise BodyChanged("the object parts are copied from changed", key=remote.key)
        state = pinned
    done = {part.number: part for part in state.parts}
    keep = {
        part.number: done[part.number]
        for part in plan.parts
        if part.number in done and still_valid(done[part.number], part.offset, part.length, part.body)
    }
    progress = Progress(ctx, inode.ino, state, keep)
    sends = [sender(ctx, inode, state, part, progress) for part in plan.parts if part.number not in keep]
    await in_parallel(sends, ctx.settings.parts_per_file)
    progress.save()


class Progress:
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


def sender(
    ctx: Context, inode: Inode, state: UploadState, part: PlannedPart, progress: Progress
) -> Callable[[], Awaitable[None]]:
    async def send() -> None:
        now = ctx.meta.inode(inode.ino)
        if now is None or not relevant(ctx, now, inode, state.key):
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
        progress.add(UploadPart(part.number, answer.etag, part.offset, part.length, fingerprint, part.body is None))

    return send


async def _copy_part(ctx: Context, inode: Inode, state: UploadState, part: PlannedPart) -> Part:
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
        raise BodyChanged("the object parts are copied from changed", key=remote.key) from None
    except (StoreAccessDenied, StoreRefused, ObjectArchived) as problem:
        # What may be overwritten may perhaps not be read (any more). What is here can still be sent.
        if not records.forget_fingerprints(ctx.meta, inode.ino):
            raise
        log.warning("%s will be sent whole, nothing of it can be copied: %s", state.key, problem)
        raise BodyChanged("parts cannot be copied", key=remote.key) from problem


async def in_parallel(sends: Sequence[Callable[[], Awaitable[None]]], at_a_time: int) -> None:
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
