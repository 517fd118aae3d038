"""POSIX attributes <-> S3 user metadata.

An object's user metadata is the only place in a bucket where owner, mode and times of a file can live. We write the
keys that AWS S3 File Gateway, DataSync, FSx for Lustre and S3 Files share, so that each of them reads what we wrote:

    file-owner, file-group      decimal
    file-permissions            octal st_mode with type bits: 0100644, 0040755, 0120777
    file-mtime, -atime, -btime  nanoseconds since 1970 with the suffix "ns" (a number without it is milliseconds)
    file-rdev                   major:minor of a device node, decimal; ours alone, the others have no device nodes
    user-agent                  who wrote the object last

Metadata of an object falls into three heaps:

    ours       the keys above; read by ``decode``, written afresh by ``encode`` at every upload
    xattrs     shown to applications as ``user.<name>`` (``xattrs.py``)
    reserved   ``file-ctime``, ``fs-id``, ``user-agent-id`` ...: other tools' book-keeping, neither shown nor touched

``split_metadata`` cuts the first heap off the rest. What it calls *foreign* (xattrs and reserved together) is kept in
the inode record in its wire form and written back verbatim, so metadata that nobody edits never changes by a byte.

Everything read here was written by somebody else and may be hostile: a value that makes no sense costs exactly that
attribute (the share's default stands in), never an exception. Other tools' dialects (s3fs, rclone, geesefs) become
further rows of ``READERS``.
"""

import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

USER_AGENT = "gatewayfs"

UID_MAX = (1 << 32) - 2
"""4294967295 is (uid_t)-1, which means "unchanged" to chown: nobody can own a file with it."""

TIME_NS_MAX = (1 << 63) - 1
TIME_NS_MIN = -(1 << 63)

NS_PER_MS = 1_000_000

OWN_KEYS = frozenset(
    {
        "file-owner",
        "file-group",
        "file-permissions",
        "file-mtime",
        "file-atime",
        "file-btime",
        "file-rdev",
        "user-agent",
    }
)
_DECIMAL = re.compile(r"[0-9]{1,10}")
_OCTAL = re.compile(r"[0-7]{1,8}")
_DEVICE = re.compile(r"([0-9]{1,4}):([0-9]{1,7})")
_TIME = re.compile(r"(-?[0-9]{1,19})(ns)?")

_TYPES_FROM_METADATA = frozenset({stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK})
DEVICE_TYPES = frozenset({stat.S_IFCHR, stat.S_IFBLK})

MAJOR_MAX = (1 << 12) - 1
MINOR_MAX = (1 << 20) - 1
"""Linux: a dev_t of 12 and 20 bits."""


@dataclass(frozen=True, slots=True)
class PosixAttributes:
    """What POSIX knows about a file and metadata can hold. ``mode`` is the full st_mode, type bits included; ``rdev``
    is 0 for anything but a device node."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    atime_ns: int | None = None
    btime_ns: int | None = None
    rdev: int = 0


@dataclass(frozen=True, slots=True)
class ShareDefaults:
    """Attributes of objects whose metadata does not say (File Gateway's NFSFileShareDefaults)."""

    file_mode: int = 0o666
    directory_mode: int = 0o777
    uid: int = 65534
    gid: int = 65534


@dataclass(frozen=True, slots=True)
class Decoded:
    """Attributes of one object; ``given`` names the fields its metadata supplied, the rest are defaults."""

    attributes: PosixAttributes
    given: frozenset[str]


@dataclass(frozen=True, slots=True)
class Reading:
    """What one dialect found; None where it found nothing usable. ``mode`` may lack type bits."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    mtime_ns: int | None = None
    atime_ns: int | None = None
    btime_ns: int | None = None
    rdev: int | None = None


@dataclass(frozen=True, slots=True)
class Reader:
    """One dialect: its name and a function from lower-case metadata to a reading."""

    name: str
    read: Callable[[Mapping[str, str]], Reading]


def _read_file_gateway(metadata: Mapping[str, str]) -> Reading:
    return Reading(
        mode=_parse_octal(metadata.get("file-permissions")),
        uid=_parse_id(metadata.get("file-owner")),
        gid=_parse_id(metadata.get("file-group")),
        mtime_ns=_parse_time(metadata.get("file-mtime")),
        atime_ns=_parse_time(metadata.get("file-atime")),
        btime_ns=_parse_time(metadata.get("file-btime")),
        rdev=_parse_device(metadata.get("file-rdev")),
    )


READERS: tuple[Reader, ...] = (Reader("file-gateway", _read_file_gateway),)
"""Dialects in order of trust: for every attribute the first reader that has it wins."""


# --------------------------------------------------------------------------- attributes


def encode(attributes: PosixAttributes) -> dict[str, str]:
    """Return the metadata keys that hold ``attributes``, ready to be merged with the foreign ones."""
    metadata = {
        "file-owner": str(attributes.uid),
        "file-group": str(attributes.gid),
        "file-permissions": f"{attributes.mode:07o}",
        "file-mtime": f"{attributes.mtime_ns}ns",
        "user-agent": USER_AGENT,
    }
    if attributes.atime_ns is not None:
        metadata["file-atime"] = f"{attributes.atime_ns}ns"
    if attributes.btime_ns is not None:
        metadata["file-btime"] = f"{attributes.btime_ns}ns"
    if stat.S_IFMT(attributes.mode) in DEVICE_TYPES:
        metadata["file-rdev"] = f"{os.major(attributes.rdev)}:{os.minor(attributes.rdev)}"
    return metadata


def decode(
    metadata: Mapping[str, str],
    *,
    key_is_directory: bool,
    defaults: ShareDefaults,
    last_modified_ns: int,
) -> Decoded:
    """Return the attributes that ``metadata`` (keys in any letter case) holds. Never raises on bad metadata.

    Args:
        key_is_directory: the object's key ends with "/". Only the key makes a directory, and it always does.
        defaults: stand in for what metadata does not say.
        last_modified_ns: the object's LastModified, the mtime where metadata has none.

    A missing atime or btime stays None.
    """
    lowered = {key.lower(): value for key, value in metadata.items()}
    reading = _merge(reader.read(lowered) for reader in READERS)
    default_mode = defaults.directory_mode if key_is_directory else defaults.file_mode
    mode = default_mode if reading.mode is None else reading.mode
    kind = _file_type(mode, key_is_directory, reading.rdev is not None)
    attributes = PosixAttributes(
        mode=kind | stat.S_IMODE(mode),
        uid=defaults.uid if reading.uid is None else reading.uid,
        gid=defaults.gid if reading.gid is None else reading.gid,
        mtime_ns=last_modified_ns if reading.mtime_ns is None else reading.mtime_ns,
        atime_ns=reading.atime_ns,
        btime_ns=reading.btime_ns,
        rdev=(reading.rdev or 0) if kind in DEVICE_TYPES else 0,
    )
    given = frozenset(name for name in Reading.__slots__ if getattr(reading, name) is not None)
    return Decoded(attributes, given)


def _merge(readings: Iterable[Reading]) -> Reading:
    merged: dict[str, int | None] = dict.fromkeys(Reading.__slots__)
    for reading in readings:
        for name, value in merged.items():
            if value is None:
                merged[name] = getattr(reading, name)
    return Reading(**merged)


def _file_type(mode: int, key_is_directory: bool, device_named: bool) -> int:
    if key_is_directory:
        return stat.S_IFDIR
    kind = stat.S_IFMT(mode)
    sensible = kind in _TYPES_FROM_METADATA or (kind in DEVICE_TYPES and device_named)
    return kind if sensible else stat.S_IFREG


def _parse_octal(text: str | None) -> int | None:
    if text is None or not _OCTAL.fullmatch(text.strip()):
        return None
    value = int(text, 8)
    return value if value <= 0o177777 else None


def _parse_id(text: str | None) -> int | None:
    if text is None or not _DECIMAL.fullmatch(text.strip()):
        return None
    value = int(text)
    return value if value <= UID_MAX else None


def _parse_device(text: str | None) -> int | None:
    match = _DEVICE.fullmatch(text.strip()) if text is not None else None
    if match is None or int(match[1]) > MAJOR_MAX or int(match[2]) > MINOR_MAX:
        return None
    return os.makedev(int(match[1]), int(match[2]))


def _parse_time(text: str | None) -> int | None:
    match = _TIME.fullmatch(text.strip()) if text is not None else None
    if match is None:
        return None
    value = int(match[1]) * (1 if match[2] else NS_PER_MS)
    return value if TIME_NS_MIN <= value <= TIME_NS_MAX else None


# --------------------------------------------------------------------------- foreign metadata


def split_metadata(metadata: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Cut an object's metadata into (ours, foreign), keys lower-cased.

    Ours is what ``encode`` writes anew; foreign must be written back verbatim with every upload and copy.
    """
    ours: dict[str, str] = {}
    foreign: dict[str, str] = {}
    for key, value in metadata.items():
        lowered = key.lower()
        (ours if lowered in OWN_KEYS else foreign)[lowered] = value
    return ours, foreign


def metadata_size_bytes(metadata: Mapping[str, str]) -> int:
    """Return the size S3 holds against METADATA_BYTES_MAX: UTF-8 bytes of every key and value."""
    return sum(len(key.encode()) + len(value.encode()) for key, value in metadata.items())
