"""What an object is written with besides its bytes and metadata: storage class, encryption, tags, ACL.

S3 gives a replaced object none of these back by itself, and a copy only its tags. What the object had that a new one
takes the place of (``ObjectHeaders.heritage``) is therefore read first, but only where there is something to keep:
HEAD counts tags, so an object without any costs no request.

An ACL is carried as grants in the very request that writes the object, never set afterwards. An object's owner cannot
be carried: whoever writes it owns it.
"""

from collections.abc import Mapping

from gatewayfs.errors import ObjectNotFound
from gatewayfs.s3 import xml
from gatewayfs.s3.headers import object_headers
from gatewayfs.s3.requests import Requests
from gatewayfs.s3.store import Heritage, ObjectHeaders
from gatewayfs.s3.transport import Call
from gatewayfs.types import ObjectKey


class PlacingRequests(Requests):
    """Reads tags and grants, and makes the headers that writes carry."""

    async def tagging(self, key: ObjectKey) -> str:
        """Return the object's tags, form-encoded as ``x-amz-tagging`` takes them; "" where it has none."""
        call = Call("GetObjectTagging", "GET", key, query={"tagging": ""})
        return await self._perform(call, lambda reply: xml.parse_tagging(reply.body))

    async def grants(self, key: ObjectKey) -> dict[str, str]:
        """Return the object's ACL as ``x-amz-grant-*`` headers, {} for the default: all to the owner, nobody else."""
        call = Call("GetObjectAcl", "GET", key, query={"acl": ""})
        return await self._perform(call, lambda reply: xml.parse_grants(reply.body))

    async def _new_object(self, metadata: Mapping[str, str], headers: ObjectHeaders) -> dict[str, str]:
        """Headers of a request that writes an object from our bytes."""
        sent = object_headers(metadata, headers) | await self._placement(headers)
        tagging = await self._tags_for(headers.heritage)
        if tagging:
            sent["x-amz-tagging"] = tagging
        return sent

    async def _placement(self, headers: ObjectHeaders) -> dict[str, str]:
        """Headers of any request that writes an object, copies included."""
        options = self.options
        sent = options.of_objects(headers)
        heritage = headers.heritage
        if heritage is None or heritage.ours or not options.keep_acl:
            if options.acl:
                sent["x-amz-acl"] = options.acl
        elif self.capabilities.acls:
            try:
                sent |= await self.grants(heritage.key)
            except ObjectNotFound:
                return sent
        return sent

    async def _tags_for(self, heritage: Heritage | None) -> str:
        if heritage is None:
            return self.options.tagging
        has_tags = bool(self.options.tags) if heritage.ours else heritage.tag_count != 0
        if not has_tags and not self.options.check_tags:
            return ""
        try:
            return await self.tagging(heritage.key)
        except ObjectNotFound:
            return ""
