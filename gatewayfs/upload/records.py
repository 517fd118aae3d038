"""The transactions that record what the bucket holds.

Every function here is one transaction, so a crash finds either the state before (the step is taken again, and the
attempt recorded beforehand tells our own object from other people's) or the state after.

    sent        the object at ``remote.key`` is this inode's now; what was there before is not anybody's any more
    settle      nothing differs: the inode leaves the queue
    attempt     what we are about to write, before we do
"""

import msgspec

from gatewayfs.errors import StaleInode
from gatewayfs.meta.env import MetaStore, Transaction
from gatewayfs.meta.schema import Attempt, Directory, Doomed, Fingerprints, Inode, Remote, UploadState
from gatewayfs.upload.entries import Target
from gatewayfs.upload.news import News
from gatewayfs.upload.plan import content_differs, differs

NOTHING = UploadState("", "", 0, 0, 0)
"""Nothing is under way."""

ATTEMPTS_KEPT = 4
"""Lost answers remembered per inode. Each further one needs another crash or time-out before the first is resolved."""


def wanted_key(meta: MetaStore | Transaction, inode: Inode) -> str | None:
    """The key an inode's name asks for; None when it, or a directory above it, has no name."""
    if not inode.linked:
        return None
    try:
        return meta.key_of(inode)
    except StaleInode:
        return None


def record_sent(
    meta: MetaStore,
    ino: int,
    remote: Remote,
    now_ns: int,
    *,
    news: News,
    completed: str = "",
    fingerprints: Fingerprints | None = None,
    copied: Remote | None = None,
) -> list[Target]:
    """``remote`` is in the bucket and is this inode's. Returns what must be looked at now because of it.

    Args:
        news: hears of bytes that were not at that key before.
        completed: the id of the multipart upload that made it; another one that is under way stays recorded, to be
            aborted.
        fingerprints: what is known of its bytes.
        copied: the object it is a copy of, whose fingerprints it keeps.

    The object that used to lie at ``remote.key`` is gone: a doomed entry is dropped, an unlinked inode that might still
    have read from it forgets it. The object the inode had elsewhere is doomed. An inode that lost its name meanwhile
    keeps its new object only as long as it is open (see ``release``).
    """
    with meta.transaction() as tx:
        release_key(tx, remote.key, ino)
        inode = tx.inode(ino)
        if inode is None:
            tx.doom(Doomed(remote.key, remote.etag, now_ns, version_id=remote.version_id))
            return [remote.key]
        state = tx.upload_state(ino)
        unfinished = state is not None and (state.creating_ns or state.upload_id not in ("", completed))
        tx.put_upload(ino, msgspec.structs.replace(state, attempts=()) if state is not None and unfinished else None)
        follow: list[Target] = []
        old = inode.remote
        if copied is not None and (known := tx.fingerprints(ino)) is not None and known.describes(copied):
            fingerprints = msgspec.structs.replace(known, key=remote.key, etag=remote.etag)
        inode = msgspec.structs.replace(inode, remote=remote)
        tx.put_parked(ino, None)
        if inode.linked:
            tx.put(marked(tx, inode, now_ns))
            if old is None or (old.key, old.content_revision) != (remote.key, remote.content_revision):
                news.uploaded(tx, inode, remote)
        else:
            tx.put(msgspec.structs.replace(inode, dirty_since_ns=inode.dirty_since_ns or now_ns))
            follow.append(ino)
        if fingerprints is not None:
            tx.put_fingerprints(ino, fingerprints)
        if old is not None and old.key != remote.key:
            tx.doom(Doomed(old.key, old.etag, now_ns, version_id=old.version_id))
            follow.append(old.key)
        return follow


def release(tx: Transaction, inode: Inode, now_ns: int, *, in_use: bool, reads: bool) -> str | None:
    """Do to the bucket's side of an inode what losing its name means; call it inside the transaction of the unlink.

    The record is removed, or stays without a name: while it is in use, or because something is under way in the bucket
    that must be cleaned up first. Then notice it now and at its last close, and the uploader does the rest.

    Args:
        inode: the record, perhaps already without a name.
        in_use: somebody has it open.
        reads: in use, and bytes that are only in the bucket may still be read: the object stays until the last close.

    Returns:
        the key that is doomed now (notice it), or None.
    """
    pending = tx.upload_state(inode.ino) is not None
    remote = inode.remote
    if in_use or pending:
        dirty = inode.dirty_since_ns or (now_ns if pending else 0)
        tx.put(
            msgspec.structs.replace(inode, parent=0, name=b"", remote=remote if reads else None, dirty_since_ns=dirty)
        )
    else:
        tx.remove(inode.ino)
    if remote is None or reads:
        return None
    tx.doom(Doomed(remote.key, remote.etag, now_ns, version_id=remote.version_id))
    return remote.key


def marked(tx: MetaStore | Transaction, inode: Inode, now_ns: int) -> Inode:
    """The record with ``dirty_since_ns`` as it must be: 0 exactly when nothing differs from the bucket."""
    key = wanted_key(tx, inode)
    if key is None or not differs(inode, key):
        return msgspec.structs.replace(inode, dirty_since_ns=0, directory=_at_source(inode.directory, key))
    fresh = inode.dirty_since_ns == 0 or (inode.remote is not None and content_differs(inode))
    return msgspec.structs.replace(inode, dirty_since_ns=now_ns if fresh else inode.dirty_since_ns)


def _at_source(directory: Directory | None, key: str | None) -> Directory | None:
    """A directory made here is listed from where it is once it has settled. One that has a source keeps it: if that is
    not where it is, a directory above was renamed, and its children are still there."""
    if directory is None or key is None or directory.source is not None or directory.children_unsettled:
        return directory
    return msgspec.structs.replace(directory, source=key)


def settle(meta: MetaStore, ino: int, now_ns: int) -> bool:
    """Take an inode out of the queue if, by its present record, nothing differs. Returns whether it is out."""
    with meta.transaction() as tx:
        inode = tx.inode(ino)
        if inode is None:
            return True
        after = marked(tx, inode, now_ns)
        if after.dirty_since_ns:
            return False
        if after != inode:
            tx.put(after)
        if tx.parked(ino) is not None:
            tx.put_parked(ino, None)
        return True


def mark_dirty(meta: MetaStore, inode: Inode, now_ns: int) -> None:
    """Put an inode into the queue that turned out to differ without being in it."""
    if not inode.dirty_since_ns:
        with meta.transaction() as tx:
            tx.put(msgspec.structs.replace(tx.require(inode.ino), dirty_since_ns=now_ns))


def release_key(tx: Transaction, key: str, for_ino: int) -> None:
    """The object at ``key`` was replaced or is gone: nobody but ``for_ino`` may still be recorded as having it."""
    tx.undoom(key)
    holder = tx.holder(key)
    if holder is not None and holder.ino != for_ino:
        assert not holder.linked, f"{key} still holds the bytes of inode {holder.ino}"
        tx.put(msgspec.structs.replace(holder, remote=None))


def forget_object(meta: MetaStore, key: str) -> None:
    """The object at ``key`` that nobody wanted any more is gone, or turned out not to be ours to delete."""
    with meta.transaction() as tx:
        release_key(tx, key, 0)


def remember_attempt(meta: MetaStore, ino: int, attempt: Attempt) -> None:
    """About to write: should the answer get lost, this tells our object from other people's. Raises StaleInode."""
    state = meta.upload_state(ino) or NOTHING
    kept = tuple(old for old in state.attempts if old != attempt)[-(ATTEMPTS_KEPT - 1) :]
    save_upload(meta, ino, msgspec.structs.replace(state, attempts=(*kept, attempt)))


def forget_attempt(meta: MetaStore, ino: int, attempt: Attempt) -> None:
    """It certainly had no effect, or what it made is accounted for."""
    state = meta.upload_state(ino)
    if state is None or attempt not in state.attempts:
        return
    kept = tuple(old for old in state.attempts if old != attempt)
    with meta.transaction() as tx:
        tx.put_upload(ino, _or_none(msgspec.structs.replace(state, attempts=kept)))


def save_upload(meta: MetaStore, ino: int, state: UploadState) -> None:
    """Remember what is under way for an inode; raises StaleInode when there is no such inode any more."""
    with meta.transaction() as tx:
        tx.require(ino)
        tx.put_upload(ino, _or_none(state))


def forget_upload(meta: MetaStore, ino: int) -> None:
    """The upload in parts is over, whatever came of it; the attempts stay."""
    state = meta.upload_state(ino)
    if state is not None:
        with meta.transaction() as tx:
            tx.put_upload(ino, _or_none(msgspec.structs.replace(NOTHING, attempts=state.attempts)))


def forget_fingerprints(meta: MetaStore, ino: int) -> bool:
    """Send the file whole the next time. Returns whether there were any."""
    if meta.fingerprints(ino) is None:
        return False
    with meta.transaction() as tx:
        tx.put_fingerprints(ino, None)
    return True


def _or_none(state: UploadState) -> UploadState | None:
    return state if state.upload_id or state.creating_ns or state.attempts else None
