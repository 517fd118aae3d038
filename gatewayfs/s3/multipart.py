"""The multipart half of the S3 client: uploads begun, filled, copied into, completed, aborted, listed."""

from collections.abc import Mapping, Sequence

from gatewayfs.errors import ObjectNotFound, UploadNotFound
from gatewayfs.s3 import xml
from gatewayfs.s3.headers import version_id
from gatewayfs.s3.placing import PlacingRequests
from gatewayfs.s3.requests import LIST_KEYS_MAX, etag_of, nothing
from gatewayfs.s3.store import UNCONDITIONAL, Body, Condition, ObjectHeaders, Part, PendingUpload, PutResult
from gatewayfs.s3.transport import LIST_BYTES_MAX, Call
from gatewayfs.s3.wire import Expect, Reply
from gatewayfs.types import ETag, ObjectKey


class MultipartRequests(PlacingRequests):
    """ObjectStore's multipart methods."""

    async def create_multipart(
        self, key: ObjectKey, metadata: Mapping[str, str], headers: ObjectHeaders = ObjectHeaders()
    ) -> str:
        call = Call(
            "CreateMultipartUpload",
            "POST",
            key,
            query={"uploads": ""},
            headers=await self._new_object(metadata, headers) | self._upload_checksum(),
            # A second upload would lie about until somebody aborts it.
            replayable=False,
        )
        return await self._perform(call, lambda reply: xml.parse_upload_id(reply.body))

    def _upload_checksum(self) -> dict[str, str]:
        """The whole object gets one checksum of its bytes in a row, not one of the parts' checksums."""
        if not self.options.checksum:
            return {}
        return {"x-amz-checksum-algorithm": self.options.checksum.upper(), "x-amz-checksum-type": "FULL_OBJECT"}

    async def upload_part(self, key: ObjectKey, upload_id: str, number: int, body: Body) -> Part:
        query = _part_query(upload_id, number)
        call = Call("UploadPart", "PUT", key, query=query, body=body, checksummed=True)
        return await self._perform(call, lambda reply: Part(number, etag_of(reply)))

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
        headers = self._copy_source(source, source_etag)
        headers["x-amz-copy-source-range"] = f"bytes={start}-{start + length - 1}"
        call = Call("UploadPartCopy", "PUT", key, query=_part_query(upload_id, number), headers=headers, works=True)
        return await self._perform(call, lambda reply: Part(number, xml.parse_result(reply.body, "CopyPartResult")[0]))

    async def complete_multipart(
        self, key: ObjectKey, upload_id: str, parts: Sequence[Part], *, condition: Condition = UNCONDITIONAL
    ) -> PutResult:
        call = Call(
            "CompleteMultipartUpload",
            "POST",
            key,
            query={"uploadId": upload_id},
            headers={"content-type": "application/xml", **self._condition(condition)},
            body=xml.completion_document(parts),
            # The second time there is no such upload any more.
            replayable=False,
            works=True,
        )

        def read(reply: Reply) -> PutResult:
            return PutResult(xml.parse_result(reply.body, "CompleteMultipartUploadResult")[0], version_id(reply))

        return await self._perform(call, read)

    async def abort_multipart(self, key: ObjectKey, upload_id: str) -> None:
        try:
            await self._perform(Call("AbortMultipartUpload", "DELETE", key, query={"uploadId": upload_id}), nothing)
        except UploadNotFound:
            return

    async def list_parts(self, key: ObjectKey, upload_id: str) -> Sequence[Part]:
        parts: list[Part] = []
        query = {"uploadId": upload_id, "max-parts": str(LIST_KEYS_MAX)}
        while True:
            call = Call("ListParts", "GET", key, query=dict(query), expect=Expect(LIST_BYTES_MAX))
            try:
                page, marker = await self._perform(call, lambda reply: xml.parse_parts(reply.body))
            except ObjectNotFound as error:  # what Ceph RGW says of an upload that is gone
                raise UploadNotFound(str(error), operation=error.operation, key=key, status=error.status) from error
            parts += page
            if not marker or marker == query.get("part-number-marker"):
                return parts
            query["part-number-marker"] = marker

    async def list_uploads(self, prefix: str) -> Sequence[PendingUpload]:
        uploads: list[PendingUpload] = []
        # No encoding-type: Ceph RGW encodes the keys then and does not say so.
        query = {"uploads": "", "prefix": prefix, "max-uploads": str(LIST_KEYS_MAX)}
        while True:
            call = Call("ListMultipartUploads", "GET", None, query=dict(query), expect=Expect(LIST_BYTES_MAX))
            page, (key_marker, id_marker) = await self._perform(call, lambda reply: xml.parse_uploads(reply.body))
            uploads += page
            if not key_marker or (key_marker, id_marker) == (query.get("key-marker"), query.get("upload-id-marker")):
                return uploads
            query |= {"key-marker": key_marker, "upload-id-marker": id_marker}


def _part_query(upload_id: str, number: int) -> dict[str, str]:
    return {"partNumber": str(number), "uploadId": upload_id}
