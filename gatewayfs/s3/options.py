"""What an administrator may ask for about objects and requests, as the headers that say it to S3."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import quote, urlencode

from gatewayfs.s3.store import ARCHIVE_CLASSES, ObjectHeaders

STANDARD = "STANDARD"

ENCRYPTIONS: Mapping[str, str] = MappingProxyType(
    {"bucket": "", "sse-s3": "AES256", "sse-kms": "aws:kms", "dsse-kms": "aws:kms:dsse"}
)
"""What the configuration calls it -> what S3 calls it. "bucket" leaves it to the bucket's default encryption."""


@dataclass(frozen=True, slots=True)
class ObjectOptions:
    """How objects are written and requests are made; the defaults say nothing.

    Args:
        storage_class, acl, tags: of new objects; "" and () leave them to S3.
        keep_storage_class, keep_acl: an object that is replaced or moved keeps its own.
        check_tags: ask for an object's tags before every replacement, not only where some were seen.
        encryption: a key of ENCRYPTIONS; ``kms_key`` and ``bucket_key`` refine the KMS ones.
        checksum: "crc64nvme", "crc32c", or "" for none (see ``checksums.py``).
        requester_pays: we agree to pay for every request.
        bucket_owner: account the bucket must belong to, or "".
    """

    storage_class: str = ""
    keep_storage_class: bool = True
    acl: str = ""
    keep_acl: bool = True
    tags: tuple[tuple[str, str], ...] = ()
    check_tags: bool = False
    encryption: str = "bucket"
    kms_key: str = ""
    bucket_key: bool = False
    checksum: str = ""
    requester_pays: bool = False
    bucket_owner: str = ""

    @property
    def tagging(self) -> str:
        """New objects' tags as ``x-amz-tagging`` takes them."""
        return urlencode(self.tags, quote_via=quote)

    def of_every_request(self) -> dict[str, str]:
        """Headers that every request carries."""
        headers = {}
        if self.requester_pays:
            headers["x-amz-request-payer"] = "requester"
        if self.bucket_owner:
            headers["x-amz-expected-bucket-owner"] = self.bucket_owner
        return headers

    def of_copies(self) -> dict[str, str]:
        """Headers that say about a copy's source what ``of_every_request`` says about its target."""
        return {"x-amz-source-expected-bucket-owner": self.bucket_owner} if self.bucket_owner else {}

    def of_objects(self, headers: ObjectHeaders) -> dict[str, str]:
        """Headers that a new object, copies included, is written with: storage class, encryption, redirect."""
        sent = {}
        if storage_class := self._storage_class(headers):
            sent["x-amz-storage-class"] = storage_class
        if headers.website_redirect:
            sent["x-amz-website-redirect-location"] = headers.website_redirect
        if encryption := ENCRYPTIONS[self.encryption]:
            sent["x-amz-server-side-encryption"] = encryption
        if self.kms_key:
            sent["x-amz-server-side-encryption-aws-kms-key-id"] = self.kms_key
        if self.bucket_key:
            sent["x-amz-server-side-encryption-bucket-key-enabled"] = "true"
        return sent

    def _storage_class(self, headers: ObjectHeaders) -> str:
        theirs = headers.heritage is not None and not headers.heritage.ours
        kept = headers.storage_class or (STANDARD if theirs else "")
        # What goes into an archive class cannot be read for hours: editing a restored object does not send it back.
        if not kept or not self.keep_storage_class or kept in ARCHIVE_CLASSES:
            return self.storage_class
        return "" if kept == STANDARD else kept
