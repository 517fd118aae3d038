"""FakeObjectStore: one bucket in memory, faithful to the ``ObjectStore`` contract.

It answers as AWS documents S3 to answer (md5 etags, md5-of-md5s-N for multipart, conditions on every write, 2 KB of
metadata, 1024-byte keys, versions and delete markers), and tests/contract holds it to what real servers do. Every
effect happens in one synchronous step after a checkpoint, so requests never interleave halfway.

``honours`` plays lesser stores: a condition whose flag is off is ignored, as such stores ignore it. ``capabilities`` is
what its user believes about it (the probe sets that).
``requests`` logs every call; ``foreign_put`` and ``foreign_delete`` are other people changing the bucket, unlogged.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import trio
from sortedcontainers import SortedDict

from gatewayfs.errors import (
    BodyChanged,
    ObjectArchived,
    ObjectNotFound,
    PreconditionFailed,
    RangeNotSatisfiable,
    StoreError,
    StoreRefused,
    UploadNotFound,
)
from gatewayfs.runtime.fingerprints import PassingCells, fingerprint_of
from gatewayfs.s3.attributes import metadata_size_bytes
from gatewayfs.s3.headers import object_headers
from gatewayfs.s3.options import ObjectOptions
from gatewayfs.s3.store import (
    COPY_BYTES_MAX,
    INLINE_BODY_BYTES_MAX,
    METADATA_BYTES_MAX,
    PART_BYTES_MIN,
    PARTS_MAX,
    UNCONDITIONAL,
    Body,
    Capabilities,
    Condition,
    Deletion,
    Heritage,
    InlineBody,
    ListedObject,
    ListPage,
    ObjectHeaders,
    ObjectInfo,
    Part,
    PendingUpload,
    Progress,
    PutResult,
)
from gatewayfs.types import KEY_BYTES_MAX, ETag, ObjectKey

ARCHIVE_CLASSES = frozenset({"GLACIER", "DEEP_ARCHIVE"})
FAKE_EPOCH_NS = 1_750_000_000_000_000_000
NS_PER_S = 1_000_000_000

EVERYTHING = Capabilities(copy_if_match=True, delete_if_match=True, delete_many_if_match=True, probed=True)
"""A store that honours every condition there is."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One version of an object. ``delete_marker`` versions have no data."""

    key: ObjectKey
    data: bytes
    etag: ETag
    last_modified_ns: int
    metadata: Mapping[str, str] = field(default_factory=dict)
    headers: ObjectHeaders = ObjectHeaders()
    tags: Mapping[str, str] = field(default_factory=dict)
    grants: Mapping[str, str] = field(default_factory=dict)
    storage_class: str = "STANDARD"
    version_id: str = ""
    delete_marker: bool = False

    def info(self) -> ObjectInfo:
        return ObjectInfo(
            key=self.key,
            etag=self.etag,
            size=len(self.data),
            last_modified_ns=self.last_modified_ns,
            version_id=self.version_id,
            storage_class=self.storage_class,
            metadata=dict(self.metadata),
            headers=replace(
                self.headers,
                storage_class="" if self.storage_class == "STANDARD" else self.storage_class,
                heritage=Heritage(self.key, len(self.tags)),
            ),
            archived=self.storage_class in ARCHIVE_CLASSES,
        )

    def listed(self) -> ListedObject:
        return ListedObject(self.key, self.etag, len(self.data), self.last_modified_ns, self.storage_class)


@dataclass(slots=True)
class _Upload:
    key: ObjectKey
    metadata: dict[str, str]
    headers: ObjectHeaders
    initiated_ns: int
    tags: Mapping[str, str] = field(default_factory=dict)
    grants: Mapping[str, str] = field(default_factory=dict)
    parts: dict[int, bytes] = field(default_factory=dict)


class FakeObjectStore:
    """An in-memory bucket.

    Args:
        bucket: its name.
        capabilities: what this store honours; the default honours everything.
        now_ns: clock for LastModified; the default advances one second per change, so LastModified tells writes apart.
        options: what new objects are written with.
        part_bytes_min: smallest part but the last; tests of many parts lower it.
    """

    def __init__(
        self,
        bucket: str = "bucket",
        *,
        capabilities: Capabilities = EVERYTHING,
        now_ns: Callable[[], int] | None = None,
        part_bytes_min: int = PART_BYTES_MIN,
        options: ObjectOptions = ObjectOptions(),
    ) -> None:
        self.options = options
        ticks = itertools.count(1)
        self._bucket = bucket
        self._now_ns = now_ns or (lambda: FAKE_EPOCH_NS + next(ticks) * NS_PER_S)
        self._part_bytes_min = part_bytes_min
        self._history: SortedDict = SortedDict()  # ObjectKey -> list[StoredObject], oldest first
        self._uploads: dict[str, _Upload] = {}
        self._ids = itertools.count(1)
        self.honours = capabilities
        self.capabilities = capabilities
        self.requests: list[tuple[str, str]] = []

    def __repr__(self) -> str:
        return f"<FakeObjectStore {self._bucket}: {len(self.raw)} objects, {len(self._uploads)} uploads>"

    @property
    def bucket(self) -> str:
        return self._bucket

    # ----------------------------------------------------------------------- what tests look at

    @property
    def raw(self) -> dict[str, StoredObject]:
        """The current objects by key, in key order."""
        return {key: versions[-1] for key, versions in self._history.items() if self._is_there(key)}

    def versions(self, key: str) -> list[StoredObject]:
        """Every version of ``key``, oldest first, delete markers included (without versioning: at most one)."""
        return list(self._history.get(ObjectKey(key), []))

    @property
    def upload_ids(self) -> list[str]:
        return list(self._uploads)

    def count(self, operation: str, key: str | None = None) -> int:
        """Return how many logged requests were ``operation`` (on ``key``)."""
        return sum(1 for name, where in self.requests if name == operation and key in (None, where))

    # ----------------------------------------------------------------------- other people's changes

    def foreign_put(
        self,
        key: str,
        data: bytes = b"",
        metadata: Mapping[str, str] | None = None,
        headers: ObjectHeaders = ObjectHeaders(),
        *,
        tags: Mapping[str, str] | None = None,
        grants: Mapping[str, str] | None = None,
        storage_class: str = "STANDARD",
        last_modified_ns: int | None = None,
    ) -> ETag:
        """Somebody else writes an object; return its etag."""
        stored = StoredObject(
            key=ObjectKey(key),
            data=data,
            etag=_md5(data),
            last_modified_ns=self._now_ns() if last_modified_ns is None else last_modified_ns,
            metadata={name.lower(): value for name, value in (metadata or {}).items()},
            headers=headers,
            tags=dict(tags or {}),
            grants=dict(grants or {}),
            storage_class=storage_class,
        )
        return self._append(stored).etag

    def foreign_tag(self, key: str, tags: Mapping[str, str]) -> None:
        """Somebody else tags an object: neither etag nor LastModified tells."""
        versions = self._history[ObjectKey(key)]
        versions[-1] = replace(versions[-1], tags=dict(tags))

    def foreign_delete(self, key: str) -> None:
        """Somebody else deletes an object."""
        self._remove(ObjectKey(key))

    def enable_versioning(self) -> None:
        """Somebody turns the bucket's versioning on."""
        self.honours = replace(self.honours, versioning=True)

    # ----------------------------------------------------------------------- reading

    async def head(self, key: ObjectKey) -> ObjectInfo:
        await self._begin("head", key)
        return self._current(key, "HeadObject").info()

    async def get(
        self, key: ObjectKey, start: int, length: int, *, if_match: ETag | None = None
    ) -> tuple[ObjectInfo, bytes]:
        assert length <= INLINE_BODY_BYTES_MAX
        await self._begin("get", key)
        stored = self._readable(key, if_match)
        if 0 < start >= len(stored.data):
            raise RangeNotSatisfiable("range starts beyond the end", operation="GetObject", key=key, status=416)
        return stored.info(), stored.data[start : start + length]

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
        await self._begin("fetch", key)
        stored = self._readable(key, if_match)
        if start + length > len(stored.data):
            raise RangeNotSatisfiable("object shorter than the range", operation="GetObject", key=key, status=416)
        with Path(path).open("r+b") as file:
            file.seek(offset)
            file.write(stored.data[start : start + length])
        if passing is not None:
            passing.begin()
            passing.update(stored.data[start : start + length])
        return stored.info()

    async def list_page(
        self, prefix: str, *, delimiter: bool, token: str = "", start_after: str = "", max_keys: int = 1000
    ) -> ListPage:
        await self._begin("list_page", prefix)
        objects: list[ListedObject] = []
        prefixes: list[ObjectKey] = []
        last = ""
        for name, stored in self._listing(prefix, delimiter, token or start_after):
            # A prefix named by the token was on an earlier page, together with every key below it.
            if token.endswith("/") and delimiter and name == token and stored is None:
                continue
            if len(objects) + len(prefixes) == min(max_keys, 1000):
                return ListPage(objects, prefixes, last)
            if stored is None:
                prefixes.append(name)
            else:
                objects.append(stored.listed())
            last = name
        return ListPage(objects, prefixes, "")

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
        data = read_body(body)
        await self._begin("put", key)
        _check_request("PutObject", key, metadata)
        self._check(condition, key, "PutObject", self.honours.put_if_match, self.honours.put_if_none_match)
        kept = self._kept(headers)
        stored = self._append(
            replace(StoredObject(key, data, _md5(data), self._now_ns(), dict(metadata), headers), **kept)
        )
        return PutResult(stored.etag, stored.version_id)

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
        await self._begin("copy", key)
        _check_request("CopyObject", key, metadata or {})
        honoured = self.honours.copy_if_match
        self._check(condition, key, "CopyObject", honoured, honoured)
        checked = source_etag if self.honours.copy_source_if_match else None
        original = self._copy_source(source, checked, "CopyObject")
        if len(original.data) > COPY_BYTES_MAX:
            raise StoreRefused("source too large", operation="CopyObject", key=key, code="InvalidRequest", status=400)
        if source == key and metadata is None:
            raise StoreRefused("copy onto itself", operation="CopyObject", key=key, code="InvalidRequest", status=400)
        kept = self._kept(headers, tags=False)
        stored = replace(original, key=key, etag=_md5(original.data), last_modified_ns=self._now_ns(), **kept)
        stored = replace(stored, headers=replace(stored.headers, website_redirect=headers.website_redirect))
        if metadata is not None:
            # The client carries tags over only where it knows that the store would not.
            kept = self.honours.replace_keeps_tags or not self.capabilities.replace_keeps_tags
            tags = original.tags if kept else {}
            stored = replace(stored, metadata=dict(metadata), headers=headers, tags=tags)
        stored = self._append(stored)
        return PutResult(stored.etag, stored.version_id, stored.last_modified_ns)

    async def delete(self, key: ObjectKey, *, condition: Condition = UNCONDITIONAL) -> None:
        await self._begin("delete", key)
        if self._is_there(key):
            self._check(condition, key, "DeleteObject", self.honours.delete_if_match, False)
        self._remove(key)

    async def delete_many(self, deletions: Sequence[Deletion]) -> dict[ObjectKey, StoreError]:
        await self._begin("delete_many", deletions[0].key)
        refused: dict[ObjectKey, StoreError] = {}
        for deletion in deletions:
            honoured = deletion.match is not None and self.honours.delete_many_if_match
            there = self._is_there(deletion.key)
            if honoured and there and not self._matches(self._latest(deletion.key), deletion.match):
                refused[deletion.key] = _precondition_failed("DeleteObjects", deletion.key)
            else:
                self._remove(deletion.key)
        return refused

    async def purge(self, key: ObjectKey) -> None:
        await self._begin("purge", key)
        self._history.pop(key, None)

    async def put_with(self, key: ObjectKey, data: bytes, headers: Mapping[str, str]) -> None:
        await self._begin("put_with", key)
        if "x-amz-acl" in headers and not self.honours.acls:
            code = "AccessControlListNotSupported"
            raise StoreRefused(code, operation="PutObject", key=key, code=code, status=400)
        self.foreign_put(key, data, tags=dict(parse_qsl(headers.get("x-amz-tagging", ""))))

    async def tagging(self, key: ObjectKey) -> str:
        await self._begin("tagging", key)
        return urlencode(self._current(key, "GetObjectTagging").tags)

    async def grants(self, key: ObjectKey) -> dict[str, str]:
        await self._begin("grants", key)
        return dict(self._current(key, "GetObjectAcl").grants)

    async def create_multipart(
        self, key: ObjectKey, metadata: Mapping[str, str], headers: ObjectHeaders = ObjectHeaders()
    ) -> str:
        await self._begin("create_multipart", key)
        _check_request("CreateMultipartUpload", key, metadata)
        upload_id = f"upload-{next(self._ids)}"
        self._uploads[upload_id] = _Upload(key, dict(metadata), headers, self._now_ns())
        kept = self._kept(headers)
        self._uploads[upload_id].tags, self._uploads[upload_id].grants = kept["tags"], kept["grants"]
        return upload_id

    async def upload_part(self, key: ObjectKey, upload_id: str, number: int, body: Body) -> Part:
        data = read_body(body)
        await self._begin("upload_part", key)
        return self._store_part(key, upload_id, number, data)

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
        await self._begin("copy_part", key)
        if not self.honours.part_copy:
            raise StoreRefused(
                "not implemented", operation="UploadPartCopy", key=key, code="NotImplemented", status=501
            )
        checked = source_etag if self.honours.part_copy_source_if_match else None
        original = self._copy_source(source, checked, "UploadPartCopy")
        if start + length > len(original.data):
            raise RangeNotSatisfiable("source shorter than the range", operation="UploadPartCopy", key=source)
        return self._store_part(key, upload_id, number, original.data[start : start + length])

    async def complete_multipart(
        self, key: ObjectKey, upload_id: str, parts: Sequence[Part], *, condition: Condition = UNCONDITIONAL
    ) -> PutResult:
        await self._begin("complete_multipart", key)
        upload = self._upload(key, upload_id, "CompleteMultipartUpload")
        flags = self.honours
        self._check(condition, key, "CompleteMultipartUpload", flags.complete_if_match, flags.complete_if_match)
        chunks = self._chosen_parts(upload, parts)
        digests = b"".join(hashlib.md5(chunk).digest() for chunk in chunks)
        etag = ETag(f"{hashlib.md5(digests).hexdigest()}-{len(chunks)}")
        del self._uploads[upload_id]
        kept = {"tags": upload.tags, "grants": upload.grants, "storage_class": self._storage_class(upload.headers)}
        stored = replace(
            StoredObject(key, b"".join(chunks), etag, self._now_ns(), upload.metadata, upload.headers), **kept
        )
        return PutResult(etag, self._append(stored).version_id)

    async def abort_multipart(self, key: ObjectKey, upload_id: str) -> None:
        await self._begin("abort_multipart", key)
        self._uploads.pop(upload_id, None)

    async def list_parts(self, key: ObjectKey, upload_id: str) -> Sequence[Part]:
        await self._begin("list_parts", key)
        upload = self._upload(key, upload_id, "ListParts")
        return [Part(number, _md5(data)) for number, data in sorted(upload.parts.items())]

    async def list_uploads(self, prefix: str) -> Sequence[PendingUpload]:
        await self._begin("list_uploads", prefix)
        return [
            PendingUpload(upload.key, upload_id, upload.initiated_ns)
            for upload_id, upload in self._uploads.items()
            if upload.key.startswith(prefix)
        ]

    # ----------------------------------------------------------------------- inside

    async def _begin(self, operation: str, key: str) -> None:
        await trio.lowlevel.checkpoint()
        self.requests.append((operation, key))

    def _kept(self, headers: ObjectHeaders, *, tags: bool = True) -> dict[str, Any]:
        """What an object written with these headers takes over, as ``s3/placing.py`` asks S3 for it."""
        heritage = headers.heritage
        kept: dict[str, Any] = {"grants": {}, "storage_class": self._storage_class(headers)}
        there = heritage is not None and self._is_there(heritage.key)
        if heritage is not None and there and self.capabilities.acls and not heritage.ours and self.options.keep_acl:
            self.requests.append(("grants", heritage.key))
            kept["grants"] = self._latest(heritage.key).grants
        if tags:
            kept["tags"] = dict(self.options.tags) if heritage is None else {}
            if heritage is not None and there and self._asks_for_tags(heritage):
                self.requests.append(("tagging", heritage.key))
                kept["tags"] = self._latest(heritage.key).tags
        return kept

    def _asks_for_tags(self, heritage: Heritage) -> bool:
        has_tags = bool(self.options.tags) if heritage.ours else heritage.tag_count != 0
        return has_tags or self.options.check_tags

    def _storage_class(self, headers: ObjectHeaders) -> str:
        return self.options.of_objects(headers).get("x-amz-storage-class", "STANDARD")

    def _is_there(self, key: ObjectKey) -> bool:
        versions: list[StoredObject] = self._history.get(key, [])
        return bool(versions) and not versions[-1].delete_marker

    def _current(self, key: ObjectKey, operation: str) -> StoredObject:
        if not self._is_there(key):
            raise ObjectNotFound("no such key", operation=operation, key=key, code="NoSuchKey", status=404)
        return self._latest(key)

    def _latest(self, key: ObjectKey) -> StoredObject:
        latest: StoredObject = self._history[key][-1]
        return latest

    def _readable(self, key: ObjectKey, if_match: ETag | None) -> StoredObject:
        stored = self._current(key, "GetObject")
        if if_match is not None and not self._matches(stored, if_match):
            raise _precondition_failed("GetObject", key)
        return _not_archived(stored, "GetObject")

    def _copy_source(self, source: ObjectKey, source_etag: ETag | None, operation: str) -> StoredObject:
        original = _not_archived(self._current(source, operation), operation)
        if source_etag is not None and not self._matches(original, source_etag):
            raise _precondition_failed(operation, source)
        return original

    def _check(self, condition: Condition, key: ObjectKey, operation: str, match: bool, none_match: bool) -> None:
        """Raise when a condition fails that this store honours (``match``: If-Match, ``none_match``: If-None-Match)."""
        if condition.absent and none_match and self._is_there(key):
            raise _precondition_failed(operation, key)
        if condition.match is not None and match and not self._matches(self._current(key, operation), condition.match):
            raise _precondition_failed(operation, key)

    def _matches(self, stored: StoredObject, etag: ETag) -> bool:
        # A store that only compares bare etags never finds one that came in quotes.
        if self.capabilities.quoted_if_match and not self.honours.quoted_if_match:
            return False
        return stored.etag == etag

    def _append(self, stored: StoredObject) -> StoredObject:
        if self.honours.versioning:
            stored = replace(stored, version_id=f"version-{next(self._ids)}")
            self._history.setdefault(stored.key, []).append(stored)
        else:
            self._history[stored.key] = [replace(stored, version_id="")]
        return self._latest(stored.key)

    def _remove(self, key: ObjectKey) -> None:
        if self.honours.versioning:
            self._append(StoredObject(key, b"", ETag(""), self._now_ns(), delete_marker=True))
        else:
            self._history.pop(key, None)

    def _upload(self, key: ObjectKey, upload_id: str, operation: str) -> _Upload:
        upload = self._uploads.get(upload_id)
        if upload is None or upload.key != key:
            raise UploadNotFound("no such upload", operation=operation, key=key, code="NoSuchUpload", status=404)
        return upload

    def _store_part(self, key: ObjectKey, upload_id: str, number: int, data: bytes) -> Part:
        upload = self._upload(key, upload_id, "UploadPart")
        if not 1 <= number <= PARTS_MAX:
            raise StoreRefused("bad part number", operation="UploadPart", key=key, code="InvalidArgument", status=400)
        upload.parts[number] = data
        return Part(number, _md5(data))

    def _chosen_parts(self, upload: _Upload, parts: Sequence[Part]) -> list[bytes]:
        def refuse(code: str) -> StoreRefused:
            return StoreRefused(code, operation="CompleteMultipartUpload", key=upload.key, code=code, status=400)

        numbers = [part.number for part in parts]
        if not numbers:
            raise refuse("MalformedXML")
        if numbers != sorted(set(numbers)):
            raise refuse("InvalidPartOrder")
        if any(part.number not in upload.parts or _md5(upload.parts[part.number]) != part.etag for part in parts):
            raise refuse("InvalidPart")
        chunks = [upload.parts[number] for number in numbers]
        if any(len(chunk) < self._part_bytes_min for chunk in chunks[:-1]):
            raise refuse("EntityTooSmall")
        return chunks

    def _listing(self, prefix: str, delimiter: bool, after: str) -> Iterator[tuple[ObjectKey, StoredObject | None]]:
        """Yield objects, and common prefixes as (prefix, None), in key order. Text order is UTF-8 byte order."""
        last_prefix = ""
        for key in self._history.irange(minimum=max(prefix, after)):
            if not key.startswith(prefix):
                return
            if key == after or not self._is_there(key):
                continue
            slash = key.find("/", len(prefix)) if delimiter else -1
            if slash < 0:
                yield key, self._latest(key)
            elif (common := key[: slash + 1]) != last_prefix:
                last_prefix = common
                yield ObjectKey(common), None


def read_body(body: Body) -> bytes:
    """Return the bytes a body describes; raises BodyChanged when the file no longer holds them."""
    if isinstance(body, InlineBody):
        assert body.length <= INLINE_BODY_BYTES_MAX
        return body.data
    with Path(body.path).open("rb") as file:
        file.seek(body.offset)
        data = file.read(body.length)
    if len(data) != body.length:
        raise BodyChanged(f"file is shorter than planned: {body.path}")
    if body.fingerprint is not None and fingerprint_of(data, body.cell_bytes) != body.fingerprint:
        raise BodyChanged(f"file changed: {body.path}")
    return data


def _md5(data: bytes) -> ETag:
    return ETag(hashlib.md5(data).hexdigest())


def _precondition_failed(operation: str, key: str) -> PreconditionFailed:
    return PreconditionFailed("precondition", operation=operation, key=key, code="PreconditionFailed", status=412)


def _not_archived(stored: StoredObject, operation: str) -> StoredObject:
    if stored.storage_class in ARCHIVE_CLASSES:
        raise ObjectArchived("archived", operation=operation, key=stored.key, code="InvalidObjectState", status=403)
    return stored


def _check_request(operation: str, key: ObjectKey, metadata: Mapping[str, str]) -> None:
    object_headers(metadata, ObjectHeaders())  # refuses what no header can hold, as the client does
    code = ""
    if not key or len(key.encode()) > KEY_BYTES_MAX:
        code = "KeyTooLongError"
    elif metadata_size_bytes(metadata) > METADATA_BYTES_MAX:
        code = "MetadataTooLarge"
    if code:
        raise StoreRefused(code, operation=operation, key=key, code=code, status=400)
