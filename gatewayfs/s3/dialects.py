"""How other tools write POSIX attributes into an object's user metadata, read and brought up to date.

    who                  keys
    File Gateway, FSx    file-owner, file-group, file-permissions, file-mtime ... (``attributes.py``)
    s3fs, geesefs        mode (decimal st_mode), uid, gid, mtime, atime, ctime (seconds with a fraction)
    rclone               mtime (seconds with a fraction); with --metadata also mode (octal st_mode), uid, gid, atime and
                         btime (RFC 3339)
    gsutil, gcsfuse      goog-reserved-posix-mode (octal), goog-reserved-posix-uid, -gid, goog-reserved-file-mtime and
                         -atime (seconds), gcsfuse_mtime (RFC 3339)
    goofys               none

``mode`` is decimal to some and octal to others. A number is taken for decimal where its type bits fit the object, else
for octal: no mode of a file, directory, symlink, fifo or socket is misread that way, whoever wrote it (a test tries
every one). Device types never fit: nobody who writes ``mode`` also says which device it would be. ``uid`` and ``gid``
count only beside a ``mode``: alone they are as likely a customer's number.

``renewed`` is the other direction: it brings the keys that an object has already up to date, each in the notation it is
in, so that what we write never contradicts what another tool reads. Hence the rule of ``precedence``: where *we* wrote
an object last and a dialect says something else than ``file-*``, another tool has changed it since.

A value that makes no sense costs exactly its attribute, never an exception.
"""

import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from gatewayfs.types import SYMLINK_BYTES_MAX

UID_MAX = (1 << 32) - 2
"""4294967295 is (uid_t)-1, which means "unchanged" to chown: nobody can own a file with it."""

MODE_MAX = 0o177777
TIME_NS_MAX = (1 << 63) - 1
TIME_NS_MIN = -(1 << 63)
NS_PER_S = 1_000_000_000

_DECIMAL = re.compile(r"[0-9]{1,10}")
_OCTAL = re.compile(r"[0-7]{1,8}")
_SECONDS = re.compile(r"(-?)([0-9]{1,12})(?:\.([0-9]{1,9})[0-9]{0,20})?")
_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?(Z|[+-][0-9]{2}:[0-9]{2})"
)
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")

_TYPES_OF_FILES = frozenset({stat.S_IFREG, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK})
_TIMES = ("mtime", "atime", "btime", "ctime")
_LINK_FLAG = "goog-reserved-file-is-symlink"
_LINK_TARGETS = ("--symlink-target", "gcsfuse_symlink_target")

READ_KEYS = frozenset({"mode", "uid", "gid", *_TIMES, "gcsfuse_mtime", *_LINK_TARGETS})
"""Keys that are attributes where their values make sense as such, besides those that begin with ``goog-reserved-``."""


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
class Reading:
    """What one dialect found; None where it found nothing usable. ``mode`` may lack type bits."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    mtime_ns: int | None = None
    atime_ns: int | None = None
    btime_ns: int | None = None


def _read_posix(metadata: Mapping[str, str], key_is_directory: bool) -> Reading:
    times = Reading(
        mtime_ns=parse_time(metadata.get("mtime")),
        atime_ns=parse_time(metadata.get("atime")),
        btime_ns=parse_time(metadata.get("btime")),
    )
    mode, _ = parse_mode(metadata.get("mode"), key_is_directory)
    if mode is None:
        return times
    return replace(times, mode=mode, uid=parse_id(metadata.get("uid")), gid=parse_id(metadata.get("gid")))


def _read_google(metadata: Mapping[str, str], key_is_directory: bool) -> Reading:
    is_link = metadata.get(_LINK_FLAG, "").lower() == "true" or link_target(metadata) is not None
    mode = parse_octal(metadata.get("goog-reserved-posix-mode"))
    if is_link and not key_is_directory:
        mode = stat.S_IFLNK | (0o777 if mode is None else stat.S_IMODE(mode))
    mtime_ns = parse_time(metadata.get("gcsfuse_mtime"))
    if mtime_ns is None:
        mtime_ns = parse_time(metadata.get("goog-reserved-file-mtime"))
    return Reading(
        mode=mode,
        uid=parse_id(metadata.get("goog-reserved-posix-uid")),
        gid=parse_id(metadata.get("goog-reserved-posix-gid")),
        mtime_ns=mtime_ns,
        atime_ns=parse_time(metadata.get("goog-reserved-file-atime")),
    )


OTHERS = (_read_posix, _read_google)
"""Readers of dialects other than our own, in order of trust: for every attribute the first that has it wins."""


def link_target(metadata: Mapping[str, str]) -> bytes | None:
    """The symlink target that geesefs and old gcsfuse keep in metadata, beside no data; None without one."""
    for key in _LINK_TARGETS:
        target = metadata.get(key, "").encode(errors="replace")
        if 0 < len(target) <= SYMLINK_BYTES_MAX and b"\0" not in target:
            return target
    return None


def precedence(own: Reading, others: Iterable[Reading], *, ours: bool) -> Reading:
    """Each attribute from the reading that has the last word on it.

    Args:
        own: what the ``file-*`` keys say.
        others: what other dialects say, in order of trust.
        ours: this program wrote the object last, or another tool copied it since and changed only its own keys. Those
            agreed with ``file-*`` when we wrote, so one that does not is newer. In an object that anybody else wrote
            ``file-*`` wins.
    """
    chosen: dict[str, int | None] = {}
    spoken = list(others)
    for name in Reading.__slots__:
        value = getattr(own, name)
        other = next((found for reading in spoken if (found := getattr(reading, name)) is not None), None)
        if value is None:
            value = other
        elif ours and other is not None and not _agree(name, value, other):
            untyped = name == "mode" and stat.S_IFMT(other) == 0
            value = other | stat.S_IFMT(value) if untyped else other
        chosen[name] = value
    return Reading(**chosen)


def _agree(name: str, value: int, other: int) -> bool:
    if name == "mode":
        return stat.S_IMODE(value) == stat.S_IMODE(other)
    if name.endswith("_ns") and other % NS_PER_S == 0:
        return value // NS_PER_S == other // NS_PER_S  # that tool keeps whole seconds
    return value == other


# --------------------------------------------------------------------------- writing


def understood(metadata: Mapping[str, str]) -> frozenset[str]:
    """The keys of ``metadata`` that a dialect reads as attributes, so that ``renewed`` keeps them true."""
    found: set[str] = {key for key in _TIMES if parse_time(metadata.get(key)) is not None}
    if any(parse_mode(metadata.get("mode"), directory)[0] is not None for directory in (False, True)):
        found |= {"mode", *(key for key in ("uid", "gid") if parse_id(metadata.get(key)) is not None)}
    return frozenset(found | (metadata.keys() & {"gcsfuse_mtime", *_LINK_TARGETS}))


def renewed(metadata: Mapping[str, str], values: PosixAttributes) -> dict[str, str]:
    """``metadata`` with the attributes that other dialects keep in it brought up to date, each in its own notation.

    ``ctime``, which only s3fs has and which is nobody's to set, follows the mtime where that is later. No key is added.
    """
    result = dict(metadata)
    _, notation = parse_mode(metadata.get("mode"), stat.S_ISDIR(values.mode))
    if notation:
        result["mode"] = format(values.mode, notation)
        result |= {key: str(getattr(values, key)) for key in ("uid", "gid") if parse_id(metadata.get(key)) is not None}
    for key in _TIMES:
        was_ns = parse_time(metadata.get(key))
        now_ns = values.mtime_ns if key == "ctime" else getattr(values, f"{key}_ns")
        if was_ns is None or now_ns is None or (key == "ctime" and now_ns <= was_ns):
            continue
        result[key] = rfc3339(now_ns) if "T" in metadata[key] else seconds(now_ns)
    for key, parse, text in (
        ("goog-reserved-posix-mode", parse_octal, f"{stat.S_IMODE(values.mode):o}"),
        ("goog-reserved-posix-uid", parse_id, str(values.uid)),
        ("goog-reserved-posix-gid", parse_id, str(values.gid)),
        ("goog-reserved-file-mtime", parse_time, str(values.mtime_ns // NS_PER_S)),
        ("goog-reserved-file-atime", parse_time, str((values.atime_ns or 0) // NS_PER_S)),
        ("gcsfuse_mtime", parse_time, rfc3339(values.mtime_ns)),
    ):
        if parse(metadata.get(key)) is not None:
            result[key] = text
    return result


def written(dialect: str, values: PosixAttributes) -> dict[str, str]:
    """The keys of ``dialect`` ("s3fs" or "rclone"; "" gives none) that say what a record says."""
    if dialect == "s3fs":
        keys = {"mode": str(values.mode), "mtime": seconds(values.mtime_ns)}
        keys |= {} if values.atime_ns is None else {"atime": seconds(values.atime_ns)}
    elif dialect == "rclone":
        keys = {"mode": f"{values.mode:o}", "mtime": seconds(values.mtime_ns)}
        for key, time_ns in (("atime", values.atime_ns), ("btime", values.btime_ns)):
            keys |= {} if time_ns is None else {key: rfc3339(time_ns)}
    else:
        return {}
    return keys | {"uid": str(values.uid), "gid": str(values.gid)}


def seconds(time_ns: int) -> str:
    """A time as s3fs and rclone write it: decimal seconds with nine digits of fraction."""
    whole, fraction = divmod(abs(time_ns), NS_PER_S)
    return f"{'-' if time_ns < 0 else ''}{whole}.{fraction:09d}"


def rfc3339(time_ns: int) -> str:
    """A time as RFC 3339, in UTC with nine digits of fraction."""
    whole, fraction = divmod(time_ns, NS_PER_S)
    return f"{_EPOCH + timedelta(seconds=whole):%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"


# --------------------------------------------------------------------------- values


def parse_mode(text: str | None, key_is_directory: bool) -> tuple[int | None, str]:
    """The st_mode that a ``mode`` key means, and its notation: "d" or "o"; (None, "") where it means none."""
    text = "" if text is None else text.strip()
    if _DECIMAL.fullmatch(text) and not text.startswith("0"):
        value = int(text)
        if value <= MODE_MAX and _fits(stat.S_IFMT(value), key_is_directory):
            return value, "d"
    octal = parse_octal(text)
    if octal is not None and (stat.S_IFMT(octal) == 0 or _fits(stat.S_IFMT(octal), key_is_directory)):
        return octal, "o"
    return None, ""


def _fits(kind: int, key_is_directory: bool) -> bool:
    return kind == stat.S_IFDIR if key_is_directory else kind in _TYPES_OF_FILES


def parse_octal(text: str | None) -> int | None:
    """An octal st_mode, with or without type bits."""
    if text is None or not _OCTAL.fullmatch(text.strip()):
        return None
    value = int(text, 8)
    return value if value <= MODE_MAX else None


def parse_id(text: str | None) -> int | None:
    """A decimal user or group id that somebody can have."""
    if text is None or not _DECIMAL.fullmatch(text.strip()):
        return None
    value = int(text)
    return value if value <= UID_MAX else None


def parse_time(text: str | None) -> int | None:
    """Nanoseconds since 1970 of decimal seconds or an RFC 3339 time."""
    text = "" if text is None else text.strip()
    if match := _SECONDS.fullmatch(text):
        value = int(match[2]) * NS_PER_S + int((match[3] or "").ljust(9, "0"))
        value = -value if match[1] else value
    elif match := _RFC3339.fullmatch(text):
        try:
            moment = datetime.fromisoformat(match[1] + match[3].replace("Z", "+00:00"))
        except ValueError:
            return None
        value = round((moment - _EPOCH).total_seconds()) * NS_PER_S + int((match[2] or "").ljust(9, "0"))
    else:
        return None
    return value if TIME_NS_MIN <= value <= TIME_NS_MAX else None
