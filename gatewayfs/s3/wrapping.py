"""A store around a store: what retrying, metering and fault injection share.

Every method of the protocol becomes one ``StoreCall`` and one function that performs it; a wrapper overrides ``around``
and nothing else.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from gatewayfs.errors import StoreError
from gatewayfs.runtime.fingerprints import PassingCells
from gatewayfs.s3.store import (
    UNCONDITIONAL,
    Body,
    Condition,
    Deletion,
    ListPage,
    ObjectHeaders,
    ObjectInfo,
    ObjectStore,
    Part,
    PendingUpload,
    Progress,
    PutResult,
)
from gatewayfs.types import ETag, ObjectKey

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StoreCall:
    """One call of the protocol.

    ``operation`` is the method's name, ``key`` its key or prefix, ``keys`` all of them where there are many.
    ``repeatable``: performing it twice leaves the bucket as performing it once does, and answers the same.
    ``bytes_up`` and ``bytes_down`` are the bodies' sizes.
    """

    operation: str
    key: str
    repeatable: bool = True
    bytes_up: int = 0
    bytes_down: int = 0
    keys: tuple[str, ...] = ()


class StoreWrapper:
    """Delegates every call to ``inner`` through ``around``."""

    def __init__(self, inner: ObjectStore) -> None:
        self.inner = inner

    def __repr__(self) -> str:
        return f"<{type(self).__name__} around {self.inner!r}>"

    @property
    def bucket(self) -> str:
        return self.inner.bucket

    async def around(self, call: StoreCall, perform: Callable[[], Awaitable[T]]) -> T:
        """Perform the call; ``perform`` may be called several times or not at all."""
        return await perform()

    async def head(self, key: ObjectKey) -> ObjectInfo:
        return await self.around(StoreCall("head", key), partial(self.inner.head, key))

    async def get(
        self, key: ObjectKey, start: int, length: int, *, if_match: ETag | None = None
    ) -> tuple[ObjectInfo, bytes]:
        call = StoreCall("get", key, bytes_down=length)
        return await self.around(call, partial(self.inner.get, key, start, length, if_match=if_match))

    async def fetch(
        self,
        key: ObjectKey,
        start: int,
        length: int,
        path: str,
        offset: int,
        *,
        if_match: ETag | None = None,
        progress: Progress | None = None,
        passing: PassingCells | None = None,
    ) -> ObjectInfo:
        return await self.around(
            StoreCall("fetch", key, bytes_down=length),
            partial(
                self.inner.fetch,
                key,
                start,
                length,
                path,
                offset,
                if_match=if_match,
                progress=progress,
                passing=passing,
            ),
        )

    async def list_page(
        self, prefix: str, *, delimiter: bool, token: str = "", start_after: str = "", max_keys: int = 1000
    ) -> ListPage:
        return await self.around(
            StoreCall("list_page", prefix),
            partial(
                self.inner.list_page,
                prefix,
                delimiter=delimiter,
                token=token,
                start_after=start_after,
                max_keys=max_keys,
            ),
        )

    async def put(
        self,
        key: ObjectKey,
        body: Body,
        metadata: Mapping[str, str],
        headers: ObjectHeaders = ObjectHeaders(),
        *,
        condition: Condition = UNCONDITIONAL,
    ) -> PutResult:
        # Without a condition, too: it may stand for a look at the key, which holds for a moment and not for a retry.
        call = StoreCall("put", key, repeatable=False, bytes_up=body.length)
        return await self.around(call, partial(self.inner.put, key, body, metadata, headers, condition=condition))

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
        return await self.around(
            StoreCall("copy", key, repeatable=False),  # as a put
            partial(
                self.inner.copy,
                source,
                key,
                source_etag=source_etag,
                metadata=metadata,
                headers=headers,
                condition=condition,
            ),
        )

    async def delete(self, key: ObjectKey, *, condition: Condition = UNCONDITIONAL) -> None:
        call = StoreCall("delete", key, repeatable=False)  # as a put
        await self.around(call, partial(self.inner.delete, key, condition=condition))

    async def delete_many(self, deletions: Sequence[Deletion]) -> Mapping[ObjectKey, StoreError]:
        # With its etag, an object goes only once, and what somebody puts in its place stays.
        repeatable = all(deletion.match is not None for deletion in deletions)
        keys = tuple(deletion.key for deletion in deletions)
        call = StoreCall("delete_many", keys[0], repeatable, keys=keys)
        return await self.around(call, partial(self.inner.delete_many, deletions))

    async def create_multipart(
        self, key: ObjectKey, metadata: Mapping[str, str], headers: ObjectHeaders = ObjectHeaders()
    ) -> str:
        call = StoreCall("create_multipart", key, repeatable=False)
        return await self.around(call, partial(self.inner.create_multipart, key, metadata, headers))

    async def upload_part(self, key: ObjectKey, upload_id: str, number: int, body: Body) -> Part:
        call = StoreCall("upload_part", key, bytes_up=body.length)
        return await self.around(call, partial(self.inner.upload_part, key, upload_id, number, body))

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
        return await self.around(
            StoreCall("copy_part", key),
            partial(self.inner.copy_part, key, upload_id, number, source, start, length, source_etag=source_etag),
        )

    async def complete_multipart(
        self, key: ObjectKey, upload_id: str, parts: Sequence[Part], *, condition: Condition = UNCONDITIONAL
    ) -> PutResult:
        # The second time there is no such upload any more.
        call = StoreCall("complete_multipart", key, repeatable=False)
        return await self.around(
            call, partial(self.inner.complete_multipart, key, upload_id, parts, condition=condition)
        )

    async def abort_multipart(self, key: ObjectKey, upload_id: str) -> None:
        await self.around(StoreCall("abort_multipart", key), partial(self.inner.abort_multipart, key, upload_id))

    async def list_parts(self, key: ObjectKey, upload_id: str) -> Sequence[Part]:
        return await self.around(StoreCall("list_parts", key), partial(self.inner.list_parts, key, upload_id))

    async def list_uploads(self, prefix: str) -> Sequence[PendingUpload]:
        return await self.around(StoreCall("list_uploads", prefix), partial(self.inner.list_uploads, prefix))
