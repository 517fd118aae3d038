"""A run: the model, the world, and what must be true of both after every step.

Steps (``steps.py``) are frozen values that name nodes by number, so that a shortened program still means something.
``Run`` resolves them, asks model and file system the same question, and compares:

* names, kinds, modes, owners, sizes, link counts, symlink targets, xattrs after every step, through readdir, lookup and
  getattr; times move when POSIX says so and stand still otherwise; what the kernel would still believe is true;
* after a crash: everything acknowledged is there;
* at the end: one object per file with exactly its bytes and metadata, and nothing else in the bucket; every record,
  counter and cache file agrees with its neighbours.
"""

import math
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import trio
from trio.testing import MockClock

from gatewayfs.errors import FsError
from gatewayfs.meta.check import check
from gatewayfs.meta.schema import Inode
from gatewayfs.s3.attributes import decode, encode, split_metadata
from gatewayfs.s3.dialects import PosixAttributes
from gatewayfs.s3.xattrs import xattrs_from_metadata
from gatewayfs.vfs.share import Caller
from tests.sim.posixmodel import DIRECTORY, FIFO, FILE, SYMLINK, Node, Refused, Tree
from tests.sim.world import DEFAULTS, ROOT_INO, World, seen
from tests.support.schedules import choose_schedule

TYPE_BITS = {FILE: stat.S_IFREG, DIRECTORY: stat.S_IFDIR, SYMLINK: stat.S_IFLNK, FIFO: stat.S_IFIFO}
CALLER = Caller(1000, 2000)

FAST = "/dev/shm" if os.path.isdir("/dev/shm") else None
"""Nothing here is about the disk."""


class Step(Protocol):
    """One thing that happens."""

    async def do(self, run: "Run") -> None: ...


@dataclass(eq=False)
class OpenHandle:
    number: int
    node: Node
    append: bool


@dataclass(eq=False)
class Run:
    """One program under way."""

    world: World
    nursery: trio.Nursery
    tree: Tree = field(default_factory=Tree)
    handles: dict[int, OpenHandle] = field(default_factory=dict)
    foreign: int = 0
    """Objects somebody else wrote so far."""
    crashed: bool = False
    """Something was cut off, so files nobody names may lie in the cache until the next sweep."""

    # ------------------------------------------------------------------ what steps use

    async def node(self, number: int, *kinds: str) -> tuple[Node, Node, bytes] | None:
        """The ``number``-th node (of these kinds) with its parent and name; None in an empty tree."""
        found = [(node, parent, path) for path, node, parent in self.tree.walk() if not kinds or node.kind in kinds]
        if not found:
            return None
        node, parent, path = found[number % len(found)]
        await self.look_up(path)
        return node, parent, path.rpartition(b"/")[2]

    async def directory(self, number: int) -> Node:
        directories = [(b"", self.tree.root)]
        directories += [(path, node) for path, node, _ in self.tree.walk() if node.kind == DIRECTORY]
        path, node = directories[number % len(directories)]
        await self.look_up(path)
        return node

    async def look_up(self, path: bytes) -> None:
        """As the kernel walks down a path: every inode on it is known afterwards, and who may do what in it."""
        at = self.tree.root
        for name in filter(None, path.split(b"/")):
            at, parent = at.children[name], at
            if not at.ino:
                self.world.reconnect()
                at.ino = (await self.world.fs.names.lookup(parent.ino, name)).ino
            elif not self.world.meta.require(at.ino).attributes_known:
                await self.world.fs.attributes.getattr(at.ino)

    @contextmanager
    def asking(self) -> Iterator["Question"]:
        """The model's answer and the world's must be the same, errors included."""
        question = Question()
        try:
            yield question
        except FsError as problem:
            question.failed = problem
        assert (type(question.failed) if question.failed else None) == question.refused, (
            f"model: {question.refused}, file system: {question.failed!r}"
        )

    def put_existing(self, key: str) -> None:
        """An object that was there before the share was mounted; a marker if its key ends with "/"."""
        at = self.tree.root
        *above, name = key.rstrip("/").encode().split(b"/")
        for part in above:
            at = at.children.setdefault(part, Node(DIRECTORY, 0o777, DEFAULTS.uid, DEFAULTS.gid, implicit=True))
            if at.kind != DIRECTORY:
                return  # a file hides what is below it
        metadata = {}
        if key.endswith("/"):
            node = at.children.setdefault(name, Node(DIRECTORY, 0o777, DEFAULTS.uid, DEFAULTS.gid))
            if node.kind != DIRECTORY:
                return
            node.implicit, node.mode, node.uid, node.gid = False, 0o711, 7, 8
            metadata = encode(PosixAttributes(mode=0o40711, uid=7, gid=8, mtime_ns=5 * 10**17))
        elif name in at.children:
            return
        else:
            node = at.children[name] = Node(FILE, 0o666, DEFAULTS.uid, DEFAULTS.gid, data=key.encode())
            node.settle()
        self.world.bucket.foreign_put(self.world.prefix + key, node.data, metadata)

    async def close(self, slot: int) -> None:
        """Close a handle slot if it is open: from here on the bytes survive a crash."""
        handle = self.handles.pop(slot, None)
        if handle is not None:
            await self.world.fs.files.flush(handle.number)
            await self.world.fs.files.release(handle.number)
            handle.node.settle()

    def is_open(self, node: Node) -> bool:
        return any(handle.node is node for handle in self.handles.values())

    def changed_by_others(self, directory: Node) -> None:
        """Somebody is about to change its entries in the bucket: whoever listed it before sees its times move."""
        inode = self.world.meta.require(directory.ino)
        assert inode.directory is not None
        if inode.directory.complete:
            directory.touch(modified=True)
        else:
            directory.vague = True

    def forget_in_kernel(self, *nodes: Node) -> None:
        """The kernel's own operation on these inodes: it asks anew."""
        for node in nodes:
            self.world.kernel.attributes.pop(node.ino, None)

    # ------------------------------------------------------------------ comparing

    async def compare(self) -> None:
        """Names and attributes, everywhere."""
        await self._compare_directory(self.tree.root, b"")
        for handle in self.handles.values():
            await self._compare_node(handle.node, await self.world.fs.attributes.getattr(handle.node.ino), b"(open)")

    async def _compare_directory(self, node: Node, path: bytes) -> None:
        found = await self.world.entries(node.ino)
        assert sorted(found) == sorted(node.children), f"entries of /{path.decode()}"
        own = await self.world.fs.attributes.getattr(node.ino)
        if node is not self.tree.root:
            await self._compare_node(node, own, path)
        for name, child in sorted(node.children.items()):
            below = path + b"/" + name
            inode = await self.world.fs.names.lookup(node.ino, name)
            child.ino = child.ino or inode.ino
            assert inode.ino == child.ino == found[name].ino, below
            await self._compare_node(child, await self.world.fs.attributes.getattr(child.ino), below)
            if child.kind == DIRECTORY:
                await self._compare_directory(child, below)

    async def _compare_node(self, node: Node, inode: Inode, path: bytes) -> None:
        where = f"{path.decode()} (inode {node.ino})"
        assert inode.mode == TYPE_BITS[node.kind] | node.mode, f"{where}: mode {inode.mode:o}, model {node.mode:o}"
        assert (inode.uid, inode.gid) == (node.uid, node.gid), where
        if node.kind != DIRECTORY:
            assert inode.size == len(node.data), f"{where}: size {inode.size}, model {len(node.data)}"
        else:
            subdirectories = sum(child.kind == DIRECTORY for child in node.children.values())
            assert inode.directory is not None
            assert inode.directory.subdirectories == subdirectories or not inode.directory.complete, where
        self._compare_times(node, inode, where)
        names = await self.world.fs.attributes.listxattr(node.ino)
        assert {name: await self.world.fs.attributes.getxattr(node.ino, name) for name in names} == node.xattrs, where
        if node.kind == SYMLINK:
            assert await self.world.fs.names.readlink(node.ino) == node.data, where
        believed = self.world.kernel.attributes.setdefault(node.ino, seen(inode))
        assert believed == seen(inode), f"{where}: the kernel still believes {believed}, it is {seen(inode)}"

    def _compare_times(self, node: Node, inode: Inode, where: str) -> None:
        for name, expected, known, now in (
            ("mtime", node.modified, node.mtime_ns, inode.mtime_ns),
            ("ctime", node.changed, node.ctime_ns, inode.ctime_ns),
        ):
            if node.vague:
                continue
            if expected:
                assert now != known, f"{where}: {name} must move, and stayed {now}"
            else:
                assert now == known, f"{where}: {name} must stay {known}, and is {now}"
        node.mtime_ns, node.ctime_ns = inode.mtime_ns, inode.ctime_ns
        node.modified = node.changed = node.vague = False

    async def contents(self) -> None:
        """Every byte of every file, read through a handle of its own."""
        for path, node, _ in self.tree.walk():
            if node.kind == FILE:
                assert await self.read(node) == node.data, path

    async def read(self, node: Node) -> bytes:
        number = await self.world.fs.files.open(node.ino, 0, CALLER)
        try:
            return await self.world.fs.files.read(number, 0, len(node.data) + 100)
        finally:
            await self.world.fs.files.release(number)

    async def after_crash(self) -> None:
        """What was closed is whole; what was still being written is made of bytes that were written."""
        for handle in self.handles.values():
            node = handle.node
            if not any(node is named for _, node_, _ in self.tree.walk() for named in [node_]):
                continue
            inode = await self.world.fs.attributes.getattr(node.ino)
            sizes = {len(version) for version in node.unsettled}
            assert inode.size in sizes, f"inode {node.ino}: size {inode.size} after a crash, not one of {sizes}"
            number = await self.world.fs.files.open(node.ino, 0, CALLER)
            found = await self.world.fs.files.read(number, 0, inode.size)
            await self.world.fs.files.release(number)
            assert len(found) == inode.size
            for at, byte in enumerate(found):
                allowed = {version[at] for version in node.unsettled if at < len(version)} | {0}
                assert byte in allowed, f"inode {node.ino}: byte {at} is {byte}, never written there"
            node.data, node.mtime_ns, node.ctime_ns = found, inode.mtime_ns, inode.ctime_ns
            node.modified = node.changed = False
            node.settle()
        self.handles.clear()

    # ------------------------------------------------------------------ the end

    async def finish(self) -> None:
        """Close everything, drain, and look into the bucket and into the records."""
        for slot in list(self.handles):
            await self.close(slot)
        await self.world.drain()
        await self.compare()
        await self.contents()
        self._compare_bucket()
        meta = self.world.meta
        # What was read for the comparison leaves again.
        await trio.sleep(5)
        await meta.checkpoint()
        self.world.background.flush()
        assert check(meta) == []
        self.world.check_books()
        assert (meta.dirty_count, meta.doomed_count, meta.orphan_count) == (0, 0, 0)
        assert self.world.bucket.upload_ids == []
        if not self.crashed:
            assert self.world.stray_cache_files() == []

    def _compare_bucket(self) -> None:
        prefix = self.world.prefix
        expected = {
            prefix + (path + b"/" * (node.kind == DIRECTORY)).decode(): node for path, node, _ in self.tree.walk()
        }
        stored = self.world.bucket.raw
        # The share's own directory may have a marker, as every directory.
        stored.pop(prefix, None)
        expected = {key: node for key, node in expected.items() if not node.implicit or key in stored}
        assert sorted(stored) == sorted(expected)
        for key, node in expected.items():
            found = stored[key]
            assert found.data == node.data, key
            own, foreign = split_metadata(found.metadata)
            size = len(found.data)
            decoded = decode(own, key=key, size=size, defaults=DEFAULTS, last_modified_ns=found.last_modified_ns)
            assert (decoded.mode, decoded.uid, decoded.gid) == (TYPE_BITS[node.kind] | node.mode, node.uid, node.gid), (
                key
            )
            if node.kind != DIRECTORY:
                assert decoded.mtime_ns == node.mtime_ns, key
            assert xattrs_from_metadata(foreign) == node.xattrs, key


@dataclass
class Question:
    """What the model and the file system answered."""

    refused: type[FsError] | None = None
    failed: FsError | None = None

    @contextmanager
    def expected(self) -> Iterator[None]:
        """The model's turn."""
        try:
            yield
        except Refused as refused:
            self.refused = refused.kind


def perform(
    steps: Sequence[Step],
    prefix: str = "",
    existing: Sequence[str] = (),
    cache_bytes: float = math.inf,
    schedule: int = 0,
) -> None:
    """Run a program in a world of its own; an AssertionError says what was wrong after which step.

    Args:
        existing: keys in the bucket before anything else. Then nothing is looked at but what the steps need, so that
            directories are changed, renamed and removed before and while they are being listed; all is compared at
            the end.
        cache_bytes: what the cache may hold.
        schedule: in which order tasks take turns.
    """
    choose_schedule(schedule)
    with tempfile.TemporaryDirectory(prefix="gwfs-sim-", dir=FAST) as directory:
        world = World(Path(directory), prefix=prefix, cache_bytes=cache_bytes)
        trio.run(_perform, world, steps, existing, clock=MockClock(autojump_threshold=0))


async def _perform(world: World, steps: Sequence[Step], existing: Sequence[str]) -> None:
    try:
        async with trio.open_nursery() as nursery:
            await world.start(nursery)
            run = Run(world, nursery)
            for key in existing:
                run.put_existing(key)
            if not existing:
                # From here on every directory is known: nothing needs the store but bytes that are only there.
                await run.compare()
            for number, step in enumerate([*steps, None]):
                try:
                    if step is None:
                        await run.finish()
                    else:
                        await step.do(run)
                        if not existing:
                            await run.compare()
                except Exception as problem:
                    problem.add_note(f"at step {number}: {step}")
                    raise
            await world.stop()
            nursery.cancel_scope.cancel()
    except ExceptionGroup as group:
        while isinstance(group, ExceptionGroup) and len(group.exceptions) == 1:
            group = group.exceptions[0]
        raise group


__all__ = ["CALLER", "ROOT_INO", "Run", "Step", "perform"]
