"""One atomic change of the namespace.

Nothing touches the store before the body of the ``with`` statement ends without an error; then everything becomes one
journal frame and is visible at once. No ``await`` inside: the loop's thread is the only one that changes records, so a
transaction sees nobody else's half-done work. What follows from a changed inode is worked out in ``changeset.py``.
"""

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from gatewayfs.meta import codec
from gatewayfs.meta.changeset import ChangeSet
from gatewayfs.meta.schema import (
    Doomed,
    Event,
    Fence,
    Fingerprints,
    Notification,
    Parked,
    Seal,
    Settling,
    Target,
    UploadState,
)
from gatewayfs.types import Ino

if TYPE_CHECKING:
    from gatewayfs.meta.env import MetaStore


class Transaction(ChangeSet):
    """Use as ``with store.transaction() as tx``; see the module's story.

    Leaving the ``with`` block raises NoSpace or CacheDiskFailed when the journal cannot take the change, and
    CorruptRecord when the change would break an invariant of ``schema.py``; the store is then as before.
    """

    def __init__(self, store: "MetaStore") -> None:
        super().__init__(store)
        self.reserved_ino = 0
        """First inode number that is not reserved once this transaction is committed; 0: unchanged."""
        self._store = store

    def __enter__(self) -> Self:
        self._store.begin(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.verify()
                self._store.commit(self)
        finally:
            self._store.end()

    def new_ino(self) -> Ino:
        """A number no inode ever had or will have. If this transaction fails, it may come again after a restart."""
        return self._store.allocate_ino(self)

    def remove(self, ino: int) -> None:
        """Forget an inode for good: its record and all that hangs on it. Raises as ``ChangeSet.remove``."""
        super().remove(ino)
        self.put_parked(ino, None)
        if self.raw(codec.upload_key(ino)) is not None:
            self.put_upload(ino, None)
        if self.raw(codec.fingerprints_key(ino)) is not None:
            self.put_fingerprints(ino, None)
        if self.raw(codec.seal_key(ino)) is not None:
            self.put_seal(ino, None)
        if self.raw(codec.fence_key(ino)) is not None:
            self.put_fence(ino, None)

    def doom(self, doomed: Doomed) -> None:
        """Condemn an object that no inode holds (any more, by the end of this transaction)."""
        key = codec.doomed_key(doomed.key)
        if self.raw(key) is None:
            self.counters.doomed += 1
        self.put_copied(key, codec.encode(doomed))
        self.claim(doomed.key)

    def undoom(self, key: str) -> None:
        """The object is gone, or wanted again. Nothing happens when it was not doomed."""
        raw_key = codec.doomed_key(key)
        if self.raw(raw_key) is not None:
            self.counters.doomed -= 1
            self.put_copied(raw_key, None)

    def put_upload(self, ino: int, state: UploadState | None) -> None:
        """Remember (or forget) the multipart upload under way for ``ino``."""
        self.put_copied(codec.upload_key(ino), None if state is None else codec.encode(state))

    def put_fingerprints(self, ino: int, fingerprints: Fingerprints | None) -> None:
        """Remember (or forget) those of the object the inode's record names by now."""
        self.changes[codec.fingerprints_key(ino)] = None if fingerprints is None else codec.encode(fingerprints)

    def put_seal(self, ino: int, seal: Seal | None) -> None:
        """Remember (or forget) what the bytes of the inode's present content revision are."""
        self.changes[codec.seal_key(ino)] = None if seal is None else codec.encode(seal)

    def put_fence(self, ino: int, fence: Fence | None) -> None:
        """Remember (or forget) which bytes of ``ino`` are damaged and only here."""
        self.put_copied(codec.fence_key(ino), None if fence is None else codec.encode(fence))

    def put_parked(self, ino: int, parked: Parked | None) -> None:
        """Remember (or forget) why the upload of ``ino`` waits."""
        key = codec.parked_key(ino)
        was = self.raw(key) is not None
        self.counters.parked += (parked is not None) - was
        if was or parked is not None:
            self.put_copied(key, None if parked is None else codec.encode(parked))

    def put_event(self, number: int, event: Event | None) -> None:
        """Keep something to be told, or forget it."""
        self.changes[codec.event_key(number)] = None if event is None else codec.encode(event)

    def put_settling(self, ino: int, settling: Settling | None) -> None:
        """Keep (or forget) what is to be told of an upload when its writer rests."""
        self.changes[codec.settling_key(ino)] = None if settling is None else codec.encode(settling)

    def put_target(self, name: str, target: Target | None) -> None:
        """Remember (or forget) how far a target of events is."""
        self.changes[codec.target_key(name)] = None if target is None else codec.encode(target)

    def put_notification(self, identity: bytes, notification: Notification | None) -> None:
        """Remember (or forget) that somebody wants to know when all is in the bucket; ``identity``: 16 bytes."""
        self.changes[codec.waiting_key(identity)] = None if notification is None else codec.encode(notification)

    def put_setting(self, name: str, value: bytes | None) -> None:
        """Write (or delete) a setting."""
        self.put_copied(codec.setting_key(name), value)

    def after_durable(self, callback: Callable[[], None]) -> None:
        """Call back on the loop's thread once LMDB holds this transaction, synced. Lost by a crash."""
        self.callbacks.append(callback)

    def needs_data_sync(self, path: str) -> None:
        """The cache file at ``path`` (absolute) must be on disk before this transaction may count after power loss."""
        self.data_paths.append(path)
