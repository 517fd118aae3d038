"""Arithmetic of multipart uploads.        [pure]"""

import hashlib
from collections.abc import Sequence

from gatewayfs.meta.schema import UploadPart, UploadState
from gatewayfs.s3.store import PARTS_MAX, Body, FileRange, InlineBody, Part
from gatewayfs.types import ETag

COPY_PART_BYTES = 1 << 30
"""Range of one UploadPartCopy when a whole object is copied: few requests, and short enough to be retried."""


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
    """What tells two versions of one part apart; b"" for a part that is only in the bucket (it cannot have changed)."""
    if body is None:
        return b""
    if isinstance(body, InlineBody):
        return hashlib.blake2b(body.data, digest_size=16).digest()
    return body.fingerprint or b"?"


def still_valid(part: UploadPart, number: int, offset: int, length: int, body: Body | None) -> bool:
    """Whether an uploaded part is what the present bytes ask for. An unchecked range never is."""
    if isinstance(body, FileRange) and body.fingerprint is None:
        return False
    return (part.number, part.offset, part.length, part.fingerprint) == (number, offset, length, fingerprint_of(body))


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


def mixed_parts(extents: Sequence[int], size_bytes: int, part_bytes: int) -> list[tuple[int, int]]:
    """(start, end) of the parts of which some bytes are here and some are not.

    Args:
        extents: resident ranges, flat and sorted: (start, end, start, end, ...).
    """
    here: dict[int, int] = {}
    for start, end in zip(extents[::2], extents[1::2], strict=True):
        for number in range(start // part_bytes, -(-end // part_bytes)):
            inside = min(end, (number + 1) * part_bytes) - max(start, number * part_bytes)
            here[number] = here.get(number, 0) + inside
    parts = ((number * part_bytes, min((number + 1) * part_bytes, size_bytes)) for number in sorted(here))
    return [(start, end) for start, end in parts if here[start // part_bytes] < end - start]
