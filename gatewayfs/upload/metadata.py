"""The metadata and headers an inode's object shall carry.        [pure]

One function says what goes up with a file's bytes, what a copy replaces and what a lost answer is compared with, so
the three cannot drift apart.
"""

import mimetypes
import stat
from collections.abc import Mapping
from dataclasses import replace

import xxhash

from gatewayfs.meta.schema import Inode
from gatewayfs.objectrecords import posix_attributes
from gatewayfs.s3.attributes import metadata_size_bytes, whole_metadata
from gatewayfs.s3.store import ARCHIVE_CLASSES, METADATA_BYTES_MAX, Heritage, ObjectHeaders
from gatewayfs.types import ObjectKey

# One table for the life of the process: the module's own functions re-read system files on first use.
_TYPES = mimetypes.MimeTypes()


def object_metadata(inode: Inode, also: str) -> dict[str, str]:
    """Attributes in File Gateway's form, and in another tool's if ``also`` names one; what the object carried besides.

    Over S3's 2 KB the birth and access times go first, then the other tool's form: attributes
    people rely on and xattrs must not be lost to them.
    """
    foreign = inode.foreign or {}
    whole = posix_attributes(inode)
    less = replace(whole, btime_ns=None)
    least = replace(less, atime_ns=None)
    for attributes, dialect in ((whole, also), (less, also), (least, also), (least, "")):
        metadata = whole_metadata(attributes, foreign, dialect)
        if metadata_size_bytes(metadata) <= METADATA_BYTES_MAX:
            break
    return metadata


def object_headers(inode: Inode, guess_mime_type: bool) -> ObjectHeaders:
    """The headers the object came with; for a regular file made here, a Content-Type by its name.

    Either way they name the object whose place the new one takes, for what only a request can tell (tags, ACL).
    """
    remote = inode.remote
    storage_class = kept_storage_class(inode)
    if inode.headers is not None:
        kept = inode.headers
        return ObjectHeaders(
            content_type=kept.content_type,
            cache_control=kept.cache_control,
            content_disposition=kept.content_disposition,
            content_encoding=kept.content_encoding,
            content_language=kept.content_language,
            expires=kept.expires,
            website_redirect=kept.website_redirect,
            storage_class=storage_class,
            heritage=Heritage(ObjectKey(remote.key), kept.tag_count) if remote is not None else None,
        )
    heritage = Heritage(ObjectKey(remote.key), ours=inode.attributes_known) if remote is not None else None
    if not guess_mime_type or not inode.is_regular:
        return ObjectHeaders(storage_class=storage_class, heritage=heritage)
    # A second result ("gzip") must not become Content-Encoding: browsers would unpack what is meant as a file.
    kind, encoding = _TYPES.guess_type("/" + inode.name.decode(errors="replace"))
    if encoding is not None:
        kind = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}.get(encoding)
    return ObjectHeaders(content_type=kind or "", storage_class=storage_class, heritage=heritage)


def kept_storage_class(inode: Inode) -> str:
    """The class of somebody else's object that the inode's takes the place of; "" for one of ours, or STANDARD."""
    if inode.remote is None or (inode.headers is None and inode.attributes_known):
        return ""
    kept = inode.remote.storage_class
    return "" if kept in ARCHIVE_CLASSES else kept


def metadata_digest(metadata: Mapping[str, str]) -> bytes:
    """xxh3-128 over keys and values, in key order, letter case of keys ignored."""
    digest = xxhash.xxh3_128()
    for key, value in sorted((key.lower(), value) for key, value in metadata.items()):
        digest.update(f"{len(key)}:{key}={len(value)}:{value};".encode())
    return digest.digest()


def small_body(inode: Inode) -> bytes | None:
    """The whole object of anything but a regular file; None while a symlink's target is not known here."""
    assert not stat.S_ISREG(inode.mode)
    return inode.target if inode.is_symlink else b""
