"""Between what an object says of itself and the fields of an inode record. Pure.

``meta/`` has records and ``s3/`` has objects, and neither knows the other. Whoever stands above both reads an object
into a record, or writes a record's attributes to an object, through this module, so the two directions cannot drift
apart.
"""

from gatewayfs.meta.schema import Headers, Inode
from gatewayfs.s3.attributes import ShareDefaults, decode
from gatewayfs.s3.dialects import PosixAttributes, link_target
from gatewayfs.s3.store import ObjectHeaders, ObjectInfo


def attribute_fields(info: ObjectInfo, defaults: ShareDefaults) -> dict[str, int]:
    """Mode, owner, times and device number of an object, as fields of an inode record; ``btime_ns`` is 0 where the
    object does not say."""
    found = decode(
        info.metadata,
        key=info.key,
        size=info.size,
        defaults=defaults,
        last_modified_ns=info.last_modified_ns,
    )
    return {
        "mode": found.mode,
        "uid": found.uid,
        "gid": found.gid,
        "mtime_ns": found.mtime_ns,
        "atime_ns": found.mtime_ns if found.atime_ns is None else found.atime_ns,
        "btime_ns": found.btime_ns or 0,
        "rdev": found.rdev,
    }


def link_text(info: ObjectInfo, data: bytes) -> bytes:
    """The target of a symlink whose object holds ``data``; b"" where it has none."""
    return data or link_target(info.metadata) or b""


def posix_attributes(inode: Inode) -> PosixAttributes:
    """The attributes that the object of a record shall carry."""
    return PosixAttributes(
        mode=inode.mode,
        uid=inode.uid,
        gid=inode.gid,
        mtime_ns=inode.mtime_ns,
        atime_ns=inode.atime_ns,
        btime_ns=inode.btime_ns or None,
        rdev=inode.rdev,
    )


def headers_record(headers: ObjectHeaders) -> Headers:
    """Headers as the inode record keeps them."""
    return Headers(
        content_type=headers.content_type,
        cache_control=headers.cache_control,
        content_disposition=headers.content_disposition,
        content_encoding=headers.content_encoding,
        content_language=headers.content_language,
        expires=headers.expires,
        website_redirect=headers.website_redirect,
        tag_count=(headers.heritage.tag_count or 0) if headers.heritage is not None else 0,
    )
