"""The metadata and headers an inode's object shall carry.        [pure]

One function says what goes up with a file's bytes, what a copy replaces and what a lost answer is compared with, so
the three cannot drift apart.
"""

import mimetypes
import stat
from collections.abc import Mapping

import xxhash

from gatewayfs.meta.schema import Headers, Inode
from gatewayfs.s3.attributes import PosixAttributes, encode, metadata_size_bytes
from gatewayfs.s3.store import METADATA_BYTES_MAX, ObjectHeaders

# One table for the life of the process: the module's own functions re-read system files on first use.
_TYPES = mimetypes.MimeTypes()


def object_metadata(inode: Inode) -> dict[str, str]:
    """Attributes in File Gateway's form, and everything else the object carried, verbatim.

    Over S3's 2 KB the birth and access times go first: attributes people rely on and xattrs must not be lost to them.
    """
    foreign = inode.foreign or {}
    for atime, btime in ((inode.atime_ns, inode.btime_ns or None), (inode.atime_ns, None), (None, None)):
        attributes = PosixAttributes(inode.mode, inode.uid, inode.gid, inode.mtime_ns, atime, btime)
        metadata = {**foreign, **encode(attributes)}
        if metadata_size_bytes(metadata) <= METADATA_BYTES_MAX:
            break
    return metadata


def object_headers(inode: Inode, guess_mime_type: bool) -> ObjectHeaders:
    """The headers the object came with; for a regular file made here, a Content-Type by its name."""
    if inode.headers is not None:
        kept = inode.headers
        return ObjectHeaders(
            content_type=kept.content_type,
            cache_control=kept.cache_control,
            content_disposition=kept.content_disposition,
            content_encoding=kept.content_encoding,
            content_language=kept.content_language,
            expires=kept.expires,
        )
    if not guess_mime_type or not inode.is_regular:
        return ObjectHeaders()
    # A second result ("gzip") must not become Content-Encoding: browsers would unpack what is meant as a file.
    kind, encoding = _TYPES.guess_type("/" + inode.name.decode(errors="replace"))
    if encoding is not None:
        kind = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}.get(encoding)
    return ObjectHeaders(content_type=kind or "")


def headers_record(headers: ObjectHeaders) -> Headers:
    """Headers as the inode record keeps them."""
    return Headers(
        content_type=headers.content_type,
        cache_control=headers.cache_control,
        content_disposition=headers.content_disposition,
        content_encoding=headers.content_encoding,
        content_language=headers.content_language,
        expires=headers.expires,
    )


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
