"""Does every record agree with its neighbours? The invariants of ``schema.py``, looked at one by one.

The walk is made of small steps, each done without letting anybody else run, and within a step every statement is
about the present: so it may run on a store that is in use, and memory does not grow with the store. Each table is
walked in both directions: every inode has the entries it should, every entry belongs to an inode that wants it.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import chain, pairwise
from typing import TYPE_CHECKING

import trio

from gatewayfs.errors import CorruptRecord, GatewayError, StaleInode
from gatewayfs.meta import codec
from gatewayfs.meta.counters import Counters
from gatewayfs.meta.integrity import look_fence, look_fingerprints, look_seal
from gatewayfs.meta.paths import checked_name
from gatewayfs.meta.reader import Reader
from gatewayfs.meta.schema import PLACED_IN_FILE, PLACED_IN_PACK, Inode, Placement
from gatewayfs.types import ROOT_INO

if TYPE_CHECKING:
    from gatewayfs.meta.env import MetaStore

STEP_KEYS = 32
"""Keys per step: an inode's looks cost about 40 us, so a check in a running gateway delays others by 1-2 ms."""

PROBLEMS_MAX = 1000
"""More are not worth reading; the walk ends there."""


def check(meta: "MetaStore") -> list[str]:
    """Walk everything at once. Returns one line per contradiction, at most ``PROBLEMS_MAX``; [] when all is well."""
    problems: list[str] = []
    for found in chain(steps(meta), totals(meta)):
        problems.extend(found)
        if len(problems) >= PROBLEMS_MAX:
            return problems[:PROBLEMS_MAX]
    return problems


async def check_online(meta: "MetaStore", progress: Callable[[int], None] | None = None) -> list[str]:
    """Like ``check`` beside running operations: a checkpoint after every step.

    Sums (counters, numbers of subdirectories) are only compared when nothing changed while they were added up.

    Args:
        progress: called with the number of steps done.
    """
    problems: list[str] = []
    done = 0
    for walk, needs_stillness in ((steps(meta), False), (totals(meta), True)):
        before = meta.statistics().sequence
        for found in walk:
            if needs_stillness and meta.statistics().sequence != before:
                break
            problems.extend(found)
            if len(problems) >= PROBLEMS_MAX:
                return problems[:PROBLEMS_MAX]
            done += 1
            if progress is not None:
                progress(done)
            await trio.lowlevel.checkpoint()
    return problems


def steps(meta: Reader) -> Iterator[list[str]]:
    """The walk, one small synchronous step per item: the problems found in it."""
    for table, look in _LOOKS.items():
        for keys in _batches(meta, table):
            problems: list[str] = []
            for key in keys:
                try:
                    problems.extend(look(meta, key))
                except (CorruptRecord, StaleInode) as problem:
                    problems.append(str(problem))
            yield problems


def totals(meta: "MetaStore") -> Iterator[list[str]]:
    """What only a store that holds still can answer: sums over tables, in small steps as well."""
    counted = Counters()
    for table in (codec.INODE, codec.DIRTY, codec.DOOMED, codec.ORPHAN, codec.PARKED):
        for keys in _batches(meta, table):
            problems = []
            for key in keys:
                try:
                    counted.count(key, meta.raw(key), 1)
                except CorruptRecord as problem:
                    problems.append(str(problem))
            yield problems
    says, are = asdict(meta.counters), asdict(counted)
    yield [f"counter {name} says {says[name]}, there are {are[name]}" for name in says if says[name] != are[name]]
    yield from _subdirectory_steps(meta)


def _subdirectory_steps(meta: Reader) -> Iterator[list[str]]:
    """Compare each directory's ``subdirectories`` with its children: C is sorted by parent, so one pass will do."""
    parent, count = 0, 0
    for keys in _batches(meta, codec.CHILD):
        problems: list[str] = []
        for key in keys:
            if codec.number_at(key, 1) != parent:
                problems.extend(_compare_subdirectories(meta, parent, count))
                parent, count = codec.number_at(key, 1), 0
            count += _is_directory(meta, codec.number_at(key, 9))
        yield problems
    yield _compare_subdirectories(meta, parent, count)


def _batches(meta: Reader, table: bytes) -> Iterator[list[bytes]]:
    """The keys of a table, ``STEP_KEYS`` at a time, each batch as of the moment it is asked for."""
    start, end = table, codec.table_end(table)
    while True:
        keys = meta.keys(start, end, STEP_KEYS)
        yield keys
        if len(keys) < STEP_KEYS:
            return
        start = keys[-1] + b"\0"


def _is_directory(meta: Reader, ino: int) -> bool:
    try:
        inode = meta.inode(ino)
    except CorruptRecord:
        return False  # named already
    return inode is not None and inode.is_directory


def _compare_subdirectories(meta: Reader, parent: int, count: int) -> list[str]:
    inode = meta.inode(parent) if _is_directory(meta, parent) else None
    if inode is None or inode.directory is None or inode.directory.subdirectories == count:
        return []
    return [f"inode {parent}: says it has {inode.directory.subdirectories} subdirectories, there are {count}"]


# --------------------------------------------------------------------------- one look per table


def _look_inode(meta: Reader, key: bytes) -> Iterator[str]:
    ino = codec.number_at(key, 1)
    inode = meta.require(ino)
    who = f"inode {ino}"
    if inode.ino != ino:
        yield f"{who}: the record says it is inode {inode.ino}"
        return
    yield from _look_types(meta, who, inode)
    yield from _look_place(meta, who, inode)
    if (meta.raw(codec.orphan_key(ino)) is not None) == inode.linked:
        yield f"{who}: {'has a name but is an orphan' if inode.linked else 'has no name but is no orphan'}"
    if inode.dirty_since_ns and meta.raw(codec.dirty_key(inode.dirty_since_ns, ino)) is None:
        yield f"{who}: dirty but not in the queue"
    if inode.remote is not None:
        holder = meta.raw(codec.object_key(inode.remote.key))
        if holder != ino.to_bytes(8, "big"):
            yield f"{who}: does not hold its object {inode.remote.key!r}"
        if meta.doomed(inode.remote.key) is not None:
            yield f"{who}: its object {inode.remote.key!r} is doomed"
    if ino >= int(meta.setting("next_ino") or 2):
        yield f"{who}: above the next inode number, which would be given out again"


def _look_types(meta: Reader, who: str, inode: Inode) -> Iterator[str]:
    if inode.is_directory != (inode.directory is not None):
        yield f"{who}: mode {inode.mode:o} and directory part disagree"
    if inode.directory is not None and inode.directory.subdirectories and not meta.has_children(inode.ino):
        yield f"{who}: says it has {inode.directory.subdirectories} subdirectories, it is empty"
    if inode.target is not None and not inode.is_symlink:
        yield f"{who}: has a target but is no symlink"
    if inode.is_symlink and inode.target is not None and len(inode.target) != inode.size:
        yield f"{who}: size {inode.size} of a symlink with a target of {len(inode.target)} bytes"
    if inode.size < 0:
        yield f"{who}: size {inode.size}"
    if inode.placement is not None:
        if not inode.is_regular:
            yield f"{who}: only regular files have bytes on the cache disk"
        yield from _look_placement(who, inode.placement)


def _look_placement(who: str, placement: Placement) -> Iterator[str]:
    if placement.kind not in (PLACED_IN_PACK, PLACED_IN_FILE):
        yield f"{who}: placement of kind {placement.kind}"
    extents = placement.extents
    ascending = all(first < second for first, second in pairwise(extents))
    if len(extents) % 2 or not ascending or (extents and extents[0] < 0):
        yield f"{who}: extents {extents} are not sorted, disjoint and apart"


def _look_place(meta: Reader, who: str, inode: Inode) -> Iterator[str]:
    ino = inode.ino
    if not inode.parent:
        if inode.name:
            yield f"{who}: has the name {inode.name!r} in no directory"
        return
    if ino == ROOT_INO:
        yield f"{who}: the root has a parent"
        return
    try:
        checked_name(inode.name)
    except GatewayError as problem:
        yield f"{who}: {problem}"
    if meta.raw(codec.dentry_key(inode.parent, inode.name)) != ino.to_bytes(8, "big"):
        yield f"{who}: directory {inode.parent} does not lead to it by {inode.name!r}"
    if meta.raw(codec.child_key(inode.parent, ino)) is None:
        yield f"{who}: not among the children of {inode.parent}"
    parent = meta.inode(inode.parent)
    if parent is None or parent.directory is None:
        yield f"{who}: its parent {inode.parent} is {'missing' if parent is None else 'no directory'}"
        return
    below = -1 if inode.directory is None else inode.directory.deepest_bytes
    if parent.directory.deepest_bytes < len(inode.name) + 1 + below:
        yield f"{who}: reaches deeper than directory {inode.parent} believes"
    if inode.is_directory:
        meta.path_of(ino)  # raises when an ancestor is missing, unlinked, or the way is a circle


def _look_dentry(meta: Reader, key: bytes) -> Iterator[str]:
    parent, name = codec.number_at(key, 1), key[9:]
    ino = int.from_bytes(meta.raw(key) or b"", "big")
    inode = meta.inode(ino)
    if inode is None or inode.parent != parent or inode.name != name:
        yield f"directory {parent}: the name {name!r} leads to inode {ino}, which is not there"


def _look_child(meta: Reader, key: bytes) -> Iterator[str]:
    parent, ino = codec.number_at(key, 1), codec.number_at(key, 9)
    inode = meta.inode(ino)
    if inode is None or inode.parent != parent:
        yield f"directory {parent}: lists inode {ino}, which is not there"


def _look_key(meta: Reader, key: bytes) -> Iterator[str]:
    ino = int.from_bytes(meta.raw(key) or b"", "big")
    inode = meta.inode(ino)
    if inode is None or inode.remote is None or codec.object_key(inode.remote.key) != key:
        yield f"key index {key[1:].hex()}: leads to inode {ino}, which does not hold that object"


def _look_dirty(meta: Reader, key: bytes) -> Iterator[str]:
    since_ns, ino = codec.number_at(key, 1), codec.number_at(key, 9)
    inode = meta.inode(ino)
    if inode is None or inode.dirty_since_ns != since_ns:
        yield f"queue: inode {ino} since {since_ns} is not in that state"


def _look_orphan(meta: Reader, key: bytes) -> Iterator[str]:
    ino = codec.number_at(key, 1)
    inode = meta.inode(ino)
    if inode is None or inode.parent:
        yield f"orphans: inode {ino} is {'missing' if inode is None else 'linked'}"


def _look_doomed(meta: Reader, key: bytes) -> Iterator[str]:
    doomed = codec.decode_doomed(key, meta.raw(key) or b"")
    if codec.doomed_key(doomed.key) != key:
        yield f"doomed {doomed.key!r}: lies at the wrong place"
    if meta.holder(doomed.key) is not None:
        yield f"doomed {doomed.key!r}: an inode holds it"


def _look_upload(meta: Reader, key: bytes) -> Iterator[str]:
    codec.decode_upload(key, meta.raw(key) or b"")
    if meta.inode(codec.number_at(key, 1)) is None:
        yield f"upload of inode {codec.number_at(key, 1)}, which is missing"


def _look_parked(meta: Reader, key: bytes) -> Iterator[str]:
    codec.decode_parked(key, meta.raw(key) or b"")
    if meta.inode(codec.number_at(key, 1)) is None:
        yield f"parked inode {codec.number_at(key, 1)}, which is missing"


def _look_news(meta: Reader, key: bytes) -> Iterator[str]:
    codec.decode_news(key, meta.raw(key) or b"")
    yield from ()


_LOOKS: dict[bytes, Callable[[Reader, bytes], Iterator[str]]] = {
    codec.INODE: _look_inode,
    codec.DENTRY: _look_dentry,
    codec.CHILD: _look_child,
    codec.KEY: _look_key,
    codec.DIRTY: _look_dirty,
    codec.ORPHAN: _look_orphan,
    codec.DOOMED: _look_doomed,
    codec.UPLOAD: _look_upload,
    codec.FINGERPRINTS: look_fingerprints,
    codec.SEAL: look_seal,
    codec.FENCE: look_fence,
    codec.PARKED: _look_parked,
    **dict.fromkeys(codec.NEWS, _look_news),
}
