"""The object store as the rest of GatewayFS sees it.

Calls *describe* bodies instead of carrying them: "put bytes 8 MiB..16 MiB of that file", "fetch this range into
that file". Plain values go in, plain results come out, so the same protocol can be served in this process or by a
pool of transfer processes without a change above it. Small bodies, up to ``INLINE_BODY_BYTES_MAX``, may ride along.

A ``FileRange`` carries the fingerprint its bytes had when the request was planned. The store reads the range,
checks it, and only then sends: a file changed meanwhile raises ``BodyChanged``, nothing half-new becomes visible.

Every method is a checkpoint, may be cancelled (the request may then have taken effect or not), and raises only
``StoreError`` subclasses. ETags have no quotes here. Metadata keys are lower-case (some stores capitalise them).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gatewayfs.errors import StoreError
from gatewayfs.runtime.fingerprints import PassingCells
from gatewayfs.types import ETag, ObjectKey

INLINE_BODY_BYTES_MAX = 1 << 20
PART_BYTES_MIN = 5 << 20
PARTS_MAX = 10_000
COPY_BYTES_MAX = 5 << 30
PUT_BYTES_MAX = 5 << 30
OBJECT_BYTES_MAX = 5 << 40
DELETIONS_MAX = 1000
"""Keys of one DeleteObjects request."""

METADATA_BYTES_MAX = 2048
ARCHIVE_CLASSES = frozenset({"GLACIER", "DEEP_ARCHIVE"})


@dataclass(frozen=True, slots=True)
class FileRange:
    """``length`` bytes of the file at ``path`` from ``offset``. ``fingerprint`` is what it was when the range was
    planned, by ``cell_bytes`` (runtime/fingerprints.py), or None to send unchecked."""

    path: str
    offset: int
    length: int
    fingerprint: bytes | None = None
    cell_bytes: int = 0


@dataclass(frozen=True, slots=True)
class InlineBody:
    """A small body that rides along in the request value."""

    data: bytes

    @property
    def length(self) -> int:
        return len(self.data)


Body = FileRange | InlineBody
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Heritage:
    """The object whose place a written one takes: what S3 would drop of it (tags, ACL) is read at ``key`` and kept.

    Args:
        tag_count: what HEAD said, or None where there was no HEAD.
        ours: it was last written through this store, with the options' tags and ACL.
    """

    key: ObjectKey
    tag_count: int | None = None
    ours: bool = False


@dataclass(frozen=True, slots=True)
class ObjectHeaders:
    """What besides bytes and user metadata must survive edits, renames and chmod; "" means absent.

    ``heritage`` None makes a new object, with the options' tags and ACL; read from an object, it names that object.
    ``storage_class`` "" is STANDARD for the heir of somebody else's object, and what the options say for any other.
    """

    content_type: str = ""
    cache_control: str = ""
    content_disposition: str = ""
    content_encoding: str = ""
    content_language: str = ""
    expires: str = ""
    website_redirect: str = ""
    storage_class: str = ""
    heritage: Heritage | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What HEAD says (or GET's headers)."""

    key: ObjectKey
    etag: ETag
    size: int
    last_modified_ns: int
    version_id: str = ""
    storage_class: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    headers: ObjectHeaders = ObjectHeaders()
    archived: bool = False
    restoring: bool = False
    """``archived``: a GET would be refused, by storage class or archive status; ``restoring``: not for much longer."""


@dataclass(frozen=True, slots=True)
class ListedObject:
    """One object of a LIST page."""

    key: ObjectKey
    etag: ETag
    size: int
    last_modified_ns: int
    storage_class: str = ""


@dataclass(frozen=True, slots=True)
class ListPage:
    """One LIST page: objects and common prefixes, each in key order."""

    objects: Sequence[ListedObject]
    prefixes: Sequence[ObjectKey]
    next_token: str
    """Opaque continuation token, "" on the last page."""


@dataclass(frozen=True, slots=True)
class PutResult:
    """Identity of the object a write created."""

    etag: ETag
    version_id: str = ""
    last_modified_ns: int = 0
    """0 where the answer did not say (PUT never does; COPY does)."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Precondition of a write. ``Condition()`` is unconditional.

    ``match``: the object must be there with this etag. ``absent``: no object may be there.
    """

    match: ETag | None = None
    absent: bool = False


UNCONDITIONAL = Condition()


@dataclass(frozen=True, slots=True)
class Deletion:
    """One key of many to be deleted, if the object there still is ``match`` (None: whatever it is)."""

    key: ObjectKey
    match: ETag | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """One uploaded part, as CompleteMultipartUpload wants it."""

    number: int
    etag: ETag


@dataclass(frozen=True, slots=True)
class PendingUpload:
    """One multipart upload somebody began and nobody finished."""

    key: ObjectKey
    upload_id: str
    initiated_ns: int


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What this store honours, probed once per bucket (``s3/capabilities.py``)."""

    put_if_none_match: bool = True
    put_if_match: bool = True
    complete_if_match: bool = True
    copy_source_if_match: bool = True
    copy_if_match: bool = False
    delete_if_match: bool = False
    delete_many_if_match: bool = False
    """DeleteObjects compares the etag of each key; where it does not, objects are deleted one by one."""
    part_copy: bool = True
    part_copy_source_if_match: bool = True
    """Ceph 20 checks the source's etag when it copies an object and not when it copies a part."""
    replace_keeps_tags: bool = True
    """False for stores that drop the tags when a copy replaces the metadata (Ceph 20); the client then carries them."""
    acls: bool = False
    """Objects here have ACLs of their own. False also where nobody may read or set them."""
    quoted_if_match: bool = True
    """False for stores that only compare bare etags (Ceph 16)."""
    versioning: bool = False
    probed: bool = False


class ObjectStore(Protocol):
    """One bucket."""

    @property
    def bucket(self) -> str: ...

    async def head(self, key: ObjectKey) -> ObjectInfo:
        """Raise ObjectNotFound when there is none."""
        ...

    async def get(
        self, key: ObjectKey, start: int, length: int, *, if_match: ETag | None = None
    ) -> tuple[ObjectInfo, bytes]:
        """Read ``length`` bytes from ``start`` into memory; shorter only at the object's end.

        ``length`` <= INLINE_BODY_BYTES_MAX. A zero-byte object answers b"". Raises PreconditionFailed,
        ObjectNotFound, ObjectArchived, RangeNotSatisfiable.
        """
        ...

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
        """Read the range into the existing file ``path`` at ``offset``; all ``length`` bytes or an error.

        ``progress`` is told on the event loop, never after the end, how many bytes are in the file: those are right,
        also on error. Of a whole object that has a checksum nothing is told before that was compared. ``passing`` is
        shown the bytes that went into the file, from the beginning again when a request is repeated.
        """
        ...

    async def put(
        self,
        key: ObjectKey,
        body: Body,
        metadata: Mapping[str, str],
        headers: ObjectHeaders = ObjectHeaders(),
        *,
        condition: Condition = UNCONDITIONAL,
    ) -> PutResult: ...

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
        """Server-side copy of one object <= 5 GiB, tags kept.

        ``metadata`` None keeps metadata and headers, else both are replaced. Storage class, redirect and heritage of
        ``headers`` count either way: no store copies those by itself.
        Raises PreconditionFailed when the source is not ``source_etag`` or ``condition`` fails (where the store
        honours them, see Capabilities), ObjectNotFound when the source is gone.
        """
        ...

    async def delete(self, key: ObjectKey, *, condition: Condition = UNCONDITIONAL) -> None:
        """Deleting what is not there succeeds."""
        ...

    async def delete_many(self, deletions: Sequence[Deletion]) -> Mapping[ObjectKey, StoreError]:
        """Delete up to ``DELETIONS_MAX`` objects, each key once, in one request.

        Returns the error of each key that was not deleted: PreconditionFailed where another object lies there (on
        stores that compare etags), StoreAccessDenied ... Raises when the request failed as a whole.
        """
        ...

    async def list_page(
        self, prefix: str, *, delimiter: bool, token: str = "", start_after: str = "", max_keys: int = 1000
    ) -> ListPage: ...

    async def create_multipart(
        self, key: ObjectKey, metadata: Mapping[str, str], headers: ObjectHeaders = ObjectHeaders()
    ) -> str:
        """Return the upload id."""
        ...

    async def upload_part(self, key: ObjectKey, upload_id: str, number: int, body: Body) -> Part: ...

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
    ) -> Part: ...

    async def complete_multipart(
        self, key: ObjectKey, upload_id: str, parts: Sequence[Part], *, condition: Condition = UNCONDITIONAL
    ) -> PutResult: ...

    async def abort_multipart(self, key: ObjectKey, upload_id: str) -> None:
        """Aborting what is gone succeeds."""
        ...

    async def list_parts(self, key: ObjectKey, upload_id: str) -> Sequence[Part]:
        """Raise UploadNotFound when it is gone."""
        ...

    async def list_uploads(self, prefix: str) -> Sequence[PendingUpload]: ...
