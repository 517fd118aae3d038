"""What a listing says of the directory itself: its marker object, and that it is complete.

A directory may have a marker, an object whose key is the directory's prefix and whose metadata is its mode, owner and
times. LIST shows it first. Consoles and other tools make and delete markers freely, some put data into them: a marker
decides the directory's attributes and nothing else.
"""

from gatewayfs.refresh import records
from gatewayfs.refresh.apply import Applier
from gatewayfs.refresh.diff import Verdict, judge_remote
from gatewayfs.refresh.listingpass import ListingPass
from gatewayfs.refresh.records import replace
from gatewayfs.s3.store import ListedObject


def found(applier: Applier, walk: ListingPass, row: ListedObject, mark: int) -> None:
    """The listing shows the directory's own marker. ``mark``: taken before the request."""
    walk.marker_seen = True
    with applier.change() as (tx, news):
        inode = applier.directory(tx, walk)
        # A directory that is being moved before anybody looked at its marker has to take it along.
        unasked = inode.remote is None and not inode.attributes_known
        if applier.own.changed(row.key, mark) or (inode.dirty_since_ns and not unasked):
            return
        if inode.remote is None:
            if applier.motion.view(tx, mark).moves(row.key, row.etag):
                return
            tx.put(records.with_marker(inode, row))
        elif inode.remote.key != row.key:
            return
        else:
            verdict = judge_remote(row, inode.remote, dirty=False)
            if verdict is Verdict.SAME:
                return
            if verdict is Verdict.LEARN:
                tx.put(records.learnt(inode, row))
                return
            tx.put(records.touched(inode, row, applier.now_ns()))
        walk.tally.changed += walk.renewing
        news.stale(walk.ino, attributes_only=True)


def lost(applier: Applier, walk: ListingPass) -> None:
    """The directory has no marker object, perhaps any more: it exists because keys below it do."""
    with applier.change() as (tx, news):
        inode = applier.directory(tx, walk)
        if inode.remote is None or inode.dirty_since_ns or applier.own.changed(walk.source, walk.mark):
            return
        tx.put(records.without_marker(inode))
        walk.tally.changed += walk.renewing
        news.stale(walk.ino, attributes_only=True)


def finish(applier: Applier, walk: ListingPass) -> None:
    """Every page was applied and swept: the directory is complete, and has no marker unless one was shown."""
    with applier.change() as (tx, news):
        inode = applier.directory(tx, walk)
        unmarked = not walk.marker_seen and not inode.dirty_since_ns and walk.source != ""
        if unmarked and not applier.own.changed(walk.source, walk.mark):
            if inode.remote is not None:
                walk.tally.changed += walk.renewing
                news.stale(walk.ino, attributes_only=True)
            inode = records.without_marker(inode)
        assert inode.directory is not None
        if not inode.directory.complete:
            # Its subdirectories are counted from now on: the kernel's link count is not the real one.
            news.stale(walk.ino, attributes_only=True)
        hidden = walk.tally.unrepresentable + walk.tally.shadowed
        listed = replace(inode.directory, complete=True, listed_ns=walk.begun_ns, hidden=hidden)
        tx.put(replace(inode, directory=listed))
    applier.shadowed.replace(walk.ino, walk.tally.shadowed)
    applier.unrepresentable.replace(walk.ino, walk.tally.unrepresentable)


def adopt(applier: Applier, ino: int) -> str | None:
    """Where to list a directory made here: its own place, once it has settled; None before.

    Raises StaleInode when it has no name any more.
    """
    with applier.meta.transaction() as tx:
        inode = tx.require(ino)
        if inode.directory is None or inode.dirty_since_ns:
            return None
        source = tx.key_of(inode)
        tx.put(replace(inode, directory=replace(inode.directory, source=source)))
        return source
