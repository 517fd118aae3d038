"""What HEAD (or a GET's headers) says of one object, brought into the record of who was asked about.

Decided inside the transaction, on the record of that moment: what was asked for may have been renamed, written to or
removed here meanwhile. Local changes stay; what the bucket says of a clean inode is news.
"""

from gatewayfs.meta.schema import Inode
from gatewayfs.meta.transaction import Transaction
from gatewayfs.refresh import records
from gatewayfs.refresh.apply import Applier
from gatewayfs.refresh.diff import same_time
from gatewayfs.refresh.news import News
from gatewayfs.refresh.records import replace
from gatewayfs.s3.store import ObjectInfo


class Answers:
    """Applies them."""

    def __init__(self, applier: Applier) -> None:
        self._applier = applier

    def apply(self, ino: int, key: str, info: ObjectInfo | None, mark: int) -> None:
        """The bucket said what is at ``key``. ``mark``: taken before it was asked."""
        with self._applier.change() as (tx, news):
            current = tx.inode(ino)
            if current is None or asked_key(current) != key or self._applier.own.changed(key, mark):
                return  # changed by us meanwhile: whoever still needs to know asks again
            if info is None:
                self._missing(tx, news, current)
            else:
                self._found(tx, news, current, info, mark)

    def _missing(self, tx: Transaction, news: News, inode: Inode) -> None:
        """No object there: an implicit directory, or a file that others removed."""
        if inode.dirty_since_ns or not inode.linked:
            # The uploader finds out when it needs the object; meanwhile the provisional attributes stand.
            tx.put(replace(inode, attributes_known=True))
        elif inode.is_directory:
            tx.put(records.without_marker(inode))
        else:
            self._applier.unlink(tx, news, inode)
            self._applier.entries_changed(tx, news, inode.parent)

    def _found(self, tx: Transaction, news: News, inode: Inode, info: ObjectInfo, mark: int) -> None:
        was = inode
        if inode.is_directory:
            if inode.remote is None and self._applier.motion.view(tx, mark).moves(info.key, info.etag):
                self._missing(tx, news, inode)  # somebody else's marker, on its way out
                return
            # A directory that is being moved before anybody looked at its marker has to take it along.
            unasked = inode.remote is None and not inode.attributes_known
            if not inode.dirty_since_ns or unasked:
                inode = records.with_marker(inode, info)
        elif not inode.dirty_since_ns and inode.linked:
            inode = self._renewed(tx, news, inode, info)
        if not inode.attributes_known:
            inode = records.with_attributes(inode, info, self._applier.defaults)
        if inode == was:
            return
        tx.put(inode)
        if was.attributes_known:
            news.stale(inode.ino, attributes_only=True)
        if inode.mode != was.mode and inode.is_symlink != was.is_symlink and inode.linked:
            news.appeared(inode.parent, inode.name)  # the kernel may hold it for a regular file

    def _renewed(self, tx: Transaction, news: News, inode: Inode, info: ObjectInfo) -> Inode:
        """A clean file's record after comparing it with what HEAD found."""
        remote = inode.remote
        assert remote is not None
        now_ns = self._applier.now_ns()
        if info.size != remote.size or remote.etag not in ("", info.etag):
            news.stale(inode.ino, attributes_only=False)
            return records.replaced(self._applier.rebased(tx, inode), info, now_ns)
        if remote.last_modified_ns and not same_time(info.last_modified_ns, remote.last_modified_ns):
            return records.touched(inode, info, now_ns)
        if not (remote.etag and remote.last_modified_ns):
            return replace(inode, remote=records.remote_of(info, inode))
        if inode.attributes_known:
            return inode
        return replace(inode, remote=replace(remote, version_id=info.version_id))  # LIST does not say it


def asked_key(inode: Inode) -> str:
    """What to HEAD: the object we know of, or where a directory's marker would be; "" for nothing."""
    if inode.remote is not None:
        return inode.remote.key
    return (inode.directory.source or "") if inode.directory is not None else ""
