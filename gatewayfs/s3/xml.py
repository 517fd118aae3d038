"""S3's XML: what we send and what comes back, as plain values.

Whatever does not parse, or parses as something else than was asked for, raises NotXml; the caller makes BadResponse of
it. Namespaces are ignored, because stores disagree about them.
"""

import calendar
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from urllib.parse import quote, unquote_plus, urlencode
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from gatewayfs.s3.store import Deletion, ListedObject, ListPage, Part, PendingUpload
from gatewayfs.types import ETag, ObjectKey

NS_PER_S = 1_000_000_000
_UNHOLDABLE = re.compile(rb"&#(?:x[0-9a-fA-F]{1,6}|[0-9]{1,7});|[\x00-\x08\x0b\x0c\x0e-\x1f]")
_ERROR = re.compile(rb"\s*(?:<\?xml[^>]*\?>\s*)*<Error[\s>]")
_UNWRITABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_GRANTEES = (("ID", "id"), ("URI", "uri"), ("EmailAddress", "emailAddress"))
_GRANTEE_NAME = re.compile(r"[ !#-~]+")
_PERMISSIONS = frozenset({"full-control", "read", "read-acp", "write-acp"})
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


class NotXml(Exception):
    """The body is not the document that was asked for; the message says in what way."""


def parse_error(body: bytes) -> tuple[str, str, str]:
    """Return (code, message, region) of an Error document, all "" for an empty body."""
    if not body.strip():
        return "", "", ""
    root = _parse(body)
    if _local(root) != "Error":
        raise NotXml(f"a {_local(root)} document where an error was announced")
    return _text(root, "Code"), _text(root, "Message"), _text(root, "Region")


def is_error(body: bytes) -> bool:
    """Tell whether a success's body is an Error document after all."""
    # Not just somewhere: a DeleteResult has an Error element for each key that could not be deleted.
    return _ERROR.match(body[:1024]) is not None


def parse_list(body: bytes) -> ListPage:
    """Return the page of a ListObjectsV2 answer."""
    root = _document(body, "ListBucketResult")
    decode = _decoder(root)
    objects = [
        ListedObject(
            key=ObjectKey(decode(_required(item, "Key"))),
            etag=unquoted(_text(item, "ETag")),
            size=_number(_required(item, "Size")),
            last_modified_ns=parse_timestamp(_required(item, "LastModified")),
            storage_class=_text(item, "StorageClass"),
        )
        for item in _children(root, "Contents")
    ]
    prefixes = [ObjectKey(decode(_required(item, "Prefix"))) for item in _children(root, "CommonPrefixes")]
    token = ""
    if _text(root, "IsTruncated") == "true":
        token = _required(root, "NextContinuationToken")
    return ListPage(objects, prefixes, token)


def parse_upload_id(body: bytes) -> str:
    """Return the upload id of a CreateMultipartUpload answer."""
    return _required(_document(body, "InitiateMultipartUploadResult"), "UploadId")


def parse_result(body: bytes, name: str) -> tuple[ETag, int]:
    """Return (etag, last modified in ns or 0) of a CopyObjectResult, CopyPartResult or completion ``name``."""
    root = _document(body, name)
    stamp = _text(root, "LastModified")
    return unquoted(_required(root, "ETag")), parse_timestamp(stamp) if stamp else 0


def parse_parts(body: bytes) -> tuple[list[Part], str]:
    """Return (parts, marker of the next page or "") of a ListParts answer."""
    root = _document(body, "ListPartsResult", "ListPartsResponse")  # the latter is moto's
    parts = [
        Part(_number(_required(item, "PartNumber")), unquoted(_required(item, "ETag")))
        for item in _children(root, "Part")
    ]
    more = _text(root, "IsTruncated") == "true"
    return parts, _required(root, "NextPartNumberMarker") if more else ""


def parse_uploads(body: bytes) -> tuple[list[PendingUpload], tuple[str, str]]:
    """Return (uploads, (key marker, upload id marker) of the next page or ("", "")) of a ListMultipartUploadsResult."""
    root = _document(body, "ListMultipartUploadsResult")
    decode = _decoder(root)
    uploads = [
        PendingUpload(
            key=ObjectKey(decode(_required(item, "Key"))),
            upload_id=_required(item, "UploadId"),
            initiated_ns=parse_timestamp(_required(item, "Initiated")),
        )
        for item in _children(root, "Upload")
    ]
    if _text(root, "IsTruncated") != "true":
        return uploads, ("", "")
    return uploads, (decode(_required(root, "NextKeyMarker")), _text(root, "NextUploadIdMarker"))


def parse_versions(body: bytes) -> list[tuple[str, str]]:
    """Return (key, version id) of every version and delete marker in a ListVersionsResult."""
    root = _document(body, "ListVersionsResult")
    decode = _decoder(root)
    return [
        (decode(_required(item, "Key")), _text(item, "VersionId"))
        for kind in ("Version", "DeleteMarker")
        for item in _children(root, kind)
    ]


def parse_tagging(body: bytes) -> str:
    """Return a GetObjectTagging answer as the form-encoded text that ``x-amz-tagging`` takes, "" without tags."""
    tags = _document(body, "Tagging").iter()
    pairs = [(_text(tag, "Key"), _text(tag, "Value")) for tag in tags if _local(tag) == "Tag"]
    return urlencode(pairs, quote_via=quote)


def parse_grants(body: bytes) -> dict[str, str]:
    """Return a GetObjectAcl answer as ``x-amz-grant-*`` headers, {} when only the owner has any right."""
    root = _document(body, "AccessControlPolicy")
    owner = "".join(_text(item, "ID") for item in _children(root, "Owner"))
    grantees: dict[str, list[str]] = {}
    for grant in (element for element in root.iter() if _local(element) == "Grant"):
        permission = _required(grant, "Permission").lower().replace("_", "-")
        named = [
            f'{name}="{value}"'
            for grantee in _children(grant, "Grantee")
            for tag, name in _GRANTEES
            if _GRANTEE_NAME.fullmatch(value := _text(grantee, tag))
        ]
        if len(named) != 1 or permission not in _PERMISSIONS:
            raise NotXml("a grant that cannot be written again")
        grantees.setdefault(permission, []).append(named[0])
    if grantees == {"full-control": [f'id="{owner}"']}:
        return {}
    return {f"x-amz-grant-{permission}": ", ".join(names) for permission, names in grantees.items()}


def completion_document(parts: Sequence[Part]) -> bytes:
    """Return the body of a CompleteMultipartUpload request."""
    rows = "".join(
        f"<Part><PartNumber>{part.number}</PartNumber><ETag>&quot;{escape(part.etag)}&quot;</ETag></Part>"
        for part in parts
    )
    return f'<CompleteMultipartUpload xmlns="{_NAMESPACE}">{rows}</CompleteMultipartUpload>'.encode()


def restore_document(tier: str, days: int | None) -> bytes:
    """Return RestoreObject's body. ``tier`` as in the configuration; ``days`` None leaves them out."""
    for_days = "" if days is None else f"<Days>{days}</Days>"
    parameters = f"<GlacierJobParameters><Tier>{tier.capitalize()}</Tier></GlacierJobParameters>"
    return f'<RestoreRequest xmlns="{_NAMESPACE}">{for_days}{parameters}</RestoreRequest>'.encode()


def writable(key: str) -> bool:
    """Whether XML can hold the key, and every parser gives it back unchanged (a carriage return would not stay)."""
    return _UNWRITABLE.search(key) is None


def deletion_document(deletions: Sequence[Deletion]) -> bytes:
    """Return the body of a DeleteObjects request; every key must be ``writable``."""
    rows = "".join(
        f"<Object><Key>{escape(deletion.key)}</Key>"
        + (f"<ETag>{escape(deletion.match)}</ETag>" if deletion.match is not None else "")
        + "</Object>"
        for deletion in deletions
    )
    return f'<Delete xmlns="{_NAMESPACE}">{rows}<Quiet>true</Quiet></Delete>'.encode()


def parse_deletions(body: bytes) -> list[tuple[str, str, str]]:
    """Return (key, code, message) of each key a DeleteObjects request could not delete."""
    root = _document(body, "DeleteResult")
    return [(_required(item, "Key"), _text(item, "Code"), _text(item, "Message")) for item in _children(root, "Error")]


def parse_timestamp(text: str) -> int:
    """Return nanoseconds since 1970 of an ISO 8601 time, its fraction cut off.

    HEAD answers in whole seconds. Some stores list with milliseconds; kept, an object listed would always look
    different from the same object asked for by HEAD.
    """
    try:
        fields = (text[0:4], text[5:7], text[8:10], text[11:13], text[14:16], text[17:19])
        year, month, day, hour, minute, second = (int(part) for part in fields)
        return calendar.timegm((year, month, day, hour, minute, second)) * NS_PER_S
    except ValueError as error:
        raise NotXml(f"broken time {text[:40]!r}") from error


def unquoted(etag: str) -> ETag:
    """Return an etag without its quotes."""
    return ETag(etag.strip().removeprefix("W/").strip('"'))


# --------------------------------------------------------------------------- elements


def _parse(body: bytes) -> ElementTree.Element:
    # No S3 answer has a document type; every HTML page does, and every entity bomb.
    if b"<!DOCTYPE" in body:
        raise NotXml("not an S3 answer")
    try:
        return ElementTree.fromstring(body)
    except (ElementTree.ParseError, ValueError, LookupError):
        # XML cannot hold control characters in any form, but servers echo prefixes and keys that have them (Ceph RGW
        # even where it was asked for percent-encoding). The names that matter are percent-encoded.
        body = _UNHOLDABLE.sub("\N{REPLACEMENT CHARACTER}".encode(), body)
    try:
        return ElementTree.fromstring(body)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise NotXml(f"broken XML: {error}") from error


def _document(body: bytes, *names: str) -> ElementTree.Element:
    root = _parse(body)
    if _local(root) not in names:
        raise NotXml(f"a {_local(root)[:40]} document instead of {names[0]}")
    return root


def _local(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _tag(parent: ElementTree.Element, name: str) -> str:
    """The child's full tag: in its parent's namespace."""
    return parent.tag[: parent.tag.rfind("}") + 1] + name


def _children(parent: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    return parent.iterfind(_tag(parent, name))


def _text(parent: ElementTree.Element, name: str) -> str:
    return parent.findtext(_tag(parent, name)) or ""


def _required(parent: ElementTree.Element, name: str) -> str:
    text = parent.findtext(_tag(parent, name))
    if not text:
        raise NotXml(f"no {name} in {_local(parent)[:40]}")
    return text


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise NotXml(f"broken number {text[:40]!r}")
    return int(text)


def _decoder(root: ElementTree.Element) -> Callable[[str], str]:
    """What percent-encoding holds that is no UTF-8 becomes lone surrogates: a key nobody shows, not some other key."""
    return partial(unquote_plus, errors="surrogateescape") if _text(root, "EncodingType") == "url" else str
