"""pyfuse3's handlers: decode, call ``vfs``, encode.

Every handler is wrapped (``guards.py``): ``changing`` and ``writing`` those that change something,
``guarded`` the others. No handler
keeps a reference to a request's data.
"""

import os
import stat
from collections.abc import Callable, Sequence

import pyfuse3

from gatewayfs.errors import InvalidArgument, NotPermitted, ReadOnlyShare
from gatewayfs.fuse.guards import changing, guarded, writing
from gatewayfs.meta.schema import Inode
from gatewayfs.runtime.diskhealth import DiskHealth
from gatewayfs.types import NAME_BYTES_MAX
from gatewayfs.vfs.attributes import STATFS_BLOCK_BYTES, STATFS_BLOCKS, STATFS_FILES, Changes
from gatewayfs.vfs.filesystem import Filesystem
from gatewayfs.vfs.share import Caller

IO_BYTES_PREFERRED = 128 << 10
"""st_blksize: what stdio allocates per stream and cp reads at a time; one kernel read-ahead window."""


class Operations(pyfuse3.Operations):
    """One mounted file system.

    Args:
        filesystem: what the calls mean.
        kernel_timeout_s: how long the kernel may keep names and attributes; what changes behind it is invalidated.
        called: told of every call before it is handled; work in the background steps back for it.
        disk: says whether the cache disk takes changes.
        read_only: nothing may be changed. The kernel sees to that already, until root mounts it again with ``rw``.
    """

    supports_dot_lookup = True
    enable_writeback_cache = False
    enable_acl = False

    def __init__(
        self,
        filesystem: Filesystem,
        kernel_timeout_s: float,
        called: Callable[[], None],
        disk: DiskHealth,
        *,
        read_only: bool = False,
    ) -> None:
        super().__init__()
        self.called, self.disk = called, disk
        self.read_only = read_only
        self._fs = filesystem
        self._timeout_s = kernel_timeout_s

    # ------------------------------------------------------------------ names

    @guarded
    async def lookup(self, parent: int, name: bytes, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        return self._entry(self._fs.attributes.live(await self._fs.names.lookup(parent, name)))

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        """Lookup counts drive nothing here: records live in LMDB, open files are counted by their handles."""

    @changing
    async def mkdir(self, parent: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        return self._entry(await self._fs.names.mkdir(parent, name, mode, caller_of(ctx)))

    @changing
    async def mknod(
        self, parent: int, name: bytes, mode: int, rdev: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return self._entry(await self._fs.names.mknod(parent, name, mode, caller_of(ctx), rdev))

    @changing
    async def symlink(
        self, parent: int, name: bytes, target: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return self._entry(await self._fs.names.symlink(parent, name, target, caller_of(ctx)))

    @changing
    async def link(
        self, inode: int, new_parent: int, new_name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        raise NotPermitted("one object has one key: there are no hard links")

    @guarded
    async def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        return await self._fs.names.readlink(inode)

    @changing
    async def unlink(self, parent: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        await self._fs.names.unlink(parent, name)

    @changing
    async def rmdir(self, parent: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        await self._fs.names.rmdir(parent, name)

    @changing
    async def rename(
        self,
        old_parent: int,
        old_name: bytes,
        new_parent: int,
        new_name: bytes,
        flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        if flags & ~(pyfuse3.RENAME_NOREPLACE | pyfuse3.RENAME_EXCHANGE):
            raise InvalidArgument(f"rename flags {flags:#x} mean nothing here")
        await self._fs.renaming.rename(
            old_parent,
            old_name,
            new_parent,
            new_name,
            no_replace=bool(flags & pyfuse3.RENAME_NOREPLACE),
            exchange=bool(flags & pyfuse3.RENAME_EXCHANGE),
        )

    # ------------------------------------------------------------------ attributes

    @guarded
    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        return self._entry(await self._fs.attributes.getattr(inode))

    @changing
    async def setattr(
        self,
        inode: int,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        changes = Changes(
            mode=attr.st_mode if fields.update_mode else None,
            uid=attr.st_uid if fields.update_uid else None,
            gid=attr.st_gid if fields.update_gid else None,
            size=attr.st_size if fields.update_size else None,
            atime_ns=attr.st_atime_ns if fields.update_atime else None,
            mtime_ns=attr.st_mtime_ns if fields.update_mtime else None,
        )
        return self._entry(await self._fs.attributes.setattr(inode, changes))

    @guarded
    async def listxattr(self, inode: int, ctx: pyfuse3.RequestContext) -> Sequence[bytes]:
        return await self._fs.attributes.listxattr(inode)

    @guarded
    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        return await self._fs.attributes.getxattr(inode, name)

    @changing
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: pyfuse3.RequestContext) -> None:
        await self._fs.attributes.setxattr(inode, name, value)

    @changing
    async def removexattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        await self._fs.attributes.removexattr(inode, name)

    @guarded
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        data = pyfuse3.StatvfsData()
        data.f_bsize = data.f_frsize = STATFS_BLOCK_BYTES
        data.f_blocks = data.f_bfree = data.f_bavail = STATFS_BLOCKS
        data.f_files = data.f_ffree = data.f_favail = STATFS_FILES
        data.f_namemax = NAME_BYTES_MAX
        return data

    # ------------------------------------------------------------------ files

    @changing
    async def create(
        self, parent: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        inode, handle = await self._fs.files.create(parent, name, mode, flags, caller_of(ctx))
        return _opened(handle), self._entry(self._fs.attributes.live(inode))

    @guarded
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        if self.read_only and (flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC):
            raise ReadOnlyShare("opened for writing")
        if flags & os.O_TRUNC and not self.disk.takes_changes:
            await self.disk.admit()
        return _opened(await self._fs.files.open(inode, flags, caller_of(ctx)))

    @guarded
    async def read(self, fh: int, off: int, size: int) -> bytes:
        return await self._fs.files.read(fh, off, size)

    @writing
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        return await self._fs.files.write(fh, off, buf)

    @guarded
    async def flush(self, fh: int) -> None:
        if self._fs.files.unsaved(fh):
            await self.disk.answers()
        await self._fs.files.flush(fh)

    @guarded
    async def fsync(self, fh: int, datasync: bool) -> None:
        await self.disk.answers()
        await self._fs.files.fsync(fh)

    @guarded
    async def release(self, fh: int) -> None:
        if self._fs.files.unsaved(fh):
            await self.disk.answers()
        await self._fs.files.release(fh)

    # ------------------------------------------------------------------ directories

    @guarded
    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        return await self._fs.directories.open(inode)

    @guarded
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        offset = start_id
        while entries := await self._fs.directories.read(fh, offset):
            for name, inode, offset in entries:
                attributes = self._entry(self._fs.attributes.live(inode))
                if not inode.attributes_known and not inode.is_directory:
                    # A LIST cannot tell a file from a symlink. Without a type the kernel reports DT_UNKNOWN, and
                    # keeps nothing of the entry: whoever wants to know looks it up.
                    attributes.st_mode = stat.S_IMODE(inode.mode)
                if not pyfuse3.readdir_reply(token, name, attributes, offset):
                    return

    @guarded
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        await self.disk.answers()
        await self._fs.directories.sync(fh)

    @guarded
    async def releasedir(self, fh: int) -> None:
        await self._fs.directories.release(fh)

    def _entry(self, inode: Inode) -> pyfuse3.EntryAttributes:
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = inode.ino
        entry.generation = 0
        # What only a LIST told us (mode, owner, perhaps even the type) is provisional: the kernel asks again on use.
        entry.entry_timeout = entry.attr_timeout = self._timeout_s if inode.attributes_known else 0
        entry.st_mode, entry.st_uid, entry.st_gid = self._fs.share.identity.shown(inode)
        entry.st_nlink = _links(inode)
        entry.st_rdev = inode.rdev
        entry.st_size = inode.size if not inode.is_directory else STATFS_BLOCK_BYTES
        entry.st_blksize = IO_BYTES_PREFERRED
        entry.st_blocks = -(-inode.size // 512)
        entry.st_atime_ns = inode.atime_ns
        entry.st_mtime_ns = inode.mtime_ns
        entry.st_ctime_ns = inode.ctime_ns
        return entry


def _links(inode: Inode) -> int:
    if not inode.linked:
        return 0
    if inode.directory is not None and inode.directory.complete:
        return 2 + inode.directory.subdirectories
    # For a directory 1 means "not counted" (as on btrfs): not all of its entries are known yet.
    return 1


def caller_of(ctx: pyfuse3.RequestContext) -> Caller:
    return Caller(uid=ctx.uid, gid=ctx.gid)


def _opened(handle: int) -> pyfuse3.FileInfo:
    # The page cache stays valid between opens: whatever changes behind the kernel is invalidated.
    return pyfuse3.FileInfo(fh=handle, keep_cache=True)
