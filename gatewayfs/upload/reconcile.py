"""Look, take one step, look again, until nothing differs.

A worker calls ``examine`` with one entry of the queue. Everything is decided from the records as they are at that
moment, synchronously, with the object keys of the step locked; after each step the records are read anew. What cannot
go on now comes back as an ``Outcome``; what goes wrong as an exception.
"""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from gatewayfs.errors import BodyChanged, ObjectNotFound, PreconditionFailed, StaleInode, UploadNotFound
from gatewayfs.meta.schema import Inode
from gatewayfs.types import ROOT_INO
from gatewayfs.upload import cycles, records
from gatewayfs.upload.context import Context, KeyBusy, StillChanging
from gatewayfs.upload.copying import send_copy
from gatewayfs.upload.deleting import delete_doomed
from gatewayfs.upload.directories import visit, visited
from gatewayfs.upload.entries import Aside, Target
from gatewayfs.upload.keeping import keep_here
from gatewayfs.upload.looking import resolve_attempts
from gatewayfs.upload.multipart import abort, find_created
from gatewayfs.upload.parts import resumable
from gatewayfs.upload.plan import (
    CleanUp,
    Copy,
    KeepHere,
    Learn,
    Rescue,
    SendContent,
    SendSmall,
    Settled,
    Situation,
    Step,
    VisitChildren,
    WaitFor,
    content_differs,
    next_step,
)
from gatewayfs.upload.sending import learn, send_content, send_small

STEPS_MAX = 32
"""Steps of one examination. More means that somebody changes the entry all the time: it waits its turn again."""

CHANGING_S = 1.0
"""Pause before a file that changed while it was being sent is looked at again."""

OPEN_CHECK_S = 30.0
"""An unlinked file that is still open is looked at this often; its last close should say so earlier."""


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing is left to do."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """Goes on when the worker that uses a key, or another entry, is done."""

    on: Target


@dataclass(frozen=True, slots=True)
class Later:
    """Goes on after a while; ``settle``: like a fresh change."""

    delay_s: float
    settle: bool = False


@dataclass(frozen=True, slots=True)
class Stays:
    """Nothing goes on until its name or the rules change (``staying.py``)."""

    why: Aside


@dataclass(frozen=True, slots=True)
class Sent:
    """A file that is being written went up as it was at one moment; the next moment waits like a fresh change."""


Outcome = Done | Blocked | Later | Stays | Sent


class Reconciler:
    """Examines entries.

    Args:
        news: whether news about a target arrived since its examination began; asked with True it also forgets them.
    """

    def __init__(self, ctx: Context, news: Callable[[Target, bool], bool]) -> None:
        self._ctx = ctx
        self._news = news

    async def examine(self, target: Target) -> Outcome:
        """Bring one entry as far as it gets now. Raises StoreError, LocalError, FsError."""
        try:
            if isinstance(target, str):
                return await self._examine_doomed(target)
            for _ in range(STEPS_MAX):
                outcome = await self._step(target)
                if outcome is not None:
                    return outcome
                self._ctx.moved(target)
        except KeyBusy as busy:
            return Blocked(busy.key)
        except StillChanging:
            return Later(CHANGING_S, settle=True)
        return Later(CHANGING_S)

    async def _examine_doomed(self, key: str) -> Outcome:
        with self._ctx.keys.hold([key]):
            self._ctx.doing(key, "deleting")
            heir = await delete_doomed(self._ctx, key)
        if heir is None:
            return Done()
        self._ctx.notice(heir)
        return Blocked(heir)

    async def _step(self, ino: int) -> Outcome | None:
        """One step; None when it was taken and the records must be looked at again."""
        ctx = self._ctx
        inode = ctx.meta.inode(ino)
        if inode is None:
            return Done()
        # Again at each step: it may have been moved, or held, since the last.
        if (why := ctx.staying.why(ino)) is not None:
            return Stays(why)
        key = records.wanted_key(ctx.meta, inode)
        excluded = key is not None and ctx.staying.excluded(key)
        with ctx.keys.hold(self._keys(inode, key)):
            if await self._leftovers(inode, None if excluded else key):
                return None
            step = next_step(self._situation(inode, key, excluded))
            ctx.doing(ino, type(step).__name__)
            if isinstance(step, WaitFor):
                return await self._wait_for(inode, step)
            if key is not None and self._takes_place(inode, step) and (claimant := self._claimant(inode, key)):
                ctx.notice(claimant)
                return Blocked(claimant)
            if isinstance(step, Settled | SendSmall | Copy):
                # An upload in parts that was begun is not what is needed any more.
                await abort(ctx, ino)
            try:
                return await self._take(inode, step)
            except BodyChanged:
                # Written to while it was being read for sending: what is there now goes up.
                return Later(CHANGING_S, settle=True)
            except UploadNotFound:
                records.forget_upload(ctx.meta, ino)
                return None
            except StaleInode:
                return None

    def _takes_place(self, inode: Inode, step: Step) -> bool:
        """Whether what lies at (or below) the wanted key is the inode's from this step on."""
        if isinstance(step, Settled):
            # A directory that is listed from nowhere yet is listed from its place once it has settled.
            return inode.directory is not None and inode.directory.source is None
        return isinstance(step, SendSmall | SendContent | Copy)

    def _claimant(self, inode: Inode, key: str) -> int:
        """A renamed directory nobody has looked into yet, to which whatever is at ``key`` belongs; 0: it is free."""
        if inode.remote is not None and inode.remote.key == key:
            return 0
        claimant = self._ctx.hooks.claimant(key, inode.parent)
        # One that cannot be listed is not waited for: the write is conditional anyhow.
        return claimant if claimant and self._ctx.meta.parked(claimant) is None else 0

    def _keys(self, inode: Inode, key: str | None) -> set[str]:
        state = self._ctx.meta.upload_state(inode.ino)
        keys = {attempt.key for attempt in state.attempts} if state is not None else set()
        if inode.remote is not None:
            keys.add(inode.remote.key)
        if key is not None:
            keys.add(key)
        return keys

    def _situation(self, inode: Inode, key: str | None, excluded: bool) -> Situation:
        ctx = self._ctx
        if key is None or excluded:
            return Situation(inode, key, excluded=excluded)
        holder = ctx.meta.holder(key)
        if holder is None or holder.ino == inode.ino:
            return Situation(inode, key, doomed=ctx.meta.doomed(key))
        reads = ctx.cache.open_count(holder.ino) > 0 and not ctx.cache.is_resident(holder)
        return Situation(inode, key, holder, reads, ctx.meta.doomed(key))

    async def _leftovers(self, inode: Inode, key: str | None) -> bool:
        """Account for what earlier steps left under way. True: the records may have changed."""
        ctx = self._ctx
        state = ctx.meta.upload_state(inode.ino)
        if state is None:
            return False
        if state.creating_ns:
            await find_created(ctx, inode.ino)
            return True
        if state.upload_id and (key is None or not resumable(state, key, inode.size)):
            await abort(ctx, inode.ino)
            return True
        if any(attempt.key != key for attempt in state.attempts):
            await resolve_attempts(ctx, inode.ino, key)
            return True
        return False

    async def _take(self, inode: Inode, step: Step) -> Outcome | None:
        ctx = self._ctx
        match step:
            case Settled():
                return self._settle(inode.ino)
            case CleanUp():
                return self._clean_up(inode.ino)
            case VisitChildren():
                await self._visit(inode.ino)
            case Learn():
                await learn(ctx, inode.ino)
            case Rescue(ino):
                await self._rescue(ino)
            case KeepHere():
                await keep_here(ctx, inode.ino)
            case SendSmall():
                await send_small(ctx, inode, step)
            case SendContent():
                await send_content(ctx, inode.ino, step)
                now = ctx.meta.inode(inode.ino)
                if now is not None and now.remote != inode.remote and content_differs(now):
                    return Sent() if ctx.cache.writer_count(inode.ino) else None
            case Copy():
                await send_copy(ctx, inode, step)
            case WaitFor():  # handled before: the key it needs belongs to somebody else
                raise AssertionError(step)
        return None

    def _settle(self, ino: int) -> Outcome | None:
        return Done() if records.settle(self._ctx.meta, ino, self._ctx.clock.time_ns()) else None

    def _clean_up(self, ino: int) -> Outcome:
        """An inode without a name: its object is doomed, and the record goes when nobody has it open."""
        ctx = self._ctx
        inode = ctx.meta.require(ino)
        if inode.linked and ino != ROOT_INO:
            # A directory above lost its name: whoever did that removes what is below.
            return Later(OPEN_CHECK_S)
        is_open = ctx.cache.open_count(ino) > 0
        reads = is_open and inode.is_regular and not ctx.cache.is_resident(inode)
        with ctx.meta.transaction() as tx:
            if is_open:
                tx.put_upload(ino, None)
                inode = msgspec.structs.replace(inode, dirty_since_ns=0)
            else:
                inode = ctx.cache.forget(tx, inode)
            doomed = records.release(tx, inode, ctx.clock.time_ns(), in_use=is_open, reads=reads)
        if doomed is not None:
            ctx.notice(doomed)
        return Later(OPEN_CHECK_S) if is_open else Done()

    async def _visit(self, ino: int) -> None:
        self._news(ino, True)
        if await visit(self._ctx, ino) and not self._news(ino, False):
            visited(self._ctx, ino)

    async def _rescue(self, ino: int) -> None:
        ctx = self._ctx
        remote = ctx.meta.require(ino).remote
        try:
            await ctx.call(ctx.cache.ensure_resident(ino))
        except (PreconditionFailed, ObjectNotFound):
            # The bucket lost these bytes already; its readers get an error either way.
            with ctx.meta.transaction() as tx:
                ghost = tx.inode(ino)
                if ghost is not None and ghost.remote == remote:
                    tx.put(msgspec.structs.replace(ghost, remote=None))

    async def _wait_for(self, inode: Inode, step: WaitFor) -> Outcome | None:
        ctx = self._ctx
        holder = ctx.meta.require(step.ino)
        if not cycles.must_yield(ctx, inode, holder):
            records.mark_dirty(ctx.meta, holder, ctx.clock.time_ns())
            ctx.notice(holder.ino)
            if (breaker := cycles.breaker(ctx, inode)) is not None:
                ctx.unblock(breaker)
            return Blocked(holder.ino)
        with ctx.keys.hold([cycles.aside_key(ctx, holder.ino)]):
            await cycles.give_up_key(ctx, holder.ino)
        return None
