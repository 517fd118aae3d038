"""Carry steps out: through the kernel on a mounted share, or through ``gatewayfs.vfs`` in this process.

Both log a step before it begins and after it was answered, and read the whole tree before the first step. The judge is
``ledger``; nothing is decided here.
"""

import ctypes
import os
import random
import stat
from collections.abc import Callable
from typing import Protocol

import trio

from gatewayfs.meta.schema import Inode
from gatewayfs.types import ROOT_INO
from gatewayfs.vfs.attributes import Changes
from gatewayfs.vfs.filesystem import Filesystem
from gatewayfs.vfs.share import Caller
from tests.crash.ledger import Answered, Began, Blobs, Found, Log, Refused, Seen
from tests.crash.steps import (
    DIRECTORY,
    FILE,
    LINK,
    AnyStep,
    Chmod,
    Chown,
    Mkdir,
    Orphan,
    Patch,
    Put,
    RemoveXattr,
    Rename,
    Rmdir,
    SetXattr,
    Step,
    Symlink,
    Sync,
    Tree,
    Truncate,
    Unlink,
    Utimes,
    after,
    choose,
    parent,
    payload,
)

EXCHANGE = 2
XATTR = b"user."
ROOT = Caller(0, 0)


def touched(step: Step) -> list[str]:
    """Paths to stat after the step."""
    if isinstance(step, Rename):
        return [step.new, step.path] if step.exchange else [step.new]
    return [] if isinstance(step, Unlink | Rmdir | Orphan) else [step.path]


def kind_of(mode: int) -> str:
    return DIRECTORY if stat.S_ISDIR(mode) else LINK if stat.S_ISLNK(mode) else FILE


class Model:
    """The writer's own view, needed only to choose steps that can succeed."""

    def __init__(self, rng: random.Random, tree: Tree) -> None:
        self.rng = rng
        self.tree = tree

    def next(self) -> AnyStep:
        step = choose(self.rng, self.tree)
        self.tree = after(self.tree, step)
        return step


class Marker(Protocol):
    """Told where in the stream of disk operations each record belongs (``disklog``)."""

    def __call__(self, text: str) -> None: ...


# --------------------------------------------------------------------------- through the kernel


class MountDriver:
    """Steps through system calls below ``root``."""

    def __init__(self, root: str, log: Log, blobs: Blobs) -> None:
        self._root = os.fsencode(root)
        self._log = log
        self._blobs = blobs
        os.umask(0)

    def write_steps(self, rng: random.Random, tree: Tree, count: int) -> None:
        """Carry out up to ``count`` steps; ends early when the daemon is gone."""
        model = Model(rng, tree)
        for _ in range(count):
            step = model.next()
            self._log.write(Began(step))
            try:
                self.perform(step)
                entries = [self.look(path) for path in touched(step)]
            except OSError as problem:
                self._log.write(Refused(str(problem)))
                return
            self._log.write(Answered(entries))

    def find(self) -> list[Seen]:
        """The whole tree, bytes included; logged. Raises OSError when the daemon is gone."""
        entries = []
        for directory, directories, names in os.walk(self._root, onerror=_raise):
            for name in sorted([*directories, *names]):
                path = os.path.relpath(os.path.join(directory, name), self._root).decode()
                entries.append(self.look(path, content=True))
        self._log.write(Found(entries))
        return entries

    def look(self, path: str, *, content: bool = False) -> Seen:
        where = self._at(path)
        status = os.lstat(where)
        kind = kind_of(status.st_mode)
        digest, xattrs = "", {}
        if content and kind == LINK:
            digest = self._blobs.put(os.readlink(where))
        elif content and kind == FILE:
            with open(where, "rb") as file:
                digest = self._blobs.put(file.read())
            xattrs = {n.removeprefix("user."): os.getxattr(where, n) for n in os.listxattr(where)}
        return Seen(
            path,
            kind,
            stat.S_IMODE(status.st_mode),
            status.st_uid,
            status.st_gid,
            status.st_size,
            status.st_mtime_ns,
            digest,
            xattrs,
        )

    def perform(self, step: Step) -> None:
        where = self._at(step.path)
        match step:
            case Put():
                fd = os.open(where, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
                data = payload(step.seed, step.length)
                self._write_and_close(
                    fd, [(at, data[at : at + step.chunk]) for at in range(0, len(data), step.chunk)], step.sync
                )
            case Patch():
                fd = os.open(where, os.O_RDWR)
                self._write_and_close(fd, [(p.offset, payload(p.seed, p.length)) for p in step.pieces], step.sync)
            case Truncate():
                os.truncate(where, step.size)
            case Rename():
                rename(where, self._at(step.new), EXCHANGE if step.exchange else 0)
            case Mkdir():
                os.mkdir(where, step.mode)
            case Rmdir():
                os.rmdir(where)
            case Unlink():
                os.unlink(where)
            case Symlink():
                os.symlink(step.target.encode(), where)
            case Chmod():
                os.chmod(where, step.mode)
            case Chown():
                os.chown(where, step.uid, step.gid)
            case Utimes():
                os.utime(where, ns=(step.atime_ns, step.mtime_ns))
            case SetXattr():
                os.setxattr(where, f"user.{step.name}", step.value)
            case RemoveXattr():
                os.removexattr(where, f"user.{step.name}")
            case Sync():
                self._write_and_close(os.open(where, os.O_RDWR), [], True)
            case Orphan():
                fd = os.open(where, os.O_RDWR)
                os.unlink(where)
                self._write_and_close(fd, [(0, payload(step.seed, step.length))], False)
            case _:
                raise TypeError(f"cannot do {step}")

    def _at(self, path: str) -> bytes:
        return self._root + b"/" + path.encode()

    def _write_and_close(self, fd: int, pieces: list[tuple[int, bytes]], sync: bool) -> None:
        try:
            for offset, data in pieces:
                assert os.pwrite(fd, data, offset) == len(data)
            if sync:
                os.fsync(fd)
        except OSError:
            try:
                os.close(fd)
            except OSError:
                pass  # the daemon is gone; the first error says it
            raise
        os.close(fd)


def _raise(problem: OSError) -> None:
    raise problem


def rename(old: bytes, new: bytes, flags: int) -> None:
    """renameat2(2). Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(-100, old, -100, new, flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fsdecode(old))


# --------------------------------------------------------------------------- without a kernel


class VfsDriver:
    """Steps through ``gatewayfs.vfs``, in the process that owns the share."""

    def __init__(self, filesystem: Filesystem, log: Log, blobs: Blobs, mark: Marker | None = None) -> None:
        self._fs = filesystem
        self._log = log
        self._blobs = blobs
        self._mark: Callable[[str], None] = mark or (lambda text: None)

    async def write_steps(self, rng: random.Random, tree: Tree, count: int, pause_s_max: float = 0.0) -> None:
        """Carry out ``count`` steps, perhaps with pauses for what goes on behind."""
        model = Model(rng, tree)
        for _ in range(count):
            step = model.next()
            self._mark("began")
            self._log.write(Began(step))
            await self.perform(step)
            entries = [await self.look(path) for path in touched(step)]
            self._log.write(Answered(entries))
            self._mark("answered")
            if pause_s_max:
                await trio.sleep(rng.uniform(0, pause_s_max))

    async def write_script(self, steps: list[AnyStep], before_last: Callable[[], None]) -> None:
        """Carry out just these steps; ``before_last`` is called before the last of them."""
        for at, step in enumerate(steps):
            if at == len(steps) - 1:
                before_last()
            self._log.write(Began(step))
            await self.perform(step)
            self._log.write(Answered([await self.look(path) for path in touched(step)]))

    async def find(self) -> list[Seen]:
        """The whole tree, bytes included; logged."""
        entries: list[Seen] = []
        waiting = [("", int(ROOT_INO))]
        while waiting:
            above, ino = waiting.pop()
            handle = await self._fs.directories.open(ino)
            children = await self._children(handle)
            await self._fs.directories.release(handle)
            for inode in children:
                path = f"{above}/{inode.name.decode()}" if above else inode.name.decode()
                entries.append(await self.look(path, content=True))
                if inode.is_directory:
                    waiting.append((path, inode.ino))
        self._log.write(Found(entries))
        return entries

    async def _children(self, handle: int) -> list[Inode]:
        children: list[Inode] = []
        offset = 0
        while batch := await self._fs.directories.read(handle, offset):
            children += [inode for name, inode, _ in batch if name not in (b".", b"..")]
            offset = batch[-1][2]
        return children

    async def look(self, path: str, *, content: bool = False) -> Seen:
        inode = await self._fs.attributes.getattr(await self._ino(path))
        digest, xattrs = "", {}
        if content and inode.is_symlink:
            digest = self._blobs.put(await self._fs.names.readlink(inode.ino))
        elif content and inode.is_regular:
            digest = self._blobs.put(await self._read(inode))
            names = await self._fs.attributes.listxattr(inode.ino)
            xattrs = {
                name.removeprefix(XATTR).decode(): await self._fs.attributes.getxattr(inode.ino, name) for name in names
            }
        return Seen(
            path,
            kind_of(inode.mode),
            stat.S_IMODE(inode.mode),
            inode.uid,
            inode.gid,
            inode.size,
            inode.mtime_ns,
            digest,
            xattrs,
            not inode.dirty_since_ns,
        )

    async def perform(self, step: Step) -> None:
        fs = self._fs
        above, name = await self._ino(parent(step.path)), step.path.rpartition("/")[2].encode()
        match step:
            case Put():
                data = payload(step.seed, step.length)
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
                _, handle = await fs.files.create(above, name, 0o644, flags, ROOT)
                pieces = [(at, data[at : at + step.chunk]) for at in range(0, len(data), step.chunk)]
                await self._write_and_close(handle, pieces, step.sync)
            case Patch():
                handle = await fs.files.open(await self._ino(step.path), os.O_RDWR, ROOT)
                pieces = [(piece.offset, payload(piece.seed, piece.length)) for piece in step.pieces]
                await self._write_and_close(handle, pieces, step.sync)
            case Rename():
                new_above, new_name = await self._ino(parent(step.new)), step.new.rpartition("/")[2].encode()
                await fs.renaming.rename(above, name, new_above, new_name, no_replace=False, exchange=step.exchange)
            case Mkdir():
                await fs.names.mkdir(above, name, step.mode, ROOT)
            case Rmdir():
                await fs.names.rmdir(above, name)
            case Unlink():
                await fs.names.unlink(above, name)
            case Symlink():
                await fs.names.symlink(above, name, step.target.encode(), ROOT)
            case Sync():
                await self._write_and_close(await fs.files.open(await self._ino(step.path), os.O_RDWR, ROOT), [], True)
            case Orphan():
                handle = await fs.files.open(await self._ino(step.path), os.O_RDWR, ROOT)
                await fs.names.unlink(above, name)
                await self._write_and_close(handle, [(0, payload(step.seed, step.length))], False)
            case _:
                await self._change(step)

    async def _change(self, step: Step) -> None:
        ino, attributes = await self._ino(step.path), self._fs.attributes
        match step:
            case Truncate():
                await attributes.setattr(ino, Changes(size=step.size))
            case Chmod():
                await attributes.setattr(ino, Changes(mode=step.mode))
            case Chown():
                await attributes.setattr(ino, Changes(uid=step.uid, gid=step.gid))
            case Utimes():
                await attributes.setattr(ino, Changes(atime_ns=step.atime_ns, mtime_ns=step.mtime_ns))
            case SetXattr():
                await attributes.setxattr(ino, XATTR + step.name.encode(), step.value)
            case RemoveXattr():
                await attributes.removexattr(ino, XATTR + step.name.encode())
            case _:
                raise TypeError(f"cannot do {step}")

    async def _ino(self, path: str) -> int:
        ino: int = ROOT_INO
        for name in filter(None, path.split("/")):
            ino = (await self._fs.names.lookup(ino, name.encode())).ino
        return ino

    async def _read(self, inode: Inode) -> bytes:
        handle = await self._fs.files.open(inode.ino, os.O_RDONLY, ROOT)
        pieces = []
        while piece := await self._fs.files.read(handle, sum(map(len, pieces)), 1 << 20):
            pieces.append(piece)
        await self._fs.files.release(handle)
        return b"".join(pieces)

    async def _write_and_close(self, handle: int, pieces: list[tuple[int, bytes]], sync: bool) -> None:
        for offset, data in pieces:
            await self._fs.files.write(handle, offset, data)
        if sync:
            await self._fs.files.fsync(handle)
            self._mark("synced")
        await self._fs.files.flush(handle)
        await self._fs.files.release(handle)
