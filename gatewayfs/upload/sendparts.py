"""Parts of one multipart upload: several at a time, acknowledged ones remembered.

A part of which no byte is here is copied inside the bucket from the object the file is in; the others are read from the
cache disk by the store, which checks their fingerprint first. Acknowledged parts are written to the upload state often
enough that a crash loses little, and seldom enough that it costs little.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import msgspec
import trio

from gatewayfs.cache.content import Snapshot
from gatewayfs.errors import BodyChanged, GatewayError, ObjectNotFound, PreconditionFailed
from gatewayfs.meta.schema import Inode, UploadPart, UploadState
from gatewayfs.runtime.failpoints import failpoint, register
from gatewayfs.s3.store import Body, Part
from gatewayfs.types import ETag, ObjectKey
from gatewayfs.upload import records
from gatewayfs.upload.context import Context
from gatewayfs.upload.looking import absorb
from gatewayfs.upload.parts import fingerprint_of, still_valid

_PART_AFTER = register("upload.part.after", "the part is in the store; the record may not know it")


@dataclass(frozen=True, slots=True)
class PlannedPart:
    """One part of a snapshot; ``body`` None where its bytes are only in the bucket."""

    number: int
    offset: int
    length: int
    body: Body | None


def can_copy_parts(ctx: Context) -> bool:
    return ctx.capabilities.part_copy and ctx.capabilities.copy_source_if_match


def relevant(ctx: Context, now: Inode, planned: Inode, key: str) -> bool:
    """The record still wants these bytes at this key, based on the same object."""
    return records.wanted_key(ctx.meta, now) == key and now.remote == planned.remote


async def bring_parts(ctx: Context, inode: Inode, state: UploadState, snapshot: Snapshot) -> None:
    """Make the store hold every part of the snapshot; what it holds is in the upload state afterwards."""
    size = state.part_bytes
    planned = [
        PlannedPart(number, (number - 1) * size, min(size, snapshot.size - (number - 1) * size), body)
        for number, body in enumerate(snapshot.parts, 1)
    ]
    done = {part.number: part for part in state.parts}
    keep = {
        part.number: done[part.number]
        for part in planned
        if part.number in done and still_valid(done[part.number], part.number, part.offset, part.length, part.body)
    }
    progress = Progress(ctx, inode.ino, state, keep)
    sends = [sender(ctx, inode, state, part, progress) for part in planned if part.number not in keep]
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
        progress.add(UploadPart(part.number, answer.etag, part.offset, part.length, fingerprint))

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
        raise BodyChanged("the object the missing bytes are in changed", key=remote.key) from None


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
