"""Targets of symlinks: the data of their objects, read once and kept in the record."""

import trio

from gatewayfs.errors import InvalidArgument, ObjectNotFound, PreconditionFailed, StoreError, Unavailable
from gatewayfs.objectrecords import link_text
from gatewayfs.refresh.apply import Applier
from gatewayfs.refresh.headpool import HeadPool
from gatewayfs.refresh.records import replace
from gatewayfs.refresh.settings import RefreshSettings
from gatewayfs.refresh.waiting import Requests, as_fs_error
from gatewayfs.s3.store import ObjectStore
from gatewayfs.types import SYMLINK_BYTES_MAX, ETag, ObjectKey

ATTEMPTS = 3
"""A link that changes between HEAD and GET more often than this is changing all the time."""


class Targets:
    """Reads symlinks, each by one caller at a time."""

    def __init__(
        self, applier: Applier, heads: HeadPool, store: ObjectStore, requests: Requests, settings: RefreshSettings
    ) -> None:
        self._applier = applier
        self._meta = applier.meta
        self._heads = heads
        self._store = store
        self._requests = requests
        self._deadline_s = settings.deadline_s
        self._reading: dict[int, trio.Event] = {}

    async def read_target(self, ino: int) -> bytes:
        """The target of a symlink.

        Raises:
            InvalidArgument: not a symlink. NoEntry, StaleInode: gone.
            Unavailable: the bucket does not answer, or holds no usable target. PermissionDenied: it refuses.
        """
        until = trio.current_time() + self._deadline_s
        for _ in range(ATTEMPTS):
            await self._heads.ensure_attributes(ino)
            inode = self._meta.require(ino)
            if not inode.is_symlink:
                raise InvalidArgument(f"inode {ino} is not a symlink")
            if inode.target is not None:
                return inode.target
            if inode.remote is None:
                raise Unavailable(f"the bucket holds no target for symlink {ino}")
            key, etag = inode.remote.key, inode.remote.etag
            if inode.remote.size > SYMLINK_BYTES_MAX:
                raise Unavailable(f"{key}: a symlink target over {SYMLINK_BYTES_MAX} bytes")
            if (reading := self._reading.get(ino)) is not None:
                await self._wait(reading, key, until)
            else:
                await self._fetch(ino, key, etag, until)
        inode = self._meta.require(ino)
        if inode.target is not None:
            return inode.target
        raise Unavailable(f"symlink {ino} keeps changing in the bucket")

    async def _wait(self, reading: trio.Event, key: str, until: float) -> None:
        with trio.move_on_at(until) as waiting:
            await reading.wait()
        if waiting.cancelled_caught:
            raise Unavailable(f"the bucket has not answered in time: {key}")

    async def _fetch(self, ino: int, key: str, etag: str, until: float) -> None:
        """Read the target into the record; returns without it when the object is another by now."""
        self._reading[ino] = trio.Event()
        try:
            with trio.fail_at(until):
                data = await self._requests.send(self._get, key, etag, until=lambda: until)
        except trio.TooSlowError:
            raise Unavailable(f"the bucket has not answered in time: {key}") from None
        except (PreconditionFailed, ObjectNotFound):
            await self._heads.recheck(ino)
            return
        except StoreError as problem:
            raise as_fs_error(problem) from problem
        finally:
            self._reading.pop(ino).set()
        if not data or b"\0" in data or len(data) > SYMLINK_BYTES_MAX:
            raise Unavailable(f"{key}: not a usable symlink target ({len(data)} bytes)")
        with self._applier.change() as (tx, _):
            inode = tx.require(ino)
            if inode.remote is not None and (inode.remote.key, inode.remote.etag) == (key, etag):
                tx.put(replace(inode, target=data, size=len(data)))

    async def _get(self, key: str, etag: str) -> bytes:
        info, data = await self._store.get(
            ObjectKey(key), 0, SYMLINK_BYTES_MAX + 1, if_match=ETag(etag) if etag else None
        )
        return link_text(info, data)
