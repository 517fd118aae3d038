"""Arithmetic of multipart uploads.        [pure]"""

import hashlib
from collections.abc import Sequence

from gatewayfs.meta.schema import UploadPart, UploadState
from gatewayfs.s3.store import PARTS_MAX, Body, FileRange, InlineBody, Part
from gatewayfs.types import ETag
from gatewayfs.upload.layout import COPY_PART_BYTES


def part_bytes_for(size_bytes: int, part_bytes: int) -> int:
    """The part size for an object: ``part_bytes``, doubled until 10,000 parts suffice."""
    while size_bytes > part_bytes * PARTS_MAX:
        part_bytes *= 2
    return part_bytes


def resumable(state: UploadState | None, key: str, size_bytes: int) -> bool:
    """Whether an upload under way can still become the object of ``size_bytes`` at ``key``."""
    return (
        state is not None
        and bool(state.upload_id)
        and state.key == key
        and state.part_bytes > 0
        and size_bytes <= state.part_bytes * PARTS_MAX
    )


def fingerprint_of(body: Body | None) -> bytes:
    """What tells two versions of one part apart; b"" for one that is copied in the bucket (its source tells)."""
    if body is None:
        return b""
    if isinstance(body, InlineBody):
        return hashlib.blake2b(body.data, digest_size=16).digest()
    return body.fingerprint or b"?"


def still_valid(part: UploadPart, offset: int, length: int, body: Body | None) -> bool:
    """Whether an uploaded part is what the present bytes ask for. An unchecked range never is.

    One copied from the bucket is if that range shall be copied; that it is from the right object is for the caller.
    """
    if isinstance(body, FileRange) and body.fingerprint is None:
        return False
    wanted = (offset, length, fingerprint_of(body), body is None)
    return (part.offset, part.length, part.fingerprint, part.copied) == wanted


def composite_etag(parts: Sequence[Part]) -> ETag | None:
    """The etag S3 gives a multipart object, MD5 of the parts' MD5s; None where part etags are no MD5s."""
    try:
        digests = b"".join(bytes.fromhex(part.etag) for part in parts)
    except ValueError:
        return None
    if len(digests) != 16 * len(parts):
        return None
    return ETag(f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}")


def copy_ranges(size_bytes: int) -> list[tuple[int, int]]:
    """(start, length) of the ranges that copy a whole object part by part."""
    step = part_bytes_for(size_bytes, COPY_PART_BYTES)
    return [(start, min(step, size_bytes - start)) for start in range(0, size_bytes, step)]
