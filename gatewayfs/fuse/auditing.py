"""``Operations`` that leave a trace: each call that changes or opens something is told to the audit log.

A class of its own, so that a share without an audit log pays nothing. What the lines mean is said in ``vfs/audit.py``.
"""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyfuse3

from gatewayfs.fuse.guards import guarded
from gatewayfs.fuse.operations import Operations, caller_of
from gatewayfs.runtime.diskhealth import DiskHealth
from gatewayfs.vfs import audit
from gatewayfs.vfs.audit import AuditLog
from gatewayfs.vfs.filesystem import Filesystem
from gatewayfs.vfs.share import Caller

_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)


@dataclass(slots=True)
class _Open:
    """Who opened a file, and whether a write was told already."""

    ino: int
    caller: Caller
    written: bool = False


class AuditedOperations(Operations):
    """One mounted file system with an audit log."""

    def __init__(
        self,
        filesystem: Filesystem,
        kernel_timeout_s: float,
        called: Callable[[], None],
        disk: DiskHealth,
        log: AuditLog,
        *,
        read_only: bool = False,
    ) -> None:
        super().__init__(filesystem, kernel_timeout_s, called, disk, read_only=read_only)
        self._audit = log
        self._opens: dict[int, _Open] = {}

    @contextmanager
    def _refusals(self, operation: str, ctx: pyfuse3.RequestContext, path: str, new_path: str = "") -> Iterator[None]:
        try:
            yield
        except pyfuse3.FUSEError as refused:
            if refused.errno in _DENIED:
                self._audit.note(operation, caller_of(ctx), path, None, new_path=new_path, status=audit.DENIED)
            raise

    def _created(self, parent: int, name: bytes, ctx: pyfuse3.RequestContext, entry: pyfuse3.EntryAttributes) -> None:
        self._audit.note(audit.CREATE, caller_of(ctx), self._audit.path(parent, name), entry)

    @guarded
    async def mkdir(self, parent: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        with self._refusals(audit.CREATE, ctx, self._audit.path(parent, name)):
            entry = await super().mkdir(parent, name, mode, ctx)
        self._created(parent, name, ctx, entry)
        return entry

    @guarded
    async def mknod(
        self, parent: int, name: bytes, mode: int, rdev: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        with self._refusals(audit.CREATE, ctx, self._audit.path(parent, name)):
            entry = await super().mknod(parent, name, mode, rdev, ctx)
        self._created(parent, name, ctx, entry)
        return entry

    @guarded
    async def symlink(
        self, parent: int, name: bytes, target: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        with self._refusals(audit.CREATE, ctx, self._audit.path(parent, name)):
            entry = await super().symlink(parent, name, target, ctx)
        self._created(parent, name, ctx, entry)
        return entry

    @guarded
    async def create(
        self, parent: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        with self._refusals(audit.CREATE, ctx, self._audit.path(parent, name)):
            info, entry = await super().create(parent, name, mode, flags, ctx)
        self._opens[info.fh] = _Open(entry.st_ino, caller_of(ctx))
        self._created(parent, name, ctx, entry)
        return info, entry

    @guarded
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        reading = flags & os.O_ACCMODE != os.O_WRONLY
        with self._refusals(audit.READ if reading else audit.WRITE, ctx, self._audit.path(inode)):
            info = await super().open(inode, flags, ctx)
        opened = self._opens[info.fh] = _Open(inode, caller_of(ctx))
        if reading:
            self._note_file(audit.READ, opened)
        return info

    @guarded
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        written = await super().write(fh, off, buf)
        opened = self._opens.get(fh)
        if opened is not None and not opened.written:
            opened.written = True
            self._note_file(audit.WRITE, opened)
        return written

    @guarded
    async def release(self, fh: int) -> None:
        self._opens.pop(fh, None)
        await super().release(fh)

    @guarded
    async def unlink(self, parent: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        path, entry = self._audit.path(parent, name), self._entry_of(parent, name)
        with self._refusals(audit.DELETE, ctx, path):
            await super().unlink(parent, name, ctx)
        self._audit.note(audit.DELETE, caller_of(ctx), path, entry)

    @guarded
    async def rmdir(self, parent: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        path, entry = self._audit.path(parent, name), self._entry_of(parent, name)
        with self._refusals(audit.DELETE, ctx, path):
            await super().rmdir(parent, name, ctx)
        self._audit.note(audit.DELETE, caller_of(ctx), path, entry)

    @guarded
    async def rename(
        self,
        old_parent: int,
        old_name: bytes,
        new_parent: int,
        new_name: bytes,
        flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        old, new = self._audit.path(old_parent, old_name), self._audit.path(new_parent, new_name)
        entry, other = self._entry_of(old_parent, old_name), self._entry_of(new_parent, new_name)
        with self._refusals(audit.RENAME, ctx, old, new):
            await super().rename(old_parent, old_name, new_parent, new_name, flags, ctx)
        self._audit.note(audit.RENAME, caller_of(ctx), old, entry, new_path=new)
        if flags & pyfuse3.RENAME_EXCHANGE:
            self._audit.note(audit.RENAME, caller_of(ctx), new, other, new_path=old)

    @guarded
    async def setattr(
        self,
        inode: int,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        # A truncation changes the content, whatever else comes with it.
        operation = audit.WRITE if fields.update_size else audit.ATTRIBUTES
        path = self._audit.path(inode)
        with self._refusals(operation, ctx, path):
            entry = await super().setattr(inode, attr, fields, fh, ctx)
        self._audit.note(operation, caller_of(ctx), path, entry)
        return entry

    @guarded
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: pyfuse3.RequestContext) -> None:
        with self._refusals(audit.ATTRIBUTES, ctx, self._audit.path(inode)):
            await super().setxattr(inode, name, value, ctx)
        self._note_file(audit.ATTRIBUTES, _Open(inode, caller_of(ctx)))

    @guarded
    async def removexattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        with self._refusals(audit.ATTRIBUTES, ctx, self._audit.path(inode)):
            await super().removexattr(inode, name, ctx)
        self._note_file(audit.ATTRIBUTES, _Open(inode, caller_of(ctx)))

    def _note_file(self, operation: str, opened: _Open) -> None:
        inode = self._fs.share.meta.inode(opened.ino)
        if inode is not None:
            shown = self._entry(self._fs.attributes.live(inode))
            self._audit.note(operation, opened.caller, self._audit.path(opened.ino), shown)

    def _entry_of(self, parent: int, name: bytes) -> pyfuse3.EntryAttributes | None:
        """The attributes of what has the name now, where the records know it: afterwards they are gone."""
        inode = self._fs.share.meta.lookup(parent, name)
        return None if inode is None else self._entry(self._fs.attributes.live(inode))
