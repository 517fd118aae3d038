"""Bringing a listing into the records, slice by slice, each in one transaction.

Everything is decided inside the transaction, on the records of that moment: between the LIST and its application the
directory may have been renamed, a name taken, a file written to or deleted. Nothing here awaits. A slice is small
enough to keep the loop for a few milliseconds only.

What is never done: touch a dirty inode's wanted state, show an object that is in motion (``motion.py``), or change a
name that a local file or directory has taken.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from gatewayfs.errors import GatewayError, StaleInode
from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.schema import Inode
from gatewayfs.meta.transaction import Transaction
from gatewayfs.refresh import records
from gatewayfs.refresh.diff import Verdict, judge_object, judge_prefix
from gatewayfs.refresh.listingpass import ListingPass
from gatewayfs.refresh.motion import Motion, View
from gatewayfs.refresh.news import News
from gatewayfs.refresh.records import replace
from gatewayfs.refresh.settings import Oddities
from gatewayfs.runtime.clock import Clock
from gatewayfs.runtime.kernel import Kernel
from gatewayfs.s3.attributes import ShareDefaults
from gatewayfs.s3.store import ListedObject, ObjectInfo


class CachedBytes(Protocol):
    """What refresh needs of the content cache."""

    def open_count(self, ino: int) -> int:
        """Open handles of an inode."""
        ...

    def forget(self, tx: Transaction, inode: Inode) -> Inode:
        """The record without its cached bytes, whose space comes back when ``tx`` is durable."""
        ...

    def rebase(self, tx: Transaction, inode: Inode) -> Inode:
        """The same for an object that changed; open handles keep the bytes they have."""
        ...


class SourceMoved(GatewayError):
    """The directory's listing comes from elsewhere by now: a renamed directory has finished moving."""


class Applier:
    """Applies LIST rows (and whatever else the bucket says) to the records.

    Args:
        notice: called with the ino of each inode this makes dirty.
    """

    def __init__(
        self,
        meta: MetaStore,
        cache: CachedBytes,
        kernel: Kernel,
        clock: Clock,
        defaults: ShareDefaults,
        motion: Motion,
        notice: Callable[[int], None],
    ) -> None:
        self.meta = meta
        self.motion = motion
        self.own = motion.own
        self.defaults = defaults
        self.shadowed = Oddities()
        self.unrepresentable = Oddities()
        self._cache = cache
        self._kernel = kernel
        self._clock = clock
        self._notice = notice

    @contextmanager
    def change(self) -> Iterator[tuple[Transaction, News]]:
        """A transaction, and the news to tell when it is committed."""
        news = News()
        with self.meta.transaction() as tx:
            yield tx, news
        news.tell(self._kernel, self._dirtied)

    def _dirtied(self, ino: int) -> None:
        self.motion.claims.note(ino)
        self._notice(ino)

    def now_ns(self) -> int:
        return self._clock.time_ns()

    def directory(self, tx: Transaction, walk: ListingPass) -> Inode:
        """The record of the directory being listed. Raises StaleInode, SourceMoved."""
        inode = tx.require(walk.ino)
        if inode.directory is None or not inode.linked:
            raise StaleInode(f"inode {walk.ino} is no directory any more")
        if inode.directory.source != walk.source:
            raise SourceMoved(f"inode {walk.ino} is not listed from {walk.source!r} any more")
        return inode

    # ------------------------------------------------------------------ objects

    def objects(self, walk: ListingPass, rows: Sequence[tuple[bytes, ListedObject]], mark: int) -> None:
        """Apply objects below the directory. ``mark``: taken before the request that showed them."""
        with self.change() as (tx, news):
            moving = tx.key_of(self.directory(tx, walk)) != walk.source
            view = self.motion.view(tx, mark)
            before = walk.tally.added
            walk.tally.names += len(rows)
            for name, row in rows:
                self._object(tx, news, walk, view, name, row, moving)
            if walk.tally.added != before:
                self.names_changed(tx, news, walk)

    def found(self, walk: ListingPass, name: bytes, info: ObjectInfo, mark: int) -> None:
        """Apply one object that a HEAD found: it has told everything, so there is no second one for its attributes."""
        row = ListedObject(info.key, info.etag, info.size, info.last_modified_ns, info.storage_class)
        self.objects(walk, [(name, row)], mark)
        with self.change() as (tx, _):
            inode = tx.lookup(walk.ino, name)
            if inode is None or inode.remote is None or inode.attributes_known:
                return
            if (inode.remote.key, inode.remote.etag) == (info.key, info.etag):
                tx.put(records.with_attributes(inode, info, self.defaults))

    def _object(
        self, tx: Transaction, news: News, walk: ListingPass, view: View, name: bytes, row: ListedObject, moving: bool
    ) -> None:
        child = tx.lookup(walk.ino, name)
        if child is not None and child.directory is None:
            walk.saw(child.ino)
        if view.changed(row.key):
            return
        verdict = judge_object(row, child)
        if verdict is Verdict.SAME:
            return
        if child is None:
            if not view.moves(row.key, row.etag):
                self._add_file(tx, news, walk, name, row, moving)
        elif verdict is Verdict.SHADOWED:
            if not view.moves(row.key, row.etag):
                self._shadow(walk, row.key)
                walk.hide(name, row)
        elif verdict is Verdict.LOCAL:
            holder = tx.holder(row.key)
            if tx.doomed(row.key) is None and (holder is None or holder.ino == child.ino):
                walk.tally.kept_dirty += 1
                walk.tally.conflicts += 1
        elif verdict is Verdict.LEARN:
            tx.put(records.learnt(child, row))
        else:
            self._changed_file(tx, news, child, row, same_bytes=verdict is Verdict.TOUCHED)
            walk.tally.changed += 1

    def _add_file(
        self, tx: Transaction, news: News, walk: ListingPass, name: bytes, row: ListedObject, moving: bool
    ) -> None:
        ghost = tx.holder(row.key)
        if ghost is not None:
            # Removed here and still open: the object it was read from was replaced, and its key is another's now.
            tx.put(replace(ghost, remote=None))
        ino = tx.new_ino()
        dirty_since_ns = self.now_ns() if moving else 0
        tx.put(records.new_file(ino, walk.ino, name, row, self.defaults, dirty_since_ns))
        if moving:
            news.dirty(ino)
        self._added(news, walk, name, ino)

    def _changed_file(self, tx: Transaction, news: News, inode: Inode, row: ListedObject, *, same_bytes: bool) -> None:
        if same_bytes:
            tx.put(records.touched(inode, row, self.now_ns()))
        else:
            tx.put(records.replaced(self._cache.rebase(tx, inode), row, self.now_ns()))
        news.stale(inode.ino, attributes_only=same_bytes)

    # ------------------------------------------------------------------ directories

    def prefixes(self, walk: ListingPass, rows: Sequence[tuple[bytes, str]], mark: int) -> Sequence[tuple[bytes, str]]:
        """Apply common prefixes below the directory; return those to be verified first (``motion.py``)."""
        with self.change() as (tx, news):
            moving = tx.key_of(self.directory(tx, walk)) != walk.source
            before = walk.tally.added
            walk.tally.names += len(rows)
            unknown: list[tuple[bytes, str, Inode | None]] = []
            for name, prefix in rows:
                child = tx.lookup(walk.ino, name)
                if child is None or child.directory is None:
                    unknown.append((name, prefix, child))
                else:
                    walk.saw(child.ino)
                    self._known_directory(tx, news, walk, prefix, child)
            unknown = [row for row in unknown if not self.motion.claims.claimant(tx, row[1], walk.ino)]
            doubtful = self._suspects(tx, walk, {prefix for _, prefix, _ in unknown}, mark)
            for name, prefix, child in unknown:
                if prefix not in doubtful:
                    self._unknown_directory(tx, news, walk, name, prefix, child, moving)
            if walk.tally.added != before:
                self.names_changed(tx, news, walk)
        return [(name, prefix) for name, prefix, _ in unknown if prefix in doubtful]

    def confirmed(self, walk: ListingPass, name: bytes, prefix: str) -> None:
        """``prefix`` was verified: there is something below it to show."""
        with self.change() as (tx, news):
            moving = tx.key_of(self.directory(tx, walk)) != walk.source
            child = tx.lookup(walk.ino, name)
            if child is None or child.directory is None:
                self._unknown_directory(tx, news, walk, name, prefix, child, moving)
                self.names_changed(tx, news, walk)

    def _suspects(self, tx: Transaction, walk: ListingPass, prefixes: set[str], mark: int) -> set[str]:
        if not prefixes:
            return prefixes
        return self.motion.suspects(tx, walk.source, prefixes, mark)

    def _known_directory(self, tx: Transaction, news: News, walk: ListingPass, prefix: str, child: Inode) -> None:
        verdict = judge_prefix(prefix, child)
        assert child.directory is not None
        listed = child.directory.complete
        if verdict is Verdict.ADOPT:
            child = replace(child, directory=replace(child.directory, source=prefix))
            tx.put(child)
        elif verdict is not Verdict.SAME:
            return
        if not walk.renewing:
            return
        if walk.recursive and (listed or tx.has_children(child.ino)):
            walk.subdirectories.append(child.ino)
        elif child.attributes_known and not child.dirty_since_ns:
            # A common prefix says nothing of the marker, which may carry other attributes by now.
            tx.put(replace(child, attributes_known=False))
            news.stale(child.ino, attributes_only=True)

    def _unknown_directory(
        self,
        tx: Transaction,
        news: News,
        walk: ListingPass,
        name: bytes,
        prefix: str,
        child: Inode | None,
        moving: bool,
    ) -> None:
        if judge_prefix(prefix, child) is Verdict.LOCAL:
            self._shadow(walk, prefix)
            return
        if child is not None:
            if walk.has_seen(child.ino):
                self._shadow(walk, prefix[:-1])
            self.unlink(tx, news, child)
        ino = tx.new_ino()
        tx.put(records.new_directory(ino, walk.ino, name, prefix, self.defaults, self.now_ns(), moving=moving))
        if moving:
            news.dirty(ino)
        self._added(news, walk, name, ino)

    # ------------------------------------------------------------------ small parts

    def strange(self, walk: ListingPass, keys: Sequence[str]) -> None:
        """Count keys no POSIX path can hold."""
        walk.tally.unrepresentable += len(keys)
        self.unrepresentable.show(keys)

    def unlink(self, tx: Transaction, news: News, inode: Inode) -> None:
        """Others removed it: take the inode out of the namespace. Open files live on without a name."""
        news.gone(inode.parent, inode.name, inode.ino)
        if self._cache.open_count(inode.ino):
            # Without an object, too: its key is free for others, and reading bytes that are not here must fail.
            nameless = replace(inode, parent=0, name=b"", remote=None, dirty_since_ns=0, ctime_ns=self.now_ns())
            tx.put(nameless)
        else:
            self._cache.forget(tx, inode)
            tx.remove(inode.ino)

    def rebased(self, tx: Transaction, inode: Inode) -> Inode:
        """The record of a clean file without the bytes of the object that was replaced."""
        return self._cache.rebase(tx, inode)

    def _shadow(self, walk: ListingPass, key: str) -> None:
        walk.tally.shadowed += 1
        self.shadowed.show([key])

    def _added(self, news: News, walk: ListingPass, name: bytes, ino: int) -> None:
        walk.saw(ino)
        walk.tally.added += 1
        if walk.tell:
            news.appeared(walk.ino, name)

    def names_changed(self, tx: Transaction, news: News, walk: ListingPass) -> None:
        """Names appeared in (or went from) a directory that somebody may have read already."""
        if walk.renewing:
            self.entries_changed(tx, news, walk.ino)

    def entries_changed(self, tx: Transaction, news: News, ino: int) -> None:
        """Others changed the entries of a directory: its times move, for NFS clients, but are not uploaded."""
        now_ns = self.now_ns()
        tx.put(replace(tx.require(ino), mtime_ns=now_ns, ctime_ns=now_ns))
        news.stale(ino, attributes_only=False)
