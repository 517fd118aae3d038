"""What every file operation needs, in one place: the parts of the running share and the rules they have in common."""

import stat
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import msgspec

from gatewayfs.cache.content import ContentCache
from gatewayfs.errors import IsADirectory, NameTooLong, NoEntry, NotADirectory
from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.paths import checked_name
from gatewayfs.meta.schema import Directory, Inode
from gatewayfs.meta.transaction import Transaction
from gatewayfs.refresh.refresher import Refresh
from gatewayfs.runtime.clock import Clock
from gatewayfs.types import KEY_BYTES_MAX
from gatewayfs.upload.records import release
from gatewayfs.vfs.identity import Identity


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the credentials the kernel gives with a request, site ids."""

    uid: int = 0
    gid: int = 0


ROOT = Caller()


def not_noted(ino: int) -> None:
    """Nobody asks what is archived."""


async def on_disk(ino: int) -> None:
    """An fsync is done when the cache disk has it."""


@dataclass(frozen=True, slots=True)
class Share:
    """The parts of one mounted share.

    ``notice(ino)`` tells the uploader that an inode has work for it; ``notice_doomed(key)`` that an object shall go;
    ``archived(ino)`` tells that a program asked for bytes that are in an archive tier; ``fsynced(ino)`` is what an
    fsync waits for besides the cache disk.
    """

    meta: MetaStore
    cache: ContentCache
    refresh: Refresh
    clock: Clock
    notice: Callable[[int], None]
    notice_doomed: Callable[[str], None]
    identity: Identity = field(default_factory=Identity)
    archived: Callable[[int], None] = not_noted
    fsynced: Callable[[int], Awaitable[None]] = on_disk
    open_directories: Counter[int] = field(default_factory=Counter)
    """Directory streams open now, by inode: a removed directory lives on until the last is closed."""

    async def find(self, parent: int, name: bytes) -> Inode | None:
        """The inode called ``name`` in ``parent``, asking the bucket when the records cannot tell yet.

        Raises:
            NotADirectory, StaleInode: ``parent`` is none, or gone.
            BadName, NameTooLong: no such name can exist here.
            Unavailable: only the bucket knows, and it does not answer.
        """
        checked_name(name)
        await self.refresh.ensure_fresh(parent)
        directory = self.directory(parent)
        found = self.meta.lookup(parent, name)
        if found is None and directory.directory is not None and not directory.directory.complete:
            await self.refresh.ensure_name(parent, name)
            found = self.meta.lookup(parent, name)
        return found

    async def find_known(self, parent: int, name: bytes) -> Inode:
        """As ``find``, with its attributes read, and NoEntry when there is none."""
        found = await self.find(parent, name)
        if found is None:
            raise NoEntry(name.decode(errors="replace"))
        return await self.known(found)

    async def known(self, inode: Inode) -> Inode:
        """The record with mode, owner and times read from the bucket if a LIST was all we had."""
        if inode.attributes_known:
            return inode
        await self.refresh.ensure_attributes(inode.ino)
        return self.meta.require(inode.ino)

    def directory(self, ino: int) -> Inode:
        """The directory ``ino``; raises StaleInode or NotADirectory."""
        inode = self.meta.require(ino)
        if not inode.is_directory:
            raise NotADirectory(inode.name.decode(errors="replace"))
        return inode

    def regular(self, ino: int) -> Inode:
        """The regular file ``ino``; raises StaleInode or IsADirectory."""
        inode = self.meta.require(ino)
        if inode.is_directory:
            raise IsADirectory(inode.name.decode(errors="replace"))
        return inode

    def check_key(self, parent: Inode, name: bytes, *, below_bytes: int = 0) -> None:
        """NameTooLong unless ``name`` in ``parent`` (and paths ``below_bytes`` longer) fits S3's 1024 bytes.

        One byte is kept for the "/" of a directory marker, for files too: a path that can be a file can be a directory.
        """
        key_bytes = len(self.meta.key_of(parent).encode()) + len(name) + 1 + below_bytes
        if key_bytes > KEY_BYTES_MAX:
            raise NameTooLong(f"the object key would have {key_bytes} bytes, S3 takes {KEY_BYTES_MAX}")

    def changed_entries(self, tx: Transaction, ino: int, now_ns: int) -> None:
        """The entries of a directory changed: its times do too; an emptied implicit directory gets a marker.

        Times changed this way are not uploaded by themselves (that would be one PUT per created file); they travel
        with the next explicit change of the directory.
        """
        inode = tx.require(ino)
        details = inode.directory
        dirty = inode.dirty_since_ns
        if details is not None and not details.marker_wanted and inode.parent and not tx.has_children(ino):
            details = msgspec.structs.replace(details, marker_wanted=True)
            dirty = dirty or now_ns
        tx.put(
            msgspec.structs.replace(inode, mtime_ns=now_ns, ctime_ns=now_ns, directory=details, dirty_since_ns=dirty)
        )

    def unlink_inode(self, tx: Transaction, inode: Inode, now_ns: int) -> str | None:
        """Take an inode out of the namespace; returns the key of the object that has to go, if there is one.

        An open file lives on as an orphan until its last close; one that is on its way to the bucket until the
        uploader has cleaned up there: notice the inode afterwards.
        """
        in_use = self.cache.open_count(inode.ino) + self.open_directories[inode.ino] > 0
        reads = in_use and inode.is_regular and not self.cache.is_resident(inode)
        unlinked = msgspec.structs.replace(inode, ctime_ns=now_ns)
        if not in_use:
            unlinked = self.cache.forget(tx, unlinked)
        tx.put_parked(inode.ino, None)
        return release(tx, unlinked, now_ns, in_use=in_use, reads=reads)

    def remove_orphan(self, ino: int) -> None:
        """The last user of a file without a name is gone: its bytes go, and its object in the bucket."""
        with self.meta.transaction() as tx:
            inode = self.cache.forget(tx, tx.require(ino))
            key = release(tx, inode, self.clock.time_ns(), in_use=False, reads=False)
        self.notice(ino)
        if key is not None:
            self.notice_doomed(key)


def new_directory() -> Directory:
    """A directory made here: everything in it is known, and the bucket shall have a marker for it."""
    return Directory(complete=True, source=None, marker_wanted=True)


def is_special(mode: int) -> bool:
    """True for the node types mknod may make besides regular files."""
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or is_device(mode)


def is_device(mode: int) -> bool:
    """True for nodes that have a device number."""
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)
