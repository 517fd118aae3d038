"""The part of the canon about uploads: what is under way, and what the last one left in the bucket.

Tables U and F of ``schema.py``, which has the keys and invariants and is where others import these records from.
"""

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from gatewayfs.meta.schema import Remote


def cells_in(digests: bytes) -> list[bytes]:
    """Fingerprints of 16 bytes, one by one; b"" for zeros: it is not known."""
    each = (digests[at : at + 16] for at in range(0, len(digests), 16))
    return [digest if any(digest) else b"" for digest in each]


class UploadPart(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One part of a multipart upload that the store has acknowledged."""

    number: int
    etag: str
    offset: int
    length: int
    fingerprint: bytes
    """Of what was sent (runtime/fingerprints.py); b"" for a part copied in the bucket."""
    copied: bool = False
    """Copied from the same range of the object ``UploadState.source`` names."""


class Source(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The object parts of an upload are copied from."""

    key: str
    etag: str
    last_modified_ns: int = 0
    """As HEAD said before the first part was copied; 0 when nobody looked."""
    version_id: str = ""


class Fingerprints(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The fingerprints of the bytes of an inode's object."""

    key: str
    etag: str
    """Both as in ``Remote``: this object and no other one."""
    size: int
    cell_bytes: int
    """One fingerprint per so many bytes, the last one of what is left."""
    digests: bytes
    """16 bytes each; zeros where nobody ever read the bytes here."""

    @property
    def cells(self) -> list[bytes]:
        """One by one; b"" where it is not known."""
        return cells_in(self.digests)

    def describes(self, remote: "Remote | None") -> bool:
        """Whether they are those of ``remote``."""
        return remote is not None and (self.key, self.etag, self.size) == (remote.key, remote.etag, remote.size)


class Attempt(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A write sent to the bucket whose answer is not recorded: should the bucket turn out to hold this, it is ours."""

    key: str
    size: int
    content_revision: int
    meta_revision: int
    body_digest: bytes
    """Fingerprint of the body of a PUT; b"" for a copy or a multipart upload, which ``etag`` identifies."""
    metadata_digest: bytes
    """xxh3-128 of the metadata sent; b"" when a copy kept the source's."""
    etag: str = ""
    """The etag to expect; "" when not known beforehand."""


class UploadState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A multipart upload under way, and writes whose answers were lost."""

    key: str
    upload_id: str
    """"" while there are only ``attempts``."""
    content_revision: int
    meta_revision: int
    part_bytes: int
    parts: tuple[UploadPart, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    creating_ns: int = 0
    """With an empty ``upload_id``: an upload to ``key`` was asked for then, and its id never arrived."""
    metadata_digest: bytes = b""
    """xxh3-128 of the metadata the object will have; it travels when the upload is begun."""
    source: Source | None = None
    """What copied parts were copied from."""
