"""Rename: at once here, copied behind in the bucket.

A rename changes one or two records, whatever it moves. A directory keeps the prefix it was listed from
(``Directory.source``) until the reconciler has moved what lies below, so nothing is listed, copied or touched while the
caller waits. The one thing that could fail later is checked now: every path below must still fit S3's key length.
"""

import msgspec
import trio

from gatewayfs.errors import (
    DirectoryNotEmpty,
    EntryExists,
    InvalidArgument,
    IsADirectory,
    NoEntry,
    NotADirectory,
)
from gatewayfs.meta.schema import Inode
from gatewayfs.meta.transaction import Transaction
from gatewayfs.types import ROOT_INO
from gatewayfs.vfs.namespace import Namespace
from gatewayfs.vfs.share import Share


class Renaming:
    """rename(2) with its flags."""

    def __init__(self, share: Share, namespace: Namespace) -> None:
        self._share = share
        self._namespace = namespace

    async def rename(
        self, old_parent: int, old_name: bytes, new_parent: int, new_name: bytes, *, no_replace: bool, exchange: bool
    ) -> None:
        """Move a name, replacing what is there unless told otherwise.

        Args:
            no_replace: EntryExists when the new name is taken (RENAME_NOREPLACE).
            exchange: swap both names, which must exist (RENAME_EXCHANGE).

        Raises:
            NoEntry, EntryExists, NotADirectory, IsADirectory, DirectoryNotEmpty, NameTooLong, InvalidArgument,
            Unavailable.
        """
        share = self._share
        if no_replace and exchange:
            raise InvalidArgument("NOREPLACE and EXCHANGE contradict each other")
        moved = await share.find_known(old_parent, old_name)
        target = await share.find(new_parent, new_name)
        if target is not None:
            target = await share.known(target)
        if exchange:
            if target is None:
                raise NoEntry(new_name.decode(errors="replace"))
        elif target is not None:
            if no_replace:
                raise EntryExists(new_name.decode(errors="replace"))
            if target.ino == moved.ino:
                return
            await self._check_replaceable(moved, target)
        await self._check_depth(moved, new_parent, new_name)
        if exchange and target is not None:
            await self._check_depth(target, old_parent, old_name)
        self._look_again(moved, old_parent, old_name, target, new_parent, new_name, exchange)
        now = share.clock.time_ns()
        doomed_key = None
        with share.meta.transaction() as tx:
            if exchange and target is not None:
                self._swap(tx, moved, target, now)
            else:
                if target is not None:
                    doomed_key = share.unlink_inode(tx, tx.require(target.ino), now)
                self._place(tx, moved, new_parent, new_name, now)
            share.changed_entries(tx, old_parent, now)
            if new_parent != old_parent:
                share.changed_entries(tx, new_parent, now)
        share.refresh.note_moved(moved.ino)
        if exchange and target is not None:
            share.refresh.note_moved(target.ino)
        if doomed_key is not None:
            share.notice_doomed(doomed_key)
        for ino in {moved.ino, old_parent} | ({target.ino} if target is not None else set()):
            share.notice(ino)

    def _look_again(
        self,
        moved: Inode,
        old_parent: int,
        old_name: bytes,
        target: Inode | None,
        new_parent: int,
        new_name: bytes,
        exchange: bool,
    ) -> None:
        """After the awaits: both names must still be what was checked, and no directory may land in itself."""
        meta = self._share.meta
        current = meta.lookup(old_parent, old_name)
        if current is None or current.ino != moved.ino:
            raise NoEntry(old_name.decode(errors="replace"))
        now_there = meta.lookup(new_parent, new_name)
        if (now_there.ino if now_there else 0) != (target.ino if target else 0):
            raise EntryExists(new_name.decode(errors="replace"))
        if target is not None and not exchange and meta.has_children(target.ino):
            raise DirectoryNotEmpty(new_name.decode(errors="replace"))
        self._share.directory(new_parent)
        if moved.is_directory:
            self._check_not_below(moved.ino, new_parent)
        if exchange and target is not None and target.is_directory:
            self._check_not_below(target.ino, old_parent)

    def _check_not_below(self, ino: int, parent: int) -> None:
        while parent != ROOT_INO:
            if parent == ino:
                raise InvalidArgument("a directory cannot be moved into itself")
            parent = self._share.meta.require(parent).parent

    async def _check_replaceable(self, moved: Inode, target: Inode) -> None:
        if moved.is_directory:
            if not target.is_directory:
                raise NotADirectory(target.name.decode(errors="replace"))
            await self._namespace.check_empty(target)
        elif target.is_directory:
            raise IsADirectory(target.name.decode(errors="replace"))

    async def _check_depth(self, moved: Inode, new_parent: int, new_name: bytes) -> None:
        """NameTooLong now rather than half-way through the copies."""
        share = self._share
        parent = share.directory(new_parent)
        share.check_key(parent, new_name)
        if not moved.is_directory or moved.directory is None:
            return
        new_bytes = len(share.meta.key_of(parent).encode()) + len(new_name) + 1
        if new_bytes > len(share.meta.key_of(moved).encode()):
            share.check_key(parent, new_name, below_bytes=await self._longest_below(moved))

    async def _longest_below(self, top: Inode) -> int:
        """Length of the longest path below a directory, relative to it; asks the bucket about what was never listed."""
        meta = self._share.meta
        longest = 0
        waiting = [(top, 0)]
        while waiting:
            directory, depth = waiting.pop()
            details = directory.directory
            if details is None:
                continue
            if not details.complete:
                longest = max(longest, depth + await self._share.refresh.longest_below(directory.ino))
            if not details.subdirectories:
                # ``deepest_bytes`` remembers the longest name there ever was; near enough where nothing is deeper.
                longest = max(longest, depth + details.deepest_bytes)
                continue
            after = 0
            while batch := meta.children(directory.ino, after, 500):
                after = batch[-1]
                for child in filter(None, map(meta.inode, batch)):
                    reach = depth + len(child.name) + child.is_directory
                    longest = max(longest, reach)
                    if child.is_directory:
                        waiting.append((child, reach))
                await trio.lowlevel.checkpoint()
        return longest

    def _place(self, tx: Transaction, inode: Inode, parent: int, name: bytes, now_ns: int) -> None:
        current = tx.require(inode.ino)
        details = current.directory
        if details is not None:
            details = msgspec.structs.replace(details, children_unsettled=True)
        tx.put(
            msgspec.structs.replace(
                current,
                parent=parent,
                name=name,
                ctime_ns=now_ns,
                directory=details,
                dirty_since_ns=current.dirty_from(now_ns),
            )
        )

    def _swap(self, tx: Transaction, first: Inode, second: Inode, now_ns: int) -> None:
        a, b = tx.require(first.ino), tx.require(second.ino)
        self._place(tx, a, b.parent, b.name, now_ns)
        self._place(tx, b, a.parent, a.name, now_ns)
