"""Small files come from the bucket whole, into a pack: by a GET of their own, or with their attributes."""

from collections.abc import Callable
from dataclasses import dataclass

from gatewayfs.cache.live import Content
from gatewayfs.cache.packs import Packs
from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.schema import Remote
from gatewayfs.s3.store import ObjectStore
from gatewayfs.types import ETag, ObjectKey


class BucketMovedOn(Exception):
    """The object is not the one the record describes any more (internal: the record must be looked up again)."""


@dataclass(frozen=True, slots=True)
class Brought:
    """All bytes of an object, which came together with its attributes."""

    etag: str
    data: bytes


class WholeFiles:
    """Brings them.

    Args:
        small_file_bytes: files up to this size are small.
        count: told how many bytes each answer had.
    """

    def __init__(
        self, meta: MetaStore, store: ObjectStore, packs: Packs, small_file_bytes: int, count: Callable[[int], None]
    ) -> None:
        self._meta = meta
        self._store = store
        self._packs = packs
        self._small_file_bytes = small_file_bytes
        self._count = count

    def fits(self, content: Content, remote: Remote) -> bool:
        """Whether a live file is small, and nothing of it is here or on its way."""
        small = content.size == remote.size <= self._small_file_bytes
        return small and not content.extents and not content.intake.downloads

    async def fetch(self, content: Content, remote: Remote, given: Brought | None = None) -> None:
        """Put the bytes of ``remote`` into a pack, unless they are here by now or the file is changed: look again.

        Args:
            given: the bytes, if they have come already; another object's are not taken.

        Raises:
            StoreError: PreconditionFailed, ObjectNotFound ... BucketMovedOn: its size is not what the record says.
            CacheDiskFull, CacheDiskFailed: no place for the bytes.
        """
        inode = self._meta.require(content.ino)
        async with content.gate.hold(0, max(1, content.size)):
            if content.in_pack or content.buffer is not None or content.extents:
                return
            if given is not None and given.etag == remote.etag:
                data = given.data
            else:
                etag = ETag(remote.etag) if remote.etag else None
                _, data = await self._store.get(ObjectKey(remote.key), 0, remote.size, if_match=etag)
            if len(data) != remote.size:
                raise BucketMovedOn(f"the object has {len(data)} bytes, not {remote.size}")
            self._count(len(data))
            if content.size != len(data) or content.extents or content.buffer is not None:
                return  # written or truncated meanwhile
            if not content.being_changed:
                content.placement = self._packs.append(content.ino, inode.content_revision, data)
                content.residence_changed = True
                return
        # Somebody is about to write, and has decided already that the bytes go to a sparse file: they must not be
        # in two places. (Waiting for them inside the gate would be for ever: they wait for the gate.)
        await content.unchanging()
