"""Names: lookup, create, mkdir, symlink, mknod, unlink, rmdir."""

import logging
import stat

from gatewayfs.errors import (
    DirectoryNotEmpty,
    EntryExists,
    InvalidArgument,
    IsADirectory,
    NameTooLong,
    NotADirectory,
)
from gatewayfs.meta.schema import Inode
from gatewayfs.meta.transaction import Transaction
from gatewayfs.runtime.failpoints import failpoint, register
from gatewayfs.types import ROOT_INO, SYMLINK_BYTES_MAX
from gatewayfs.vfs.share import Caller, Share, is_device, is_special, new_directory

log = logging.getLogger(__name__)

_BEFORE_MKDIR = register("vfs.mkdir.before", "nothing of the new directory")


class Namespace:
    """Operations on names. Permission checks are the kernel's (``default_permissions``)."""

    def __init__(self, share: Share) -> None:
        self._share = share

    async def lookup(self, parent: int, name: bytes) -> Inode:
        """The inode called ``name``; "." and ".." work for every inode ever known, as NFS servers ask.

        Raises:
            NoEntry, NotADirectory, StaleInode, NameTooLong, BadName, Unavailable.
        """
        share = self._share
        if name == b".":
            return await share.known(share.meta.require(parent))
        if name == b"..":
            inode = share.meta.require(parent)
            return await share.known(share.meta.require(inode.parent or ROOT_INO))
        return await share.find_known(parent, name)

    async def mkdir(self, parent: int, name: bytes, mode: int, caller: Caller) -> Inode:
        """Make a directory; its marker object follows. Raises EntryExists and what ``lookup`` raises."""
        failpoint(_BEFORE_MKDIR)
        return await self._make(parent, name, stat.S_IFDIR | stat.S_IMODE(mode), caller)

    async def mknod(self, parent: int, name: bytes, mode: int, caller: Caller, rdev: int = 0) -> Inode:
        """Make a regular file, fifo, socket or device node. Raises InvalidArgument for any other type."""
        if not (stat.S_ISREG(mode) or is_special(mode)):
            raise InvalidArgument("mknod makes no such type of file")
        return await self._make(parent, name, mode, caller, rdev=rdev if is_device(mode) else 0)

    async def symlink(self, parent: int, name: bytes, target: bytes, caller: Caller) -> Inode:
        """Make a symlink: an object whose data is the target. Raises NameTooLong beyond 4080 bytes."""
        if len(target) > SYMLINK_BYTES_MAX:
            raise NameTooLong(f"a symlink target has at most {SYMLINK_BYTES_MAX} bytes")
        if not target:
            raise InvalidArgument("a symlink needs a target")
        return await self._make(parent, name, stat.S_IFLNK | 0o777, caller, target)

    async def readlink(self, ino: int) -> bytes:
        """A symlink's target, from the bucket the first time. Raises InvalidArgument for anything else."""
        inode = await self._share.known(self._share.meta.require(ino))
        if not inode.is_symlink:
            raise InvalidArgument("not a symlink")
        return inode.target if inode.target is not None else await self._share.refresh.read_target(ino)

    async def unlink(self, parent: int, name: bytes) -> None:
        """Remove a name that is not a directory; open files live on. Raises NoEntry, IsADirectory."""
        inode = await self._share.find(parent, name)
        inode = await self._share.find_known(parent, name) if inode is None else inode
        if inode.is_directory:
            raise IsADirectory(name.decode(errors="replace"))
        self._remove(parent, inode)

    async def rmdir(self, parent: int, name: bytes) -> None:
        """Remove an empty directory. Raises NoEntry, NotADirectory, DirectoryNotEmpty, Unavailable."""
        inode = await self._share.find_known(parent, name)
        if not inode.is_directory:
            raise NotADirectory(name.decode(errors="replace"))
        await self.check_empty(inode)
        self._remove(parent, self._share.meta.require(inode.ino))

    async def check_empty(self, inode: Inode) -> None:
        """Raise DirectoryNotEmpty when the directory has an entry, here or in the bucket, or keys not shown."""
        name = inode.name.decode(errors="replace")
        if self._share.meta.has_children(inode.ino):
            raise DirectoryNotEmpty(name)
        if inode.directory is not None and not inode.directory.complete:
            await self._share.refresh.entries_after(inode.ino, 0, 1)
            inode = self._share.meta.require(inode.ino)
        if self._share.meta.has_children(inode.ino):
            raise DirectoryNotEmpty(name)
        hidden = await self._share.refresh.hidden_below(inode.ino)
        if self._share.meta.has_children(inode.ino):
            raise DirectoryNotEmpty(name)
        if hidden:
            # The caller gets an errno only; whoever wonders finds the reason here, and the keys in ``status``.
            log.warning("directory %r is kept: below it are %d keys that are not shown (see status)", name, hidden)
            raise DirectoryNotEmpty(f"{name}: below it are {hidden} keys that are not shown")

    async def _make(
        self, parent: int, name: bytes, mode: int, caller: Caller, target: bytes | None = None, rdev: int = 0
    ) -> Inode:
        share = self._share
        if await share.find(parent, name) is not None:
            raise EntryExists(name.decode(errors="replace"))
        directory = await share.known(share.directory(parent))
        share.check_key(directory, name)
        if share.meta.lookup(parent, name) is not None:
            # A listing brought it while the directory's attributes were asked for.
            raise EntryExists(name.decode(errors="replace"))
        with share.meta.transaction() as tx:
            inode = self._born(tx, directory, name, mode, caller, target, rdev)
            share.changed_entries(tx, parent, inode.ctime_ns)
        share.notice(inode.ino)
        return inode

    def _born(
        self, tx: Transaction, directory: Inode, name: bytes, mode: int, caller: Caller, target: bytes | None, rdev: int
    ) -> Inode:
        now = self._share.clock.time_ns()
        identity = self._share.identity
        gid = identity.groups.stored(caller.gid)
        if not stat.S_ISLNK(mode):
            mode &= ~identity.umask
        if directory.mode & stat.S_ISGID:
            gid = identity.groups.inherited(directory.gid)
            if stat.S_ISDIR(mode):
                mode |= stat.S_ISGID
        inode = Inode(
            ino=tx.new_ino(),
            parent=directory.ino,
            name=name,
            mode=mode,
            uid=identity.users.stored(caller.uid),
            gid=gid,
            size=len(target) if target is not None else 0,
            atime_ns=now,
            mtime_ns=now,
            ctime_ns=now,
            btime_ns=now,
            dirty_since_ns=now,
            directory=new_directory() if stat.S_ISDIR(mode) else None,
            target=target,
            rdev=rdev,
        )
        tx.put(inode)
        return inode

    def _remove(self, parent: int, inode: Inode) -> None:
        share = self._share
        now = share.clock.time_ns()
        with share.meta.transaction() as tx:
            key = share.unlink_inode(tx, inode, now)
            share.changed_entries(tx, parent, now)
        for ino in (inode.ino, parent):
            share.notice(ino)
        if key is not None:
            share.notice_doomed(key)
