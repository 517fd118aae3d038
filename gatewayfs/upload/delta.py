"""The parts of a file's next object: what differs from the present one is sent, the rest is copied in the bucket.

    snapshot ── cells here: fingerprints against those of the object ──┐
             └─ cells not here: the object's bytes by definition       ├─> layout ──> parts
    fetch <── cells that must be sent and are not all here <───────────┘

After each upload the fingerprints of what the object holds are put into the records, tied to its key and etag
(``meta.schema.Fingerprints``). At the next one they decide, not a list of writes: a file rewritten with mostly the same
bytes (``rsync --inplace``, editors) costs as little as one written to in one place. They are compared, never trusted
further: they say which ranges *may* be copied from exactly that object, and ``sources.py`` sees to it that copies come
from no other.

Bytes that are only in the bucket are never fetched to be sent back, except around a change: a part has at least 5 MiB.
"""

from dataclasses import dataclass

from gatewayfs.cache.snapshot import Snapshot
from gatewayfs.errors import ObjectNotFound, PreconditionFailed
from gatewayfs.meta.schema import Fingerprints, Inode, Remote, UploadState
from gatewayfs.runtime.fingerprints import UNKNOWN
from gatewayfs.s3.store import ARCHIVE_CLASSES, Body
from gatewayfs.upload.context import Context, StillChanging
from gatewayfs.upload.layout import Range, digests_of, lay_out, same_cells
from gatewayfs.upload.looking import absorb

FETCHES_MAX = 5
"""Times what is missing is fetched before a file that keeps changing meanwhile is left to settle. One is usual."""


@dataclass(frozen=True, slots=True)
class PlannedPart:
    """One part; ``body`` None where it is copied."""

    number: int
    offset: int
    length: int
    body: Body | None


@dataclass(frozen=True, slots=True)
class PartPlan:
    """The parts of a snapshot. ``base``: the fingerprints of the object copies come from, where they are known."""

    snapshot: Snapshot
    parts: tuple[PlannedPart, ...]
    base: Fingerprints | None

    @property
    def copied_bytes(self) -> int:
        """How much of the object does not cross our link."""
        return sum(part.length for part in self.parts if part.body is None)

    @property
    def copied_parts(self) -> int:
        return sum(1 for part in self.parts if part.body is None)


async def plan_parts(ctx: Context, inode: Inode, state: UploadState) -> PartPlan | None:
    """Look at the bytes as they are now and decide; fetches what must be sent and is not here.

    Returns None when the object that has the missing bytes is another one by now; the records say so.

    Raises StillChanging, StoreError, LocalError, StaleInode.
    """
    ino, before = inode.ino, None
    for _ in range(FETCHES_MAX):
        await ctx.hooks.flush_live(ino)
        cell_bytes = ctx.settings.cell_bytes_for(ctx.meta.require(ino).size)
        snapshot = await ctx.cache.snapshot(ino, cell_bytes, before)
        base, ranges = _ranges(ctx, ctx.meta.require(ino), state, snapshot)
        missing = _missing(snapshot, ranges)
        if not missing:
            parts = (_planned(snapshot, number, each) for number, each in enumerate(ranges, 1))
            return PartPlan(snapshot, tuple(parts), base)
        if not await _fetched(ctx, ino, missing):
            return None
        before = snapshot
    raise StillChanging


def fingerprints_of(plan: PartPlan, remote: Remote) -> Fingerprints | None:
    """What the next upload will compare with, once ``remote`` holds the snapshot; None when nothing is known of it."""
    snapshot = plan.snapshot
    digests = digests_of(snapshot.size, snapshot.cell_bytes, snapshot.cells, plan.base)
    return Fingerprints(remote.key, remote.etag, snapshot.size, snapshot.cell_bytes, digests) if any(digests) else None


def _planned(snapshot: Snapshot, number: int, part: Range) -> PlannedPart:
    body = None if part.copied else snapshot.body(part.offset, part.length)
    return PlannedPart(number, part.offset, part.length, body)


def _ranges(
    ctx: Context, inode: Inode, state: UploadState, snapshot: Snapshot
) -> tuple[Fingerprints | None, list[Range]]:
    remote, base = inode.remote, None
    size, cell_bytes = snapshot.size, snapshot.cell_bytes
    copyable = [False] * len(snapshot.cells)
    # An object of unknown etag could be any.
    if ctx.capabilities.part_copy and remote is not None and remote.etag:
        base = ctx.meta.fingerprints(inode.ino)
        if base is not None and not base.describes(remote):
            base = None
        if remote.storage_class not in ARCHIVE_CLASSES:
            copyable = same_cells(size, cell_bytes, snapshot.cells, base)
        for number in snapshot.absent:
            copyable[number] = True
    return base, lay_out(size, copyable, ctx.settings.limits_for(cell_bytes, state.part_bytes))


def _missing(snapshot: Snapshot, ranges: list[Range]) -> list[tuple[int, int]]:
    """(start, end) of the cells that must be sent and are not all here."""
    cell, missing = snapshot.cell_bytes, []
    for each in ranges:
        if not each.copied:
            for number, known in enumerate(snapshot.cells_of(each.offset, each.length), each.offset // cell):
                if known == UNKNOWN:
                    missing.append((number * cell, min((number + 1) * cell, snapshot.size)))
    return missing


async def _fetched(ctx: Context, ino: int, ranges: list[tuple[int, int]]) -> bool:
    """Bring them here. False: the object they were in is not there any more; the records say so."""
    remote = ctx.meta.require(ino).remote
    assert remote is not None, f"inode {ino} lacks bytes and the bucket holds none"
    try:
        for start, end in ranges:
            ctx.doing(ino, "fetching")
            await ctx.call(ctx.cache.ensure_resident(ino, start, end))
    except (PreconditionFailed, ObjectNotFound):
        await absorb(ctx, ino, remote.key, await ctx.look(remote.key))
        return False
    return True
