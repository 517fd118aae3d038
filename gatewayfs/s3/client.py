"""HttpObjectStore: the ``ObjectStore`` that talks to S3.

Every method describes one request (``Call``) and how to read its answer; a worker thread performs it
(``transport.py``). Nothing is retried here. Cancelling a method shuts its connection and returns when the thread has
ended, so no late answer writes into a file that is somebody else's by then.

What a request costs in CPU, and why it is built this way: docs/decisions/0001-s3-client.md.
"""

from collections.abc import Mapping

from gatewayfs.errors import BadResponse, ObjectArchived, ObjectDamaged, RangeNotSatisfiable
from gatewayfs.runtime.fingerprints import PassingCells
from gatewayfs.s3 import xml
from gatewayfs.s3.bodies import FileSink, Telling
from gatewayfs.s3.checksums import Verifier, verifier_for
from gatewayfs.s3.deleting import DeletingRequests
from gatewayfs.s3.headers import content_length, content_range, object_headers, object_info, version_id
from gatewayfs.s3.requests import LIST_KEYS_MAX, etag_of, nothing
from gatewayfs.s3.store import (
    INLINE_BODY_BYTES_MAX,
    UNCONDITIONAL,
    Body,
    Condition,
    ListPage,
    ObjectHeaders,
    ObjectInfo,
    Progress,
    PutResult,
)
from gatewayfs.s3.transport import LIST_BYTES_MAX, Call
from gatewayfs.s3.wire import Expect, Reply, Sink
from gatewayfs.types import ETag, ObjectKey


class HttpObjectStore(DeletingRequests):
    """One bucket of an S3 server: reading, listing, single writes here; deletions and multipart uploads below."""

    @property
    def endpoint_url(self) -> str:
        return self._connection.endpoint.url

    @property
    def region(self) -> str:
        return self._connection.region

    @property
    def clock_skew_s(self) -> float | None:
        """The store's clock minus ours by the last answer's Date, to a second; None before the first answer."""
        return self._transport.clock_skew_s

    def close(self) -> None:
        """Close the kept connections."""
        self._transport.close()

    async def check_bucket(self, prefix: str = "") -> None:
        """Ask for one key below ``prefix``; return when the bucket is there and may be listed.

        Raises BucketNotFound, CredentialsRejected, StoreAccessDenied, StoreUnreachable ..., naming endpoint and bucket.
        """
        await self.list_page(prefix, delimiter=False, max_keys=1)

    # ----------------------------------------------------------------------- reading

    async def head(self, key: ObjectKey) -> ObjectInfo:
        return await self._perform(
            Call("HeadObject", "HEAD", key), lambda reply: object_info(key, reply, content_length(reply))
        )

    async def get(
        self, key: ObjectKey, start: int, length: int, *, if_match: ETag | None = None
    ) -> tuple[ObjectInfo, bytes]:
        assert 0 <= length <= INLINE_BODY_BYTES_MAX
        call = self._get_call(key, start, length, if_match, Expect(length))

        def read(reply: Reply) -> tuple[ObjectInfo, bytes]:
            info, data = _ranged_info(key, reply, start, length), _whole_body(reply)
            verify = self._verifier(reply)
            if verify is not None:
                verify.update(data)
                _verified(verify, reply)
            return info, data

        if length:
            try:
                return await self._perform(call, read)
            except RangeNotSatisfiable:
                if start:
                    raise
        # No range fits an empty object (or an empty range): what is left to learn is in its HEAD.
        return await self._head_for_range(key, length, if_match), b""

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
        if not length:
            return await self._head_for_range(key, length, if_match)

        verify: Verifier | None = None
        telling = None if progress is None else Telling(progress)

        def sink_for(reply: Reply) -> Sink | None:
            nonlocal verify
            if reply.status not in (200, 206):
                return None
            if content_range(reply)[2] < start + length:
                raise RangeNotSatisfiable("the object is shorter than the range", status=reply.status)
            _ranged_info(key, reply, start, length)
            write: Sink = FileSink(path, offset, length)
            verify = self._verifier(reply)
            if passing is not None:
                passing.begin()
                write = _both(write, passing.update)
            if verify is not None:
                return _both(verify.update, write)
            return write if telling is None else _both(write, telling.begin())

        def read(reply: Reply) -> ObjectInfo:
            _whole_body(reply)
            if verify is not None:
                _verified(verify, reply)
            return _ranged_info(key, reply, start, length)

        try:
            return await self._perform(self._get_call(key, start, length, if_match, Expect(0, sink_for)), read)
        finally:
            if telling is not None:
                telling.end()

    async def restore(self, key: ObjectKey, *, tier: str, days: int | None) -> None:
        """RestoreObject: a readable copy for ``days`` (None: S3 takes no number here). Answers before it is there."""
        call = Call("RestoreObject", "POST", key, query={"restore": ""}, body=xml.restore_document(tier, days))
        await self._perform(call, nothing)

    async def list_page(
        self,
        prefix: str,
        *,
        delimiter: bool,
        token: str = "",
        start_after: str = "",
        max_keys: int = LIST_KEYS_MAX,
    ) -> ListPage:
        query = {"list-type": "2", "encoding-type": "url", "max-keys": str(max_keys), "prefix": prefix}
        if delimiter:
            query["delimiter"] = "/"
        if token:
            query["continuation-token"] = token
        elif start_after:
            query["start-after"] = start_after
        call = Call("ListObjectsV2", "GET", None, query=query, expect=Expect(LIST_BYTES_MAX))
        return await self._perform(call, lambda reply: xml.parse_list(reply.body))

    # ----------------------------------------------------------------------- writing

    async def put(
        self,
        key: ObjectKey,
        body: Body,
        metadata: Mapping[str, str],
        headers: ObjectHeaders = ObjectHeaders(),
        *,
        condition: Condition = UNCONDITIONAL,
    ) -> PutResult:
        conditions = self._condition(condition)
        call = Call(
            "PutObject",
            "PUT",
            key,
            headers=await self._new_object(metadata, headers) | conditions,
            body=body,
            checksummed=True,
            replayable=not conditions,
        )
        return await self._perform(call, lambda reply: PutResult(etag_of(reply), version_id(reply)))

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
        conditions = self._condition(condition)
        sent = self._copy_source(source, source_etag) | conditions | await self._placement(headers)
        if metadata is not None:
            sent |= {"x-amz-metadata-directive": "REPLACE", **object_headers(metadata, headers)}
            if not self.capabilities.replace_keeps_tags and (tagging := await self.tagging(source)):
                sent |= {"x-amz-tagging-directive": "REPLACE", "x-amz-tagging": tagging}

        def read(reply: Reply) -> PutResult:
            etag, last_modified_ns = xml.parse_result(reply.body, "CopyObjectResult")
            return PutResult(etag, version_id(reply), last_modified_ns)

        call = Call("CopyObject", "PUT", key, headers=sent, replayable=not conditions, works=True)
        return await self._perform(call, read)

    async def put_with(self, key: ObjectKey, data: bytes, headers: Mapping[str, str]) -> None:
        """Write a small object with just these headers: the probe's way to see what becomes of them."""
        await self._perform(Call("PutObject", "PUT", key, headers=dict(headers), body=data), nothing)

    # ----------------------------------------------------------------------- inside

    async def _head_for_range(self, key: ObjectKey, length: int, if_match: ETag | None) -> ObjectInfo:
        """HEAD in the place of a GET that no range fits; its answer must agree with that."""
        headers = self._if_match(if_match)

        def read(reply: Reply) -> ObjectInfo:
            info = object_info(key, reply, content_length(reply))
            if info.archived:
                raise ObjectArchived("the object is archived", status=reply.status)
            if length and info.size:
                raise RangeNotSatisfiable("the object's size changed while we looked", status=416)
            return info

        return await self._perform(Call("HeadObject", "HEAD", key, headers=headers), read)

    def _get_call(self, key: ObjectKey, start: int, length: int, if_match: ETag | None, expect: Expect) -> Call:
        headers = {"range": f"bytes={start}-{start + length - 1}", **self._if_match(if_match)}
        if self.options.checksum and not start:
            headers["x-amz-checksum-mode"] = "ENABLED"
        return Call("GetObject", "GET", key, headers=headers, expect=expect, moved_bytes=length)

    def _verifier(self, reply: Reply) -> Verifier | None:
        """What checks the body of an answer that holds a whole object and says its checksum."""
        if not self.options.checksum:
            return None
        first, received, size = content_range(reply)
        return verifier_for(reply.headers) if (first, received) == (0, size) else None

    def _if_match(self, etag: ETag | None) -> dict[str, str]:
        return self._condition(Condition(match=etag))


def _ranged_info(key: ObjectKey, reply: Reply, start: int, length: int) -> ObjectInfo:
    """Return what a GET's headers say, having checked that its body is the range asked for, or all there is of it."""
    first, received, size = content_range(reply)
    if first != start or received != min(length, size - start):
        raise BadResponse(f"bytes {first}+{received} of {size} instead of {start}+{length}", status=reply.status)
    return object_info(key, reply, size)


def _both(first: Sink, second: Sink) -> Sink:
    def sink(piece: memoryview) -> None:
        first(piece)
        second(piece)

    return sink


def _verified(verify: Verifier, reply: Reply) -> None:
    if not verify.matches:
        raise ObjectDamaged("the object's bytes do not match its checksum", status=reply.status)


def _whole_body(reply: Reply) -> bytes:
    """Return a GET's body, having checked its length (a chunked one is framed without)."""
    if reply.body_bytes != content_range(reply)[1]:
        raise BadResponse("a body of another length than announced", status=reply.status)
    return reply.body
