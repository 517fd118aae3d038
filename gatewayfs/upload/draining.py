"""Waiting until what was written before a certain moment is in the bucket.

A drain notes the revisions of everything in the queue when it is called, and ends when each of them (or a newer one)
has arrived, so a busy writer cannot keep it waiting for ever. Work that comes out of that work (the children of a
renamed directory, the deletion of old keys) joins it. What is parked or held ends it too, and is reported; unless it is
*patient*: then it skips no settle time, and waits for what is parked or held as well.

A drain may be about a part of the queue only (``belongs``): an fsync that waits for the bucket is one.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.schema import Inode
from gatewayfs.upload import records
from gatewayfs.upload.entries import Aside, Entry, Target
from gatewayfs.upload.status import DrainReport, ParkedEntry


@dataclass(frozen=True, slots=True)
class Goal:
    """What must be in the bucket: at least these revisions."""

    content_revision: int = 0
    meta_revision: int = 0


def goal_of(meta: MetaStore, target: Target) -> Goal:
    """Everything that is written now."""
    inode = meta.inode(target) if isinstance(target, int) else None
    return Goal() if inode is None else Goal(inode.content_revision, inode.meta_revision)


def waiting(meta: MetaStore, target: Target) -> bool:
    """Whether there is work to do for ``target``."""
    if isinstance(target, str):
        return meta.doomed(target) is not None
    inode = meta.inode(target)
    # What a lost write left in the bucket is work, too, though the inode itself may be as the bucket has it.
    return inode is not None and (inode.dirty_since_ns != 0 or meta.upload_state(target) is not None)


def reached(meta: MetaStore, target: Target, goal: Goal) -> bool:
    """Whether the bucket holds what the goal asks for."""
    if not waiting(meta, target):
        return True
    inode = meta.inode(target) if isinstance(target, int) else None
    if inode is None or inode.remote is None or inode.is_directory:
        return False
    newer = inode.remote.content_revision >= goal.content_revision and inode.remote.meta_revision >= goal.meta_revision
    return newer and inode.remote.key == records.wanted_key(meta, inode)


def everything(target: Target) -> bool:
    """A drain of the whole queue."""
    return True


def entries_of(meta: MetaStore, directory: Inode) -> Callable[[Target], bool]:
    """What belongs to a drain of one directory: its own attributes, every entry it has, and every one that left it."""
    ino, prefix = directory.ino, records.wanted_key(meta, directory)

    def belongs(target: Target) -> bool:
        if isinstance(target, str):
            return _above(target) == prefix
        inode = meta.inode(target)
        if inode is None or target == ino:
            return inode is not None
        return inode.parent == ino or (inode.remote is not None and _above(inode.remote.key) == prefix)

    return belongs


def _above(key: str) -> str:
    """``a/b`` and ``a/b/`` -> ``a/``."""
    return key[: key.rstrip("/").rfind("/") + 1]


@dataclass(slots=True, eq=False)
class Drain:
    """One call of ``Uploader.drain``."""

    meta: MetaStore
    patient: bool = False
    belongs: Callable[[Target], bool] = everything
    urgent: bool = False
    """A program waits for it: it goes before what is older."""
    goals: dict[Target, Goal] = field(default_factory=dict)
    settled: int = 0
    left: list[ParkedEntry] = field(default_factory=list)
    held: set[Target] = field(default_factory=set)
    gathering: bool = True
    """Not everything that must arrive is noted yet."""
    done: trio.Event = field(default_factory=trio.Event)

    def add(self, target: Target) -> bool:
        """``target`` belongs to what must arrive; False when nothing is to be done for it."""
        if not self.belongs(target) or not waiting(self.meta, target):
            return False
        self.goals[target] = goal_of(self.meta, target)
        return True

    def looked_at(self, target: Target) -> bool:
        """A worker is done with ``target`` for now: has it arrived? False when it is still waited for, at once."""
        goal = self.goals.get(target)
        if goal is None:
            return True
        if not reached(self.meta, target, goal):
            return self.patient
        del self.goals[target]
        self.settled += 1
        self.check()
        return True

    def lost(self, why: ParkedEntry) -> None:
        """What was written to a file lost its name to what others wrote. Whoever waits for just that is told."""
        if self.urgent and self.goals.pop(why.target, None) is not None:
            self.left.append(why)
            self.check()

    def gave_up(self, parked: ParkedEntry) -> None:
        """``parked.target`` will not arrive by itself."""
        if not self.patient and self.goals.pop(parked.target, None) is not None:
            self.left.append(parked)
            self.check()

    def awaits(self, entry: Entry | None) -> bool:
        """Whether an entry is one to wait for: it is there, and does not stay here for longer than patience goes."""
        return entry is not None and (entry.aside is None or (self.patient and entry.aside is Aside.HELD))

    def stays(self, target: Target, why: Aside) -> None:
        """``target`` stays here on purpose: only the patient wait for what is held. It is reported."""
        if self.patient and why is Aside.HELD:
            return
        known = self.goals.pop(target, None) is not None
        if why is Aside.HELD and (known or (self.gathering and self.belongs(target))):
            self.held.add(target)
        self.check()

    def check(self) -> None:
        """End when nothing is awaited any more."""
        if not self.goals and not self.gathering:
            self.done.set()

    def report(self) -> DrainReport:
        """What became of it."""
        return DrainReport(self.settled, tuple(self.left), len(self.held))
