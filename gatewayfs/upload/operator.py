"""The queue in an operator's hands: look at it, hold it back, let it go, try again, go now.

There may be a million entries, and the loop that walks them also answers the file system: every walk is cut into
slices. A path selects the entries named so or below it; "" selects all.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

import trio

from gatewayfs.meta.schema import Inode
from gatewayfs.upload import records
from gatewayfs.upload.context import Context
from gatewayfs.upload.draining import waiting
from gatewayfs.upload.entries import Aside, Entry, State, Target
from gatewayfs.upload.plan import content_differs
from gatewayfs.upload.reporting import size_of
from gatewayfs.upload.schedule import Schedule
from gatewayfs.upload.staying import Hold, is_below

SLICE = 100
"""Entries looked at between two breaths: a path costs some ten microseconds."""

PAGE_MAX = 5_000
"""Entries of one answer."""

DOING = {
    "SendContent": "sending",
    "SendSmall": "sending",
    "Copy": "copying inside the bucket",
    "VisitChildren": "going through what is below",
    "KeepHere": "fetching what will exist only here",
    "Learn": "reading its attributes",
    "Rescue": "fetching bytes that are still read",
}
"""What a worker's step is called by people."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One entry as people see it."""

    path: str
    """Relative to the share; of an object that is to be deleted: its key's."""
    work: str
    """upload, rename, attributes, delete"""
    state: str
    """settling, ready, in flight, backing off, blocked, parked, held, excluded"""
    reason: str
    size_bytes: int
    age_s: float
    retry_s: float = 0.0
    """When it is tried again, from now."""
    sent_bytes: int = 0
    """In flight, in parts: what has arrived."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some entries, oldest first. ``after`` asks for the next page; None: these were the last."""

    entries: tuple[Listed, ...]
    after: tuple[float, str] | None


class Operator:
    """What ``gatewayfs queue`` can do.

    Args:
        wake: makes the dispatcher look again.
    """

    def __init__(self, ctx: Context, schedule: Schedule, wake: Callable[[], None]) -> None:
        self._ctx, self._schedule, self._wake = ctx, schedule, wake
        self._holds = ctx.staying.holds

    def unsent(self) -> int:
        """How many changes the records say the bucket does not have and shall get; known before the queue is."""
        meta = self._ctx.meta
        inodes = {ino for _, ino in meta.iter_dirty()} | {ino for ino, _ in meta.iter_uploads()}
        return sum(self._ctx.staying.why(ino) is not Aside.EXCLUDED for ino in inodes) + meta.doomed_count

    @property
    def holds(self) -> Sequence[Hold]:
        """What is held back now."""
        return self._holds.all

    async def hold(self, path: str, ino: int) -> None:
        """Keep what changes at and below ``path``, where ``ino`` is, here until it is released; what is in flight is
        finished. Raises UserError when there are too many holds."""
        self._holds.add(path, ino, self._ctx.clock.time_ns())
        await self._reconsider()

    async def release(self, path: str) -> Sequence[Hold]:
        """End the holds at and below ``path``; returns them."""
        ended = self._holds.remove(path)
        if ended:
            await self._reconsider()
        return ended

    async def retry(self, path: str = "") -> int:
        """Try what is parked or backs off again now, and the store if it is away. Returns how many entries."""
        self._ctx.gate.probe_now(self._ctx.clock.monotonic())
        return await self._each(path, self._schedule.retry, lambda entry: entry.parked or entry.attempts > 0)

    async def hurry(self, path: str = "") -> int:
        """Skip settle times, of what is in the queue now. Returns how many entries."""
        self._ctx.gate.probe_now(self._ctx.clock.monotonic())
        return await self._each(path, self._schedule.hurry, lambda entry: entry.state is not State.ASIDE)

    async def entries(self, path: str, after: tuple[float, str] | None, limit: int) -> Page:
        """The oldest entries at and below ``path``, from behind ``after`` on."""
        limit = max(1, min(limit, PAGE_MAX))
        begin, end = after or (float("-inf"), ""), (float("inf"), "")
        found: list[tuple[float, str, Entry]] = []
        async for entries in self._slices():
            for entry in entries:
                if not begin[0] <= entry.age_s <= end[0]:
                    continue
                place = entry.age_s, str(entry.target)
                if begin < place and waiting(self._ctx.meta, entry.target) and self._selects(path, entry):
                    found.append((*place, entry))
            if len(found) > 2 * limit:
                # One more than asked for tells that there is more. What is younger than that need not be looked at.
                found = sorted(found)[: limit + 1]
                end = found[-1][:2]
        found.sort()
        listed: list[Listed] = []
        for number, (_, _, entry) in enumerate(found[:limit], 1):
            listed.append(self._listed(entry, self._ctx.clock.monotonic()))
            if number % SLICE == 0:
                await trio.lowlevel.checkpoint()
        return Page(tuple(listed), found[limit - 1][:2] if len(found) > limit else None)

    # ------------------------------------------------------------------ walks

    async def _slices(self) -> AsyncIterator[list[Entry]]:
        """Every entry there is now, some at a time."""
        everything = list(self._schedule)
        for start in range(0, len(everything), SLICE):
            yield everything[start : start + SLICE]
            await trio.lowlevel.checkpoint()

    async def _reconsider(self) -> None:
        async for entries in self._slices():
            for entry in entries:
                if self._schedule.get(entry.target) is entry:
                    self._schedule.reconsider(entry)
        self._wake()

    async def _each(self, path: str, act: Callable[[Target, float], None], concerns: Callable[[Entry], bool]) -> int:
        count = 0
        async for entries in self._slices():
            for entry in entries:
                if self._schedule.get(entry.target) is entry and concerns(entry) and self._selects(path, entry):
                    act(entry.target, self._ctx.clock.monotonic())
                    count += 1
        self._wake()
        return count

    def _selects(self, path: str, entry: Entry) -> bool:
        return not path or is_below(self._path(entry.target), path)

    def _path(self, target: Target) -> str:
        """Relative to the share; "" when it has none."""
        inode = self._ctx.meta.inode(target) if isinstance(target, int) else None
        key = target if isinstance(target, str) else None
        if inode is not None:
            key = records.wanted_key(self._ctx.meta, inode)
        return (key or "").removeprefix(self._ctx.meta.prefix).rstrip("/")

    # ------------------------------------------------------------------ words

    def _listed(self, entry: Entry, now_s: float) -> Listed:
        target = entry.target
        inode = self._ctx.meta.inode(target) if isinstance(target, int) else None
        state, reason, until_s = self._state(entry, now_s)
        upload = self._ctx.meta.upload_state(target) if isinstance(target, int) else None
        return Listed(
            path=self._path(target) or (f"inode {target}, removed" if inode is None or not inode.linked else "/"),
            work=self._work(inode),
            state=state,
            reason=reason,
            size_bytes=size_of(self._ctx.meta, target),
            age_s=max(0.0, now_s - entry.age_s),
            retry_s=max(0.0, until_s - now_s) if until_s else 0.0,
            sent_bytes=sum(part.length for part in upload.parts) if upload is not None else 0,
        )

    def _work(self, inode: Inode | None) -> str:
        if inode is None or not inode.linked:
            return "delete"
        if inode.remote is None or content_differs(inode):
            return "upload"
        return "rename" if inode.remote.key != records.wanted_key(self._ctx.meta, inode) else "attributes"

    def _state(self, entry: Entry, now_s: float) -> tuple[str, str, float]:
        """Name, reason, and when it is looked at again (0: not known)."""
        closed = self._ctx.gate.closed
        match entry.state:
            case State.TAKEN:
                return "in flight", DOING.get(entry.doing, entry.doing or "looking"), 0.0
            case State.ASIDE if entry.aside is Aside.HELD:
                return "held", "until gatewayfs queue release", 0.0
            case State.ASIDE:
                return "excluded", "its name matches upload.exclude: it exists only here", 0.0
            case State.BLOCKED:
                on = entry.blocked_on
                return "blocked", f"waits for {self._path(on) if on is not None else 'another entry'}", 0.0
        if entry.parked:
            return "parked", entry.error, entry.not_before_s
        if entry.attempts and entry.state is State.WAITING:
            return "backing off", entry.error, entry.not_before_s
        if closed is not None:
            return "ready", f"the bucket does not answer: {closed.reason}", self._ctx.gate.probe_at_s
        if entry.state is State.READY:
            return "ready", "waits for its turn: older ones are under way", 0.0
        return "settling", "changed a moment ago, or still open for writing", self._schedule.due_s(entry)
