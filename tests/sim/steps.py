"""Everything that can happen to a share, as frozen values with small numbers in them."""

import os
from dataclasses import dataclass

import trio

from gatewayfs.errors import EntryExists, IsADirectory, StoreBusy, StoreUnreachable
from gatewayfs.refresh.looking import Outcome
from gatewayfs.refresh.notices import Notice
from gatewayfs.s3.attributes import encode
from gatewayfs.s3.dialects import PosixAttributes
from gatewayfs.s3.xattrs import xattrs_from_metadata
from gatewayfs.types import ROOT_INO
from gatewayfs.vfs.attributes import Changes
from tests.sim.posixmodel import DIRECTORY, FIFO, FILE, SYMLINK, Node
from tests.sim.program import CALLER, OpenHandle, Run
from tests.sim.world import DEFAULTS


@dataclass(frozen=True)
class Create:
    """open(2) with O_CREAT and perhaps O_EXCL; the handle goes into a slot."""

    directory: int
    name: bytes
    slot: int = 0
    exclusive: bool = False
    append: bool = False

    async def do(self, run: Run) -> None:
        await run.close(self.slot)
        parent = await run.directory(self.directory)
        there = parent.children.get(self.name)
        if there is not None and there.kind in (FIFO, SYMLINK):
            return  # the kernel opens these itself, or follows them
        flags = os.O_RDWR | os.O_CREAT | (os.O_EXCL if self.exclusive else 0) | (os.O_APPEND if self.append else 0)
        with run.asking() as asked:
            if there is not None and (self.exclusive or there.kind == DIRECTORY):
                asked.refused = EntryExists if self.exclusive else IsADirectory
            inode, number = await run.world.fs.files.create(parent.ino, self.name, 0o640, flags, CALLER)
            if there is None:
                there = Node(FILE, 0o640, CALLER.uid, CALLER.gid, ino=inode.ino)
                run.tree.make(parent, self.name, there)
                there.settle()
            there.ino = inode.ino
            run.handles[self.slot] = OpenHandle(number, there, self.append)
        run.forget_in_kernel(parent)


@dataclass(frozen=True)
class Open:
    """open(2) of an existing file, perhaps with O_TRUNC."""

    file: int
    slot: int = 0
    truncate: bool = False
    append: bool = False

    async def do(self, run: Run) -> None:
        await run.close(self.slot)
        chosen = await run.node(self.file, FILE)
        if chosen is None:
            return
        node = chosen[0]
        flags = os.O_RDWR | (os.O_TRUNC if self.truncate else 0) | (os.O_APPEND if self.append else 0)
        number = await run.world.fs.files.open(node.ino, flags, CALLER)
        run.handles[self.slot] = OpenHandle(number, node, self.append)
        if self.truncate:
            node.put(b"")
            node.settle()
            run.forget_in_kernel(node)


@dataclass(frozen=True)
class Write:
    """pwrite(2) through a handle, or write(2) where it appends."""

    slot: int
    offset: int
    length: int
    letter: int = 65

    async def do(self, run: Run) -> None:
        handle = run.handles.get(self.slot)
        if handle is None:
            return
        node = handle.node
        offset = len(node.data) if handle.append else self.offset
        data = bytes([self.letter]) * self.length
        assert await run.world.fs.files.write(handle.number, offset, data) == self.length
        node.put(node.data[:offset].ljust(offset, b"\0") + data + node.data[offset + self.length :])
        run.forget_in_kernel(node)


@dataclass(frozen=True)
class Read:
    """pread(2)."""

    slot: int
    offset: int
    length: int

    async def do(self, run: Run) -> None:
        handle = run.handles.get(self.slot)
        if handle is not None:
            run.world.reconnect()
            found = await run.world.fs.files.read(handle.number, self.offset, self.length)
            assert found == handle.node.data[self.offset : self.offset + self.length]


@dataclass(frozen=True)
class WriteWhileRead:
    """One process reads a whole file while another writes to it; reading begins ``turns`` earlier."""

    file: int
    turns: int
    offset: int
    length: int

    async def do(self, run: Run) -> None:
        chosen = await run.node(self.file, FILE)
        if chosen is None:
            return
        run.world.reconnect()
        node, files = chosen[0], run.world.fs.files
        before = node.data
        reader, writer = [await files.open(node.ino, os.O_RDWR, CALLER) for _ in range(2)]
        found: list[bytes] = []
        data = b"w" * self.length

        async def read() -> None:
            found.append(await files.read(reader, 0, len(before)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await Breathe(self.turns).do(run)
            await files.write(writer, self.offset, data)
        node.put(before[: self.offset].ljust(self.offset, b"\0") + data + before[self.offset + self.length :])
        assert len(found[0]) == len(before)
        assert all(byte in (before[at], node.data[at]) for at, byte in enumerate(found[0]))
        for number in (reader, writer):
            await files.flush(number)
            await files.release(number)
        node.settle()
        run.forget_in_kernel(node)


@dataclass(frozen=True)
class Sync:
    """close(2) of a duplicate, or fsync(2)."""

    slot: int
    durable: bool = False

    async def do(self, run: Run) -> None:
        handle = run.handles.get(self.slot)
        if handle is None:
            return
        await (run.world.fs.files.fsync if self.durable else run.world.fs.files.flush)(handle.number)
        handle.node.settle()


@dataclass(frozen=True)
class Close:
    """The last close(2)."""

    slot: int

    async def do(self, run: Run) -> None:
        await run.close(self.slot)


@dataclass(frozen=True)
class Truncate:
    """truncate(2) of a file that may be open."""

    file: int
    size: int

    async def do(self, run: Run) -> None:
        chosen = await run.node(self.file, FILE)
        if chosen is None:
            return
        node = chosen[0]
        await run.world.fs.attributes.setattr(node.ino, Changes(size=self.size))
        node.put(node.data[: self.size].ljust(self.size, b"\0"))
        if not run.is_open(node):
            node.settle()
        run.forget_in_kernel(node)


@dataclass(frozen=True)
class Make:
    """mkdir(2), symlink(2) or mkfifo(3)."""

    kind: str
    directory: int
    name: bytes

    async def do(self, run: Run) -> None:
        parent = await run.directory(self.directory)
        names = run.world.fs.names
        node = Node(self.kind, 0o777 if self.kind == SYMLINK else 0o750, CALLER.uid, CALLER.gid)
        if self.kind == SYMLINK:
            node.data = b"to/" + self.name
        with run.asking() as asked:
            with asked.expected():
                run.tree.make(parent, self.name, node)
            if self.kind == DIRECTORY:
                inode = await names.mkdir(parent.ino, self.name, node.mode, CALLER)
            elif self.kind == SYMLINK:
                inode = await names.symlink(parent.ino, self.name, node.data, CALLER)
            else:
                inode = await names.mknod(parent.ino, self.name, 0o010000 | node.mode, CALLER)
            node.ino = inode.ino
        run.forget_in_kernel(parent)


@dataclass(frozen=True)
class Remove:
    """unlink(2) or rmdir(2), right or wrong for what is there."""

    node: int
    as_directory: bool = False

    async def do(self, run: Run) -> None:
        chosen = await run.node(self.node)
        if chosen is None:
            return
        node, parent, name = chosen
        with run.asking() as asked:
            with asked.expected():
                (run.tree.rmdir if self.as_directory else run.tree.unlink)(parent, name)
            await (run.world.fs.names.rmdir if self.as_directory else run.world.fs.names.unlink)(parent.ino, name)
        run.forget_in_kernel(parent, node)


@dataclass(frozen=True)
class Rename:
    """renameat2(2)."""

    node: int
    directory: int
    name: bytes
    exchange: bool = False
    no_replace: bool = False

    async def do(self, run: Run) -> None:
        chosen = await run.node(self.node)
        if chosen is None:
            return
        node, parent, name = chosen
        to = await run.directory(self.directory)
        target = to.children.get(self.name)
        if target is not None and ((target is node and self.exchange) or run.tree.inside(to, node)):
            return  # the kernel answers these
        with run.asking() as asked:
            with asked.expected():
                run.tree.rename(
                    parent,
                    name,
                    to,
                    self.name,
                    exchange=self.exchange,
                    no_replace=self.no_replace and not self.exchange,
                )
            await run.world.fs.renaming.rename(
                parent.ino,
                name,
                to.ino,
                self.name,
                no_replace=self.no_replace and not self.exchange,
                exchange=self.exchange,
            )
        run.forget_in_kernel(parent, to, node, *([target] if target else []))


@dataclass(frozen=True)
class SetAttributes:
    """chmod(2), chown(2) and utimensat(2), together or apart."""

    node: int
    mode: int | None = None
    uid: int | None = None
    mtime_ns: int | None = None

    async def do(self, run: Run) -> None:
        chosen = await run.node(self.node)
        if chosen is None or (self.mode, self.uid, self.mtime_ns) == (None, None, None):
            return
        node = chosen[0]
        await run.world.fs.attributes.setattr(
            node.ino, Changes(mode=self.mode, uid=self.uid, gid=self.uid, mtime_ns=self.mtime_ns)
        )
        node.mode = node.mode if self.mode is None else self.mode
        node.uid = node.uid if self.uid is None else self.uid
        node.gid = node.gid if self.uid is None else self.uid
        node.touch()
        if self.mtime_ns is not None:
            node.mtime_ns, node.modified = self.mtime_ns, False
        node.settle()
        run.forget_in_kernel(node)


@dataclass(frozen=True)
class Xattr:
    """setxattr(2), or removexattr(2) where the value is None."""

    node: int
    name: bytes
    value: bytes | None

    async def do(self, run: Run) -> None:
        chosen = await run.node(self.node)
        if chosen is None or (self.value is None and self.name not in chosen[0].xattrs):
            return
        node = chosen[0]
        if self.value is None:
            await run.world.fs.attributes.removexattr(node.ino, self.name)
            del node.xattrs[self.name]
        else:
            await run.world.fs.attributes.setxattr(node.ino, self.name, self.value)
            node.xattrs[self.name] = self.value
        node.touch()
        run.forget_in_kernel(node)


# --------------------------------------------------------------------------- the world around


@dataclass(frozen=True)
class Breathe:
    """Others get a few turns: an upload gets some way, but does not finish."""

    turns: int

    async def do(self, run: Run) -> None:
        for _ in range(self.turns):
            await trio.lowlevel.checkpoint()


@dataclass(frozen=True)
class Wait:
    """Time passes."""

    seconds: float

    async def do(self, run: Run) -> None:
        await trio.sleep(self.seconds)


@dataclass(frozen=True)
class Drain:
    """Everything goes to the bucket."""

    async def do(self, run: Run) -> None:
        await run.world.drain()
        for handle in run.handles.values():
            handle.node.settle()


@dataclass(frozen=True)
class StartDrain:
    """Everything starts to go to the bucket, and what comes next comes in between."""

    turns: int

    async def do(self, run: Run) -> None:
        await run.world.uploader.operator.hurry()
        await Breathe(self.turns).do(run)


@dataclass(frozen=True)
class Hold:
    """Somebody holds a name in the root back, or (0) lets everything go. Every drain lets go, too."""

    number: int

    async def do(self, run: Run) -> None:
        meta, operator = run.world.meta, run.world.uploader.operator
        children = meta.children(ROOT_INO)
        if self.number and children:
            child = meta.require(children[self.number % len(children)])
            await operator.hold(child.name.decode(), child.ino)
        else:
            await operator.release("")


@dataclass(frozen=True)
class Restart:
    """The daemon stops and starts again, or dies and starts again."""

    crash: bool

    async def do(self, run: Run) -> None:
        world = run.world
        if self.crash:
            await world.crash()
            run.crashed = True
        else:
            await world.stop()
            for handle in run.handles.values():
                handle.node.settle()
        await world.start(run.nursery)
        world.reconnect()
        await run.after_crash()


@dataclass(frozen=True)
class Evict:
    """The clean bytes of a file are forgotten: they are only in the bucket from here on."""

    file: int
    drained: bool = True

    async def do(self, run: Run) -> None:
        chosen = await run.node(self.file, FILE)
        if chosen is None:
            return
        if self.drained:
            await Drain().do(run)
        run.world.cache.drop(chosen[0].ino)


@dataclass(frozen=True)
class Disconnect:
    """The store cannot be reached until the next step that needs it."""

    async def do(self, run: Run) -> None:
        run.world.disconnect()


@dataclass(frozen=True)
class Trouble:
    """One request fails: refused before it had an effect, or its answer is lost after it had."""

    operation: str
    after: bool
    skip: int = 0

    async def do(self, run: Run) -> None:
        error = StoreUnreachable("connection reset") if self.after else StoreBusy("slow down")
        run.world.link.fail(self.operation, error, after=self.after, skip=self.skip)


@dataclass(frozen=True)
class ForeignPut:
    """Somebody else writes an object, with or without our metadata, and the cache is refreshed, or told of it."""

    directory: int
    name: bytes
    length: int
    mode: int | None = None
    told: bool = False

    async def do(self, run: Run) -> None:
        parent = await run.directory(self.directory)
        there = parent.children.get(self.name)
        if (there is not None and there.kind != FILE) or (there is not None and run.is_open(there)):
            return
        path = next((path for path, node, _ in run.tree.walk() if node is parent), b"")
        if there is not None:
            await run.look_up(path + b"/" + self.name)
        await run.world.drain()
        key = run.world.prefix + ((path + b"/" if path else b"") + self.name).decode()
        # Never the same bytes twice: with an equal etag, whether the object was replaced is a matter of seconds.
        run.foreign += 1
        data = (b"%d foreign " % run.foreign * self.length)[: self.length]
        metadata = {"colour": "blue"}
        mode = DEFAULTS.file_mode
        if self.mode is not None:
            mode = self.mode
            metadata |= encode(PosixAttributes(mode=0o100000 | mode, uid=7, gid=8, mtime_ns=5 * 10**17))
        if there is None:
            run.changed_by_others(parent)
        run.world.bucket.foreign_put(key, data, metadata)
        await notice(run, key, told=self.told)
        if there is None:
            there = Node(FILE, 0, 0, 0, ino=(await run.world.entries(parent.ino))[self.name].ino)
            parent.children[self.name] = there
            there.mtime_ns = there.ctime_ns = -1
        inode = await run.world.fs.attributes.getattr(there.ino)
        there.data, there.mode = data, mode
        there.uid, there.gid = (7, 8) if self.mode is not None else (DEFAULTS.uid, DEFAULTS.gid)
        there.xattrs = xattrs_from_metadata({"colour": "blue"})
        there.settle()
        there.changed, there.modified = True, False
        there.mtime_ns = 5 * 10**17 if self.mode is not None else inode.mtime_ns


@dataclass(frozen=True)
class ForeignDelete:
    """Somebody else deletes a file's object, and the cache is refreshed, or told of it."""

    file: int
    told: bool = False

    async def do(self, run: Run) -> None:
        chosen = await run.node(self.file, FILE)
        if chosen is None or run.is_open(chosen[0]) or chosen[1].implicit:
            return  # (a directory of keys alone vanishes with its last one)
        node, parent, name = chosen
        await run.world.drain()
        path = next(path for path, found, _ in run.tree.walk() if found is node)
        run.changed_by_others(parent)
        key = run.world.prefix + path.decode()
        run.world.bucket.foreign_delete(key)
        await notice(run, key, told=self.told)
        del parent.children[name]


async def notice(run: Run, key: str, *, told: bool) -> None:
    """What others did at ``key`` is found out, by one look there or by looking everywhere."""
    if told:
        assert await run.world.refresh.look_again(Notice(key)) in (Outcome.LOOKED, Outcome.NOTHING)
    else:
        await run.world.refresh.refresh(["/"], recursive=True)


@dataclass(frozen=True)
class Refresh:
    """A folder is compared with the bucket, in which nothing changed: nothing changes here either."""

    directory: int
    recursive: bool

    async def do(self, run: Run) -> None:
        chosen = await run.directory(self.directory)
        path = next((path for path, node, _ in run.tree.walk() if node is chosen), b"")
        run.world.reconnect()
        await run.world.refresh.refresh(["/" + path.decode()], recursive=self.recursive)


Step = (
    Create
    | Open
    | Write
    | Read
    | WriteWhileRead
    | Sync
    | Close
    | Truncate
    | Make
    | Remove
    | Rename
    | SetAttributes
    | Xattr
    | Breathe
    | Wait
    | Drain
    | StartDrain
    | Hold
    | Restart
    | Evict
    | Disconnect
    | Trouble
    | ForeignPut
    | ForeignDelete
    | Refresh
)

__all__ = [name for name, value in list(globals().items()) if isinstance(value, type) and value.__module__ == __name__]
