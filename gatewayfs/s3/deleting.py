"""The deleting part of the S3 client: one object, many in one request, all versions of a scratch object."""

import hashlib
from base64 import b64encode
from collections.abc import Mapping, Sequence

from gatewayfs.errors import ObjectNotFound, StoreError
from gatewayfs.s3 import xml
from gatewayfs.s3.multipart import MultipartRequests
from gatewayfs.s3.requests import nothing
from gatewayfs.s3.store import DELETIONS_MAX, UNCONDITIONAL, Condition, Deletion
from gatewayfs.s3.transport import LIST_BYTES_MAX, Call
from gatewayfs.s3.wire import Expect, Reply
from gatewayfs.types import ObjectKey


class DeletingRequests(MultipartRequests):
    """ObjectStore's deletions, and the probe's."""

    async def delete(self, key: ObjectKey, *, condition: Condition = UNCONDITIONAL) -> None:
        conditions = self._condition(condition)
        call = Call("DeleteObject", "DELETE", key, headers=conditions, replayable=not conditions)
        try:
            await self._perform(call, nothing)
        except ObjectNotFound:
            return

    async def delete_many(self, deletions: Sequence[Deletion]) -> Mapping[ObjectKey, StoreError]:
        assert 0 < len(deletions) <= DELETIONS_MAX
        document = xml.deletion_document(deletions)
        digest = hashlib.md5(document, usedforsecurity=False).digest()
        call = Call(
            "DeleteObjects",
            "POST",
            None,
            query={"delete": ""},
            headers={"content-type": "application/xml", "content-md5": b64encode(digest).decode()},
            body=document,
            expect=Expect(LIST_BYTES_MAX),
            works=True,
        )

        def read(reply: Reply) -> dict[ObjectKey, StoreError]:
            return {
                ObjectKey(key): self._transport.error_of_key(call, key, code, message)
                for key, code, message in xml.parse_deletions(reply.body)
            }

        return await self._perform(call, read)

    async def purge(self, key: ObjectKey) -> None:
        """Delete every version and delete marker of ``key``; where versions cannot be listed, just the object."""
        query = {"versions": "", "prefix": key, "encoding-type": "url"}
        call = Call("ListObjectVersions", "GET", None, query=query, expect=Expect(LIST_BYTES_MAX))
        try:
            found = await self._perform(call, lambda reply: xml.parse_versions(reply.body))
        except StoreError as error:
            if error.transient:
                raise
            found = []
        versions = [version for name, version in found if name == key and version != "null"]
        for version in versions:
            await self._perform(Call("DeleteObject", "DELETE", key, query={"versionId": version}), nothing)
        if not versions:
            await self.delete(key)
