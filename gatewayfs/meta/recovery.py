"""``gatewayfs recover``: a new LMDB environment from the recovery log and the journal, when the old one is lost.

What comes back: every dirty file with its path, attributes and where its bytes lie on the cache disk; the directories
above them; condemned objects (so deletions are not undone), multipart uploads under way, parked entries, settings, and
an inode number nobody ever had as the next one. What does not: clean files and directories, which the bucket has
and which are listed again; the inode numbers of those, so NFS clients find their handles stale.

What can be lost is what was acknowledged in the last second *and* lies only in journal segments that are gone too.
If an ancestor of a file is missing, the file is put into the root under a name that says so.
"""

import dataclasses
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import lmdb
import msgspec

from gatewayfs.errors import CacheDiskFailed
from gatewayfs.meta import frames
from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.journal import segment_paths
from gatewayfs.meta.opening import INO_GAP, JOURNAL, META, lock
from gatewayfs.meta.recovered import Recovered, read_recovery
from gatewayfs.meta.schema import Directory, Inode
from gatewayfs.meta.writer import APPLIED_KEY, open_environment, translated
from gatewayfs.runtime.clock import SystemClock
from gatewayfs.runtime.durable import fsync_directory
from gatewayfs.runtime.offload import InlineOffload
from gatewayfs.types import NAME_BYTES_MAX, ROOT_INO

__all__ = ["RebuildReport", "Recovered", "read_recovery", "rebuild"]

WORK = "meta.new"

INODES_PER_TRANSACTION = 500

_replace = msgspec.structs.replace


@dataclass(frozen=True)
class RebuildReport:
    """What ``rebuild`` did."""

    dirty_files: int
    directories: int
    doomed: int
    moved_to_root: tuple[tuple[int, bytes], ...]
    """(inode, new name) of those whose directory is lost."""
    renamed: tuple[tuple[int, bytes], ...]
    """(inode, new name) of those whose name was taken."""
    damaged: tuple[str, ...]
    """Records that could not be read and were left out."""
    old_environment: Path | None
    """Where the former LMDB environment was moved to."""


def rebuild(cache: Path, prefix: str | None = None) -> RebuildReport:
    """Build ``cache``/meta anew from what ``read_recovery`` finds; a former one is moved aside. Blocks.

    Args:
        prefix: the share's prefix, where the log is too damaged to tell.

    Raises:
        UserError: a daemon is running on this directory.
        CorruptRecord: there is nothing to rebuild from.
        CacheDiskFull, CacheDiskFailed: nothing was changed.
    """
    lock_fd = lock(cache)
    try:
        found = read_recovery(cache)
        known = found.prefix if prefix is None else prefix
        work = cache / WORK
        shutil.rmtree(work, ignore_errors=True)
        report = _build(work, known, found)
        _finish_environment(work / META, found.sequence)
        return _install(cache, work, report)
    except OSError as problem:
        raise CacheDiskFailed(f"rebuild {cache}: {problem.strerror}") from problem
    finally:
        os.close(lock_fd)


class _Placer:
    """Decides where each inode goes, parents first."""

    def __init__(self, found: Recovered, prefix: str) -> None:
        self._found = found
        self._prefix = prefix
        self._placed: set[int] = set()
        self._names: set[tuple[int, bytes]] = set()
        self._keys: set[str] = set()
        self.moved: list[tuple[int, bytes]] = []
        self.renamed: list[tuple[int, bytes]] = []

    def __iter__(self) -> Iterator[Inode]:
        root = self._found.inodes.get(ROOT_INO)
        if root is None and self._found.inodes:
            directory = Directory(source=self._prefix)
            root = Inode(ROOT_INO, 0, b"", stat.S_IFDIR | 0o755, 0, 0, 0, 0, 0, 0, directory=directory)
        if root is not None:
            self._placed.add(ROOT_INO)
            yield self._cleared(root)
        for ino in sorted(self._found.inodes):
            yield from self._with_parents(ino)

    def _with_parents(self, ino: int) -> Iterator[Inode]:
        chain: list[Inode] = []
        seen: set[int] = set()
        while ino not in self._placed:
            inode = self._found.inodes.get(ino)
            if inode is None or ino in seen:
                break  # an ancestor is lost, or the way up is a circle: the topmost one we have goes into the root
            seen.add(ino)
            chain.append(inode)
            ino = inode.parent
        for inode in reversed(chain):
            placed = inode
            if inode.parent not in self._placed:
                placed = _replace(inode, parent=ROOT_INO, name=_marked(inode, b"recovered"))
                self.moved.append((inode.ino, placed.name))
            if (placed.parent, placed.name) in self._names:
                placed = _replace(placed, name=_marked(inode, b"duplicate"))
                self.renamed.append((inode.ino, placed.name))
            self._names.add((placed.parent, placed.name))
            self._placed.add(inode.ino)
            yield self._cleared(placed)

    def _cleared(self, inode: Inode) -> Inode:
        """Directories are listed again; an object has one holder."""
        if inode.directory is not None:
            details = _replace(inode.directory, subdirectories=0)  # counted again as they are linked
            if details.source is not None:
                details = _replace(details, complete=False, listed_ns=0)
            inode = _replace(inode, directory=details)
        remote = inode.remote
        if remote is not None:
            if remote.key in self._keys:
                return _replace(inode, remote=None)
            self._keys.add(remote.key)
        return inode

    def holds(self, key: str) -> bool:
        return key in self._keys


def _marked(inode: Inode, why: bytes) -> bytes:
    mark = b"%s-%d-" % (why, inode.ino)
    name = (mark + inode.name)[:NAME_BYTES_MAX]
    return name.decode(errors="ignore").encode()


def _build(work: Path, prefix: str, found: Recovered) -> RebuildReport:
    """A complete store in ``work``."""
    meta = MetaStore.open(work, prefix=prefix, clock=SystemClock(), offload=InlineOffload())
    try:
        placer = _Placer(found, prefix)
        batch: list[Inode] = []
        dirty_files = directories = 0
        next_ino = max(int(found.settings.get("next_ino", b"2")), found.highest_ino + 1) + INO_GAP
        with meta.transaction() as tx:
            for name, value in found.settings.items():
                if name not in ("prefix", "schema_version", "boot"):
                    tx.put_setting(name, value)
            tx.put_setting("next_ino", str(next_ino).encode())
        for inode in placer:
            batch.append(inode)
            directories += inode.is_directory
            dirty_files += inode.dirty_since_ns != 0 and not inode.is_directory
            if len(batch) == INODES_PER_TRANSACTION:
                _put_all(meta, batch, found)
                batch = []
        _put_all(meta, batch, found)
        doomed = [each for each in found.doomed if not placer.holds(each.key)]
        with meta.transaction() as tx:
            for each in doomed:
                tx.doom(each)
        meta.flush()
    finally:
        meta.abandon()
    return RebuildReport(
        dirty_files, directories, len(doomed), tuple(placer.moved), tuple(placer.renamed), tuple(found.damaged), None
    )


def _put_all(meta: MetaStore, inodes: list[Inode], found: Recovered) -> None:
    with meta.transaction() as tx:
        for inode in inodes:
            tx.put(inode)
            if inode.ino in found.uploads:
                tx.put_upload(inode.ino, found.uploads[inode.ino])
            if inode.ino in found.parked:
                tx.put_parked(inode.ino, found.parked[inode.ino])
            if inode.ino in found.fences:
                tx.put_fence(inode.ino, found.fences[inode.ino])
    meta.flush()


def _finish_environment(directory: Path, sequence: int) -> None:
    """The journal segments that are still there are part of the new environment: never replay them again."""
    env = open_environment(directory)
    try:
        with env.begin(write=True) as txn:
            txn.put(APPLIED_KEY, str(sequence).encode())
    except lmdb.Error as problem:
        raise translated(problem, "rebuild") from problem
    finally:
        env.close()


def _install(cache: Path, work: Path, report: RebuildReport) -> RebuildReport:
    """Put the new environment in place of the old one. A crash in between: run it again."""
    old: Path | None = None
    if (cache / META).exists():
        number = 1
        while (cache / f"{META}.old-{number}").exists():
            number += 1
        old = cache / f"{META}.old-{number}"
        os.replace(cache / META, old)
    os.replace(work / META, cache / META)
    fsync_directory(cache)
    _set_aside_damaged(cache / JOURNAL)
    shutil.rmtree(work)
    return dataclasses.replace(report, old_environment=old)


def _set_aside_damaged(journal: Path) -> None:
    """Segments nobody can read would be refused at the next start; they stay, under another name, for whoever looks."""
    for path in segment_paths(journal):
        with path.open("rb") as file:
            header = file.read(frames.SEGMENT_HEADER_BYTES)
        if any(header) and frames.decode_header(header) is None:
            path.rename(path.with_suffix(".damaged"))
    fsync_directory(journal)
