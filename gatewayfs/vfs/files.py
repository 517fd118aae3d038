"""Open files: open, create, read, write, flush, fsync, release.

Every open has its own handle number, never reused in the life of the process. Writes are acknowledged when they are in
the page cache of the cache disk (or, for small files, in memory); ``flush``, which is close(2), makes them survive
kill -9; ``fsync`` makes them survive power loss.
"""

import itertools
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass

import trio

from gatewayfs.cache.live import Content, Superseded
from gatewayfs.cache.wholefiles import BucketMovedOn
from gatewayfs.errors import Archived, BadHandle, EntryExists, FsError, IsADirectory, NoEntry, Unavailable
from gatewayfs.meta.schema import Inode
from gatewayfs.vfs.attributes import without_privileges
from gatewayfs.vfs.namespace import Namespace
from gatewayfs.vfs.share import ROOT, Caller, Share

READ_AGAIN_S = (0.0, 0.05, 0.1, 0.2, 0.4)
"""Pauses before each look at an object that is not the one the record names: an upload of ours is recorded by then."""


@dataclass(slots=True)
class Handle:
    """One open file."""

    number: int
    content: Content
    writable: bool
    append: bool
    served: bool = False
    """Bytes were read through it: what it reads next must not silently be of another version."""


class Files:
    """Operations on open regular files.

    Args:
        opened: told of each file opened to be read only.
    """

    def __init__(self, share: Share, namespace: Namespace, opened: Callable[[Inode], None]) -> None:
        self._share = share
        self._namespace = namespace
        self._told = opened
        self._handles: dict[int, Handle] = {}
        self._numbers = itertools.count(1)

    def __repr__(self) -> str:
        return f"<Files {len(self._handles)} open>"

    async def open(self, ino: int, flags: int, caller: Caller = ROOT) -> int:
        """Open a file; returns the handle. Raises IsADirectory, StaleInode, Unavailable, and what truncation raises."""
        inode = await self._share.known(self._share.regular(ino))
        if not stat.S_ISREG(inode.mode):
            raise NoEntry("only regular files are opened here")
        handle = self._opened(inode, flags)
        if flags & os.O_TRUNC and handle.writable:
            try:
                await self._empty(handle, caller)
            except BaseException:
                self._forget(handle)
                raise
            self._share.notice(ino)
        return handle.number

    async def _empty(self, handle: Handle, caller: Caller) -> None:
        """O_TRUNC, which no setattr announces: the setuid and setgid bits are ours to take away, too."""
        while True:
            content = self._present(handle).content
            try:
                await content.truncate(0)
                break
            except Superseded:
                continue
        await content.persist()
        inode = self._share.meta.require(content.ino)
        if caller.uid != 0 and (changed := without_privileges(inode, self._share.clock.time_ns())) is not None:
            with self._share.meta.transaction() as tx:
                tx.put(changed)

    async def create(self, parent: int, name: bytes, mode: int, flags: int, caller: Caller) -> tuple[Inode, int]:
        """open(2) with O_CREAT: the new (or, without O_EXCL, existing) file and its handle."""
        try:
            inode = await self._namespace.mknod(parent, name, stat.S_IFREG | stat.S_IMODE(mode), caller)
        except EntryExists:
            if flags & os.O_EXCL:
                raise
            inode = await self._share.find_known(parent, name)
            if inode.is_directory:
                raise IsADirectory(name.decode(errors="replace")) from None
            number = await self.open(inode.ino, flags, caller)
            return self._share.meta.require(inode.ino), number
        return inode, self._opened(inode, flags).number

    async def read(self, number: int, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes; shorter only at the end of the file.

        Raises:
            Unavailable: the bytes are only in the bucket, which does not answer, or holds another object by now.
            Archived: they are in an archive tier.
        """
        handle = self._present(self._handle(number))
        try:
            data = await handle.content.read(offset, length)
        except BucketMovedOn as moved:
            data = await self._read_again(handle, offset, length, moved)
        except Archived:
            self._share.archived(handle.content.ino)
            raise
        handle.served = True
        return data

    async def write(self, number: int, offset: int, data: bytes) -> int:
        """Write all of ``data``; returns its length. Raises FileTooLarge, NoSpace, CacheDiskFull, BadHandle."""
        handle = self._handle(number)
        if not handle.writable:
            raise BadHandle("not open for writing")
        while True:
            content = self._present(handle).content
            try:
                await self._share.cache.pressure.admit(content, content.size if handle.append else offset, len(data))
                await content.write(content.size if handle.append else offset, data)
                return len(data)
            except Superseded:
                continue
            except Archived:
                self._share.archived(content.ino)
                raise

    def unsaved(self, number: int) -> bool:
        """Whether a flush, or the release, has something to write."""
        return self._handle(number).content.changed

    async def flush(self, number: int) -> None:
        """close(2) of one descriptor: everything written so far survives kill -9."""
        content = self._handle(number).content
        if content.changed:
            await content.persist()
            self._share.notice(content.ino)

    async def fsync(self, number: int) -> None:
        """Everything written so far survives power loss; with ``upload.fsync = "bucket"`` it is in the bucket.

        Raises Unavailable, TryAgain in the latter case (``upload/fsyncing.py``).
        """
        content = self._handle(number).content
        await content.persist()
        await self._share.meta.sync()
        self._share.notice(content.ino)
        await self._share.fsynced(content.ino)

    async def release(self, number: int) -> None:
        """The last descriptor of an open is gone. An orphan goes with its last handle."""
        handle = self._handles.pop(number)
        content = handle.content
        try:
            if content.changed:
                await content.persist()
        finally:
            self._forget(handle)
        self._share.notice(content.ino)

    async def persist(self, ino: int) -> None:
        """Put live sizes and times into the record: the uploader asks before it plans."""
        content = self._share.cache.live(ino)
        if content is not None:
            await content.persist()

    async def persist_all(self) -> None:
        """At shutdown: every open file's bytes are described by its record, those that were fetched too."""
        for handle in list(self._handles.values()):
            await handle.content.persist()
            handle.content.persist_residence()

    def _opened(self, inode: Inode, flags: int) -> Handle:
        content = self._share.cache.acquire(inode)
        writable = flags & os.O_ACCMODE != os.O_RDONLY
        content.opens += 1
        content.writers += writable
        handle = Handle(next(self._numbers), content, writable, bool(flags & os.O_APPEND))
        self._handles[handle.number] = handle
        if not writable:
            self._told(inode)
        return handle

    def _forget(self, handle: Handle) -> None:
        share = self._share
        content = handle.content
        self._handles.pop(handle.number, None)
        content.opens -= 1
        content.writers -= handle.writable
        inode = share.meta.inode(content.ino)
        share.cache.release(content)
        if inode is not None and not inode.linked and not share.cache.open_count(content.ino):
            share.remove_orphan(content.ino)

    async def _read_again(self, handle: Handle, offset: int, length: int, moved: BucketMovedOn) -> bytes:
        """The object is not the one we knew: learn what it is now.

        A handle that has not read yet goes on with the new object. One that has gets an error, once, so that no copy
        is made of two halves; what it reads afterwards is the new object.
        """
        content = handle.content
        for pause_s in READ_AGAIN_S:
            await trio.sleep(pause_s)
            if not handle.content.changed:
                await self._look_again(handle, moved)
            if handle.served and handle.content is not content:
                raise Unavailable(f"changed in the bucket while it was being read: {moved}; read it again") from moved
            # Not replaced by others, or not read from yet. Our own uploads give the object another etag while bytes are
            # asked for, and it may be in the bucket before it is in the record.
            try:
                return await handle.content.read(offset, length)
            except BucketMovedOn as again:
                moved = again
        raise Unavailable(f"keeps changing in the bucket: {moved}") from moved

    async def _look_again(self, handle: Handle, moved: BucketMovedOn) -> None:
        try:
            await self._share.refresh.recheck(handle.content.ino)
            self._present(handle)
        except FsError as problem:
            raise Unavailable(f"gone from the bucket: {moved}") from problem

    def _present(self, handle: Handle) -> Handle:
        """The handle, on the present bytes of its file. Raises StaleInode when others removed it."""
        if handle.content.stale:
            self._move(handle, self._share.cache.acquire(self._share.meta.require(handle.content.ino)))
        return handle

    def _move(self, handle: Handle, content: Content) -> None:
        """The handle goes on with another generation of the file's bytes."""
        old = handle.content
        old.opens -= 1
        old.writers -= handle.writable
        content.opens += 1
        content.writers += handle.writable
        handle.content = content
        self._share.cache.release(old)

    def _handle(self, number: int) -> Handle:
        try:
            return self._handles[number]
        except KeyError:
            raise BadHandle(f"no open file {number}") from None
