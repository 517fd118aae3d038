"""An object store that reports each key its caller changes.

The uploader gets its store in this wrapper, so that ``own.py`` knows which answers of LIST and HEAD are older than a
change of our own, without the uploader knowing of listings.
"""

from collections.abc import Callable, Mapping, Sequence

from gatewayfs.s3.store import (
    UNCONDITIONAL,
    Body,
    Condition,
    ListPage,
    ObjectHeaders,
    ObjectInfo,
    ObjectStore,
    Part,
    PendingUpload,
    PutResult,
)
from gatewayfs.types import ETag, ObjectKey


class ObservedStore:
    """``inner``, calling ``changed(key)`` after every request that may have changed the object at ``key``.

    Failed and cancelled requests count too: they may have taken effect.
    """

    def __init__(self, inner: ObjectStore, changed: Callable[[str], None]) -> None:
        self._inner = inner
        self._changed = changed

    def __repr__(self) -> str:
        return f"<ObservedStore of {self._inner!r}>"

    @property
    def bucket(self) -> str:
        return self._inner.bucket

    async def put(
        self,
        key: ObjectKey,
        body: Body,
        metadata: Mapping[str, str],
        headers: ObjectHeaders = ObjectHeaders(),
        *,
        condition: Condition = UNCONDITIONAL,
    ) -> PutResult:
        try:
            return await self._inner.put(key, body, metadata, headers, condition=condition)
        finally:
            self._changed(key)

    async def copy(
        self,
        source: ObjectKey,
        key: ObjectKey,
        *,
        source_etag: ETag | None,
        metadata: Mapping[str, str] | None = None,
        headers: ObjectHeaders = ObjectHeaders(),
        condition: Condition = UNCONDITIONAL,
    ) -> PutResult:
        try:
            return await self._inner.copy(
                source, key, source_etag=source_etag, metadata=metadata, headers=headers, condition=condition
            )
        finally:
            self._changed(key)

    async def delete(self, key: ObjectKey, *, condition: Condition = UNCONDITIONAL) -> None:
        try:
            await self._inner.delete(key, condition=condition)
        finally:
            self._changed(key)

    async def complete_multipart(
        self, key: ObjectKey, upload_id: str, parts: Sequence[Part], *, condition: Condition = UNCONDITIONAL
    ) -> PutResult:
        try:
            return await self._inner.complete_multipart(key, upload_id, parts, condition=condition)
        finally:
            self._changed(key)

    # ------------------------------------------------------------------ changes nothing anybody lists

    async def head(self, key: ObjectKey) -> ObjectInfo:
        return await self._inner.head(key)

    async def get(
        self, key: ObjectKey, start: int, length: int, *, if_match: ETag | None = None
    ) -> tuple[ObjectInfo, bytes]:
        return await self._inner.get(key, start, length, if_match=if_match)

    async def fetch(
        self, key: ObjectKey, start: int, length: int, path: str, offset: int, *, if_match: ETag | None = None
    ) -> ObjectInfo:
        return await self._inner.fetch(key, start, length, path, offset, if_match=if_match)

    async def list_page(
        self, prefix: str, *, delimiter: bool, token: str = "", start_after: str = "", max_keys: int = 1000
    ) -> ListPage:
        return await self._inner.list_page(
            prefix, delimiter=delimiter, token=token, start_after=start_after, max_keys=max_keys
        )

    async def create_multipart(
        self, key: ObjectKey, metadata: Mapping[str, str], headers: ObjectHeaders = ObjectHeaders()
    ) -> str:
        return await self._inner.create_multipart(key, metadata, headers)

    async def upload_part(self, key: ObjectKey, upload_id: str, number: int, body: Body) -> Part:
        return await self._inner.upload_part(key, upload_id, number, body)

    async def copy_part(
        self,
        key: ObjectKey,
        upload_id: str,
        number: int,
        source: ObjectKey,
        start: int,
        length: int,
        *,
        source_etag: ETag | None,
    ) -> Part:
        return await self._inner.copy_part(key, upload_id, number, source, start, length, source_etag=source_etag)

    async def abort_multipart(self, key: ObjectKey, upload_id: str) -> None:
        await self._inner.abort_multipart(key, upload_id)

    async def list_parts(self, key: ObjectKey, upload_id: str) -> Sequence[Part]:
        return await self._inner.list_parts(key, upload_id)

    async def list_uploads(self, prefix: str) -> Sequence[PendingUpload]:
        return await self._inner.list_uploads(prefix)
