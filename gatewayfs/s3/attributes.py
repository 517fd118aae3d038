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

Other tools keep the same attributes under other keys (``dialects.py``). Those are read too, and wherever an object
carries them they are written along, so that no tool is told something stale.

Everything read here was written by somebody else and may be hostile: a value that makes no sense costs exactly that
attribute (the share's default stands in), never an exception. An object's data is never hidden behind metadata: a
special file is empty and a symlink's target is short, so whatever else claims to be one is a regular file.
"""

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass

from gatewayfs.s3.dialects import (
    OTHERS,
    TIME_NS_MAX,
    TIME_NS_MIN,
    PosixAttributes,
    Reading,
    link_target,
    parse_id,
    parse_octal,
    precedence,
    renewed,
    written,
)
from gatewayfs.types import SYMLINK_BYTES_MAX

USER_AGENT = "gatewayfs"
RCLONE_LINK_SUFFIX = ".rclonelink"

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
_DEVICE = re.compile(r"([0-9]{1,4}):([0-9]{1,7})")
_TIME = re.compile(r"(-?[0-9]{1,19})(ns)?")

DEVICE_TYPES = frozenset({stat.S_IFCHR, stat.S_IFBLK})

MAJOR_MAX = (1 << 12) - 1
MINOR_MAX = (1 << 20) - 1
"""Linux: a dev_t of 12 and 20 bits."""


@dataclass(frozen=True, slots=True)
class ShareDefaults:
    """Attributes of objects whose metadata does not say (File Gateway's NFSFileShareDefaults)."""

    file_mode: int = 0o666
    directory_mode: int = 0o777
    uid: int = 65534
    gid: int = 65534


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


def whole_metadata(attributes: PosixAttributes, foreign: Mapping[str, str], also: str) -> dict[str, str]:
    """Return everything an object shall carry: ``attributes`` in our form, in the dialect ``also`` (see
    ``dialects.written``) and wherever ``foreign`` holds them; the rest of ``foreign`` verbatim."""
    return {**renewed(foreign, attributes), **written(also, attributes), **encode(attributes)}


def decode(
    metadata: Mapping[str, str],
    *,
    key: str,
    size: int,
    defaults: ShareDefaults,
    last_modified_ns: int,
) -> PosixAttributes:
    """Return the attributes that ``metadata`` (keys in any letter case) holds. Never raises on bad metadata.

    Args:
        key: the object's key. Only a "/" at its end makes a directory, and it always does.
        size: of the object, in bytes.
        defaults: stand in for what metadata does not say.
        last_modified_ns: the object's LastModified, the mtime where metadata has none.

    A missing atime or btime stays None.
    """
    lowered = {name.lower(): value for name, value in metadata.items()}
    is_directory = key.endswith("/")
    reading = precedence(
        _read_own(lowered),
        [read(lowered, is_directory) for read in OTHERS],
        ours=lowered.get("user-agent") == USER_AGENT,
    )
    mode, rdev = reading.mode, _parse_device(lowered.get("file-rdev"))
    if mode is None:
        # rclone tells a symlink by its name alone, unless it writes metadata too.
        linked = key.endswith(RCLONE_LINK_SUFFIX)
        mode = defaults.directory_mode if is_directory else stat.S_IFLNK | 0o777 if linked else defaults.file_mode
    kind = stat.S_IFDIR if is_directory else _type_of_file(mode, size, rdev, link_target(lowered))
    return PosixAttributes(
        mode=kind | stat.S_IMODE(mode),
        uid=defaults.uid if reading.uid is None else reading.uid,
        gid=defaults.gid if reading.gid is None else reading.gid,
        mtime_ns=last_modified_ns if reading.mtime_ns is None else reading.mtime_ns,
        atime_ns=reading.atime_ns,
        btime_ns=reading.btime_ns,
        rdev=rdev if rdev is not None and kind in DEVICE_TYPES else 0,
    )


def _read_own(metadata: Mapping[str, str]) -> Reading:
    return Reading(
        mode=parse_octal(metadata.get("file-permissions")),
        uid=parse_id(metadata.get("file-owner")),
        gid=parse_id(metadata.get("file-group")),
        mtime_ns=_parse_time(metadata.get("file-mtime")),
        atime_ns=_parse_time(metadata.get("file-atime")),
        btime_ns=_parse_time(metadata.get("file-btime")),
    )


def _type_of_file(mode: int, size: int, rdev: int | None, target: bytes | None) -> int:
    kind = stat.S_IFMT(mode)
    if kind == stat.S_IFLNK:
        sensible = 0 < size <= SYMLINK_BYTES_MAX or (size == 0 and target is not None)
    elif kind in DEVICE_TYPES:
        sensible = size == 0 and rdev is not None
    else:
        sensible = size == 0 and kind in (stat.S_IFIFO, stat.S_IFSOCK)
    return kind if sensible else stat.S_IFREG


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
