"""Attributes: getattr, setattr, extended attributes, statfs.

An explicit change of mode, owner, times or xattrs raises the inode's metadata revision, which is what the uploader
compares; it costs the bucket one metadata copy, however many such changes come together.
"""

import stat
from dataclasses import dataclass, replace

import msgspec

from gatewayfs.cache.live import Superseded
from gatewayfs.errors import NoAttribute, NoSpace, NotSupported
from gatewayfs.meta.schema import Directory, Inode
from gatewayfs.objectrecords import posix_attributes
from gatewayfs.s3.attributes import encode, metadata_size_bytes
from gatewayfs.s3.store import METADATA_BYTES_MAX
from gatewayfs.s3.xattrs import XATTR_NAMESPACE, metadata_from_xattrs, xattrs_from_metadata
from gatewayfs.vfs.share import Share

STATFS_BLOCK_BYTES = 4096
STATFS_BLOCKS = (1 << 50) // STATFS_BLOCK_BYTES
"""A bucket has no size; programs that check free space before writing need a large number. 1 PiB."""

STATFS_FILES = 1 << 32


@dataclass(frozen=True, slots=True)
class Changes:
    """What setattr shall change, owner and group as site ids; None leaves alone."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None


class Attributes:
    """Operations on attributes of any inode."""

    def __init__(self, share: Share) -> None:
        self._share = share

    async def getattr(self, ino: int) -> Inode:
        """The record, with size and time of bytes written but not yet recorded. Raises StaleInode, Unavailable."""
        refresh, inode = self._share.refresh, self._share.meta.require(ino)
        await refresh.ensure_fresh(inode.parent)
        # Its time tells clients whether their copy of its names is right; who reads the names waits for them.
        await refresh.ensure_fresh(ino, wait=False)
        return self.live(await self._share.known(self._share.meta.require(ino)))

    def live(self, inode: Inode) -> Inode:
        """The record as users shall see it: open files may be ahead of it."""
        content = self._share.cache.live(inode.ino)
        if content is None or not content.changed:
            return inode
        mtime = content.mtime_ns if content.mtime_ns is not None else inode.mtime_ns
        return msgspec.structs.replace(inode, size=content.size, mtime_ns=mtime, ctime_ns=max(inode.ctime_ns, mtime))

    async def setattr(self, ino: int, changes: Changes) -> Inode:
        """Apply changes; a size is applied to the bytes first.

        Raises:
            FileTooLarge, CacheDiskFull, IsADirectory (size of a directory), StaleInode, Unavailable.
        """
        share = self._share
        inode = await share.known(share.meta.require(ino))
        if changes.size is not None:
            await self._resize(ino, changes.size)
        if (changes.mode, changes.uid, changes.gid, changes.atime_ns, changes.mtime_ns) == (None,) * 5:
            return self.live(share.meta.require(ino))
        content = share.cache.live(ino)
        if content is not None and content.changed:
            # An explicit time must not be overtaken by the time of a write that came before it.
            await content.persist()
        changes = self._arriving(changes)
        with share.meta.transaction() as tx:
            inode, now_ns = tx.require(ino), share.clock.time_ns()
            if _says_nothing_new(inode, changes):
                tx.put(msgspec.structs.replace(inode, ctime_ns=now_ns))
            else:
                tx.put(_changed(inode, changes, now_ns))
        share.notice(ino)
        return self.live(share.meta.require(ino))

    def _arriving(self, changes: Changes) -> Changes:
        """What shall be kept of what a program asks for."""
        identity = self._share.identity
        return replace(
            changes,
            mode=None if changes.mode is None else changes.mode & ~identity.umask,
            uid=None if changes.uid is None else identity.users.stored(changes.uid),
            gid=None if changes.gid is None else identity.groups.stored(changes.gid),
        )

    async def _resize(self, ino: int, size: int) -> None:
        share = self._share
        while True:
            with share.cache.using(share.regular(ino)) as content:
                try:
                    await content.truncate(size)
                except Superseded:
                    continue
                if not content.writers:
                    # truncate(2) on a file nobody writes to: acknowledged when it returns, so it must survive now.
                    await content.persist()
            share.notice(ino)
            return

    # ------------------------------------------------------------------ extended attributes

    async def listxattr(self, ino: int) -> list[bytes]:
        """Names of all user xattrs, unknown object metadata among them."""
        return sorted(await self._xattrs(ino))

    async def getxattr(self, ino: int, name: bytes) -> bytes:
        """Raises NoAttribute, NotSupported outside ``user.``."""
        try:
            return (await self._xattrs(ino))[_checked_xattr(name)]
        except KeyError:
            raise NoAttribute(name.decode(errors="replace")) from None

    async def setxattr(self, ino: int, name: bytes, value: bytes) -> None:
        """Raises NoSpace when all metadata together would pass S3's 2 KB, NotSupported outside ``user.``."""
        xattrs = await self._xattrs(ino)
        xattrs[_checked_xattr(name)] = value
        self._store_xattrs(ino, xattrs)

    async def removexattr(self, ino: int, name: bytes) -> None:
        """Raises NoAttribute, NotSupported outside ``user.``."""
        xattrs = await self._xattrs(ino)
        if xattrs.pop(_checked_xattr(name), None) is None:
            raise NoAttribute(name.decode(errors="replace"))
        self._store_xattrs(ino, xattrs)

    async def _xattrs(self, ino: int) -> dict[bytes, bytes]:
        inode = await self._share.known(self._share.meta.require(ino))
        return xattrs_from_metadata(inode.foreign or {})

    def _store_xattrs(self, ino: int, xattrs: dict[bytes, bytes]) -> None:
        share = self._share
        with share.meta.transaction() as tx:
            inode = tx.require(ino)
            foreign = metadata_from_xattrs(xattrs, inode.foreign or {})
            if metadata_size_bytes({**encode(posix_attributes(inode)), **foreign}) > METADATA_BYTES_MAX:
                raise NoSpace("user xattrs and unknown metadata share the 2 KB S3 gives an object")
            now = share.clock.time_ns()
            tx.put(
                msgspec.structs.replace(
                    inode,
                    foreign=foreign or None,
                    ctime_ns=now,
                    meta_revision=inode.meta_revision + 1,
                    dirty_since_ns=inode.dirty_from(now),
                    directory=_explicit(inode),
                )
            )
        share.notice(ino)


def _says_nothing_new(inode: Inode, changes: Changes) -> bool:
    """True for a chown or chmod to what the object says already, as ``rsync -a`` does for every file that is squashed.

    Only objects written here are sure to say it: in others' it may be the share's default that is shown.
    """
    if changes.atime_ns is not None or changes.mtime_ns is not None:
        return False
    if inode.headers is not None or not inode.attributes_known or _explicit(inode) != inode.directory:
        return False
    asked = (changes.mode if changes.mode is None else stat.S_IMODE(changes.mode), changes.uid, changes.gid)
    kept = (stat.S_IMODE(inode.mode), inode.uid, inode.gid)
    return all(wanted is None or wanted == had for wanted, had in zip(asked, kept, strict=True))


def _changed(inode: Inode, changes: Changes, now_ns: int) -> Inode:
    mode = inode.mode if changes.mode is None else stat.S_IFMT(inode.mode) | stat.S_IMODE(changes.mode)
    return msgspec.structs.replace(
        inode,
        mode=mode,
        uid=inode.uid if changes.uid is None else changes.uid,
        gid=inode.gid if changes.gid is None else changes.gid,
        atime_ns=inode.atime_ns if changes.atime_ns is None else changes.atime_ns,
        mtime_ns=inode.mtime_ns if changes.mtime_ns is None else changes.mtime_ns,
        ctime_ns=now_ns,
        meta_revision=inode.meta_revision + 1,
        dirty_since_ns=inode.dirty_from(now_ns),
        directory=_explicit(inode),
    )


def without_privileges(inode: Inode, now_ns: int) -> Inode | None:
    """The record of a file somebody without privileges cut off: setuid and setgid bits go. None: it has none."""
    taken = stat.S_ISUID | (stat.S_ISGID if inode.mode & stat.S_IXGRP else 0)
    if not inode.mode & taken:
        return None
    return _changed(inode, Changes(mode=inode.mode & ~taken), now_ns)


def _explicit(inode: Inode) -> Directory | None:
    """A directory whose attributes somebody set needs a marker to keep them."""
    if inode.directory is None or inode.directory.marker_wanted:
        return inode.directory
    return msgspec.structs.replace(inode.directory, marker_wanted=True)


def _checked_xattr(name: bytes) -> bytes:
    if not name.startswith(XATTR_NAMESPACE) or name == XATTR_NAMESPACE:
        raise NotSupported("only user.* attributes are kept")
    return name
