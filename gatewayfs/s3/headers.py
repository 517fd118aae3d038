"""S3's request and reply headers <-> our values.

Nothing that reaches a header line can end it: control characters are refused before anything is sent. Metadata values
are sent as they came, so a value that a store gave us goes back to it byte for byte.
"""

import calendar
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from urllib.parse import quote

from gatewayfs.errors import BadResponse, StoreRefused
from gatewayfs.s3.store import ARCHIVE_CLASSES, Condition, Heritage, ObjectHeaders, ObjectInfo
from gatewayfs.s3.wire import Reply
from gatewayfs.s3.xml import unquoted
from gatewayfs.types import ETag, ObjectKey

NS_PER_S = 1_000_000_000
METADATA_PREFIX = "x-amz-meta-"

_SYSTEM_HEADERS = MappingProxyType(
    {
        name: name.replace("_", "-")
        for name in (
            "content_type",
            "cache_control",
            "content_disposition",
            "content_encoding",
            "content_language",
            "expires",
        )
    }
)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")
_MONTHS = {name: number for number, name in enumerate(calendar.month_abbr) if number}


def quote_key(key: str) -> str:
    """Percent-encode a key for a request path or copy source: all but unreserved characters and "/"."""
    return quote(key, safe="/~")


def quote_query(pairs: Mapping[str, str]) -> str:
    """Return the canonical query string: encoded, sorted, every name with its "="."""
    return "&".join(sorted(f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in pairs.items()))


def object_headers(metadata: Mapping[str, str], headers: ObjectHeaders) -> dict[str, str]:
    """Return the headers that give an object its metadata. Raises StoreRefused for what no header can hold."""
    result: dict[str, str] = {}
    for field, name in _SYSTEM_HEADERS.items():
        value: str = getattr(headers, field)
        if value:
            result[name] = _checked(name, value)
    for key, value in metadata.items():
        name = key.lower()
        if not _TOKEN.fullmatch(name):
            raise StoreRefused(f"metadata key {key[:80]!r} cannot be an HTTP header", code="InvalidMetadata")
        result[METADATA_PREFIX + name] = _checked(name, value)
    return result


def condition_headers(condition: Condition, *, quoted: bool) -> dict[str, str]:
    """Return the If-Match and If-None-Match headers of a write."""
    result: dict[str, str] = {}
    if condition.absent:
        result["if-none-match"] = "*"
    if condition.match is not None:
        result["if-match"] = quoted_etag(condition.match, quoted=quoted)
    return result


def quoted_etag(etag: ETag, *, quoted: bool) -> str:
    """Return the etag as this store wants to see it."""
    return f'"{etag}"' if quoted else etag


def _checked(name: str, value: str) -> str:
    if _CONTROL.search(value):
        raise StoreRefused(f"metadata value of {name[:80]!r} has control characters", code="InvalidMetadata")
    return value


# --------------------------------------------------------------------------- replies


def object_info(key: ObjectKey, reply: Reply, size: int) -> ObjectInfo:
    """Return what the headers of a HEAD or GET say. Raises BadResponse when they are not S3's."""
    headers = reply.headers
    etag = headers.get("etag", "")
    if not etag or "last-modified" not in headers:
        raise BadResponse("an object without ETag or Last-Modified", status=reply.status)
    storage_class = headers.get("x-amz-storage-class", "")
    return ObjectInfo(
        key=key,
        etag=unquoted(etag),
        size=size,
        last_modified_ns=parse_http_date(headers["last-modified"]),
        version_id=version_id(reply),
        storage_class=storage_class,
        metadata={
            name.removeprefix(METADATA_PREFIX): value
            for name, value in headers.items()
            if name.startswith(METADATA_PREFIX)
        },
        headers=ObjectHeaders(
            **{field: headers.get(name, "") for field, name in _SYSTEM_HEADERS.items()},
            website_redirect=headers.get("x-amz-website-redirect-location", ""),
            storage_class="" if storage_class == "STANDARD" else storage_class,
            heritage=Heritage(key, _count(headers.get("x-amz-tagging-count", "0"))),
        ),
        archived=_is_archived(storage_class, headers),
        restoring='ongoing-request="true"' in headers.get("x-amz-restore", ""),
    )


def version_id(reply: Reply) -> str:
    """Return the version a write made or a read saw; "" also for "null", the only version of an unversioned object."""
    version = reply.headers.get("x-amz-version-id", "")
    return "" if version == "null" else version


def content_length(reply: Reply) -> int:
    """Return the announced length of the body (HEAD: of the object)."""
    text = reply.headers.get("content-length", "")
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise BadResponse(f"broken Content-Length {text[:40]!r}", status=reply.status)
    return int(text)


def content_range(reply: Reply) -> tuple[int, int, int]:
    """Return (first byte, length, size of the object) of the body that a GET answers with. Raises BadResponse."""
    if reply.status == 200:  # the store ignored Range: everything from the first byte
        size = content_length(reply)
        return 0, size, size
    match = _CONTENT_RANGE.fullmatch(reply.headers.get("content-range", ""))
    if match is None:
        raise BadResponse("a partial answer without Content-Range", status=reply.status)
    first, last, size = (int(group) for group in match.groups())
    announced = content_length(reply) if "content-length" in reply.headers else last - first + 1
    if not first <= last < size or announced != last - first + 1:
        raise BadResponse("a Content-Range that contradicts itself", status=reply.status)
    return first, last - first + 1, size


def parse_http_date(text: str) -> int:
    """Return nanoseconds since 1970 of an HTTP date. Raises BadResponse."""
    try:
        # "Mon, 23 Nov 2026 14:42:28 GMT", the form every server uses.
        day, month, year = int(text[5:7]), _MONTHS[text[8:11]], int(text[12:16])
        hour, minute, second = int(text[17:19]), int(text[20:22]), int(text[23:25])
        return calendar.timegm((year, month, day, hour, minute, second)) * NS_PER_S
    except (ValueError, KeyError):
        pass
    try:
        return int(parsedate_to_datetime(text).timestamp()) * NS_PER_S
    except (ValueError, OverflowError) as error:
        raise BadResponse(f"broken date {text[:40]!r}") from error


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 4:
        raise BadResponse(f"broken tag count {text[:40]!r}")
    return int(text)


def _is_archived(storage_class: str, headers: Mapping[str, str]) -> bool:
    archived = storage_class in ARCHIVE_CLASSES or "x-amz-archive-status" in headers
    return archived and 'ongoing-request="false"' not in headers.get("x-amz-restore", "")
