"""Checksummed frames: what the journal and the recovery log are made of.

    segment header (64 bytes)   magic, version, segment number, salt, boot identity, checksum
    frame header (48 bytes)     magic, payload length, flags, 0, sequence, synced, ordered, checksum; all little endian
    payload                     padded with zeros to a multiple of 8

A frame is one transaction: MessagePack ``[[key, value or nil], ...]``. ``synced`` and ``ordered`` say what was known to
be safe when the frame was written: every frame up to ``synced`` had been fdatasynced; the cache files that frames up
to ``ordered`` talk about had been, too. The reader draws conclusions from both (``replay.py``).

The checksum is xxh3-64 with the segment's random salt as seed. So bytes chosen by a user (a name, a symlink target)
never pass for a frame, and neither does a frame of another segment.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import xxhash

from gatewayfs.errors import CorruptRecord

SEGMENT_MAGIC: Final = b"GWFSLOG1"
FRAME_MAGIC: Final = b"\xf5GWF"
SEGMENT_HEADER: Final = struct.Struct("<8sIIQQ16sQQ")
SEGMENT_HEADER_BYTES: Final = 64
FORMAT_VERSION: Final = 1

_FRAME: Final = struct.Struct("<4sIIIQQQQ")
FRAME_HEADER_BYTES: Final = _FRAME.size
_FRAME_SIGNED_BYTES: Final = FRAME_HEADER_BYTES - 8

NEEDS_DATA: Final = 1
"""Flag: the transaction named cache files that must be on disk before it may be believed after power loss."""

_checksum = xxhash.xxh3_64_intdigest
_pack_signed = struct.Struct("<4sIIIQQQ").pack
_pack_checksum = struct.Struct("<Q").pack
_PADDING: Final = tuple(bytes(-length % 8) for length in range(8))


@dataclass(frozen=True, slots=True)
class Frame:
    """One transaction as found in a segment."""

    sequence: int
    synced: int
    ordered: int
    flags: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """Identity of a segment file."""

    number: int
    salt: int
    boot: bytes
    """First 16 bytes of a digest of the boot identity under which the segment was written; empty identity: zeros."""


def boot_digest(boot_identity: str) -> bytes:
    """16 bytes standing for a boot identity; zeros when it is unknown."""
    return xxhash.xxh3_128_digest(boot_identity.encode()) if boot_identity else bytes(16)


def encode_header(header: SegmentHeader) -> bytes:
    signed = SEGMENT_HEADER.pack(SEGMENT_MAGIC, FORMAT_VERSION, 0, header.number, header.salt, header.boot, 0, 0)[:-8]
    return signed + _pack_checksum(_checksum(signed))


def decode_header(data: bytes) -> SegmentHeader | None:
    """None when the header was never (wholly) written or is damaged."""
    if len(data) < SEGMENT_HEADER_BYTES:
        return None
    magic, version, _, number, salt, boot, _, checksum = SEGMENT_HEADER.unpack_from(data)
    if magic != SEGMENT_MAGIC or version != FORMAT_VERSION or checksum != _checksum(data[: SEGMENT_HEADER_BYTES - 8]):
        return None
    return SegmentHeader(number, salt, boot)


def header_of(name: str, data: bytes) -> SegmentHeader | None:
    """The header of a segment called ``name``; None while it was never written. Raises CorruptRecord for anything else.

    It lies in one sector: power loss leaves all of it or zeros, so noise is damage, and nobody can say of what.
    """
    header = decode_header(data)
    if header is None and any(data[:SEGMENT_HEADER_BYTES]):
        raise CorruptRecord(f"{name} is no journal segment")
    return header


def encode_frame(salt: int, sequence: int, synced: int, ordered: int, flags: int, payload: bytes) -> bytes:
    """The bytes to append; their length is a multiple of 8."""
    length = len(payload)
    signed = _pack_signed(FRAME_MAGIC, length, flags, 0, sequence, synced, ordered)
    body = payload + _PADDING[length & 7]
    return signed + _pack_checksum(_checksum(signed + payload, salt)) + body


def frame_bytes(payload_bytes: int) -> int:
    """Size of the frame for a payload."""
    return FRAME_HEADER_BYTES + payload_bytes + (-payload_bytes % 8)


def _frame_at(data: bytes, offset: int, salt: int) -> Frame | None:
    if offset + FRAME_HEADER_BYTES > len(data):
        return None
    magic, length, flags, _, sequence, synced, ordered, checksum = _FRAME.unpack_from(data, offset)
    start = offset + FRAME_HEADER_BYTES
    if magic != FRAME_MAGIC or start + length > len(data):
        return None
    payload = data[start : start + length]
    if checksum != _checksum(data[offset : offset + _FRAME_SIGNED_BYTES] + payload, salt):
        return None
    return Frame(sequence, synced, ordered, flags, payload)


def frames_in(data: bytes, salt: int) -> Iterator[Frame]:
    """Every valid frame of a segment's bytes, in order, those behind a damaged one included."""
    return (frame for _, frame in placed_frames_in(data, salt))


def placed_frames_in(data: bytes, salt: int) -> Iterator[tuple[int, Frame]]:
    """``frames_in``, each with its offset."""
    offset = SEGMENT_HEADER_BYTES
    while True:
        frame = _frame_at(data, offset, salt)
        if frame is not None:
            yield offset, frame
            offset += frame_bytes(len(frame.payload))
            continue
        # The end (zeros), or damage: whatever still follows begins with the magic at a multiple of 8.
        offset = data.find(FRAME_MAGIC, offset + 1)
        while offset != -1 and offset % 8:
            offset = data.find(FRAME_MAGIC, offset + 1)
        if offset == -1:
            return
