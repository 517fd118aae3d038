"""The border between names (bytes, what the kernel hands us) and object keys (text, what S3 takes).

A name is allowed when it can be one component of an object key and be found again from that key: UTF-8, not empty, not
``.`` or ``..``, without ``/`` and NUL, at most 255 bytes. Control characters are allowed; S3 takes them. In the other
direction a key in the bucket is shown only when every component passes the same test; the others are counted and
named in ``status``, and never touched.
"""

from enum import StrEnum

from gatewayfs.errors import BadName, InvalidArgument, NameTooLong
from gatewayfs.types import KEY_BYTES_MAX, NAME_BYTES_MAX


class Unlistable(StrEnum):
    """Why no POSIX path can lead to a key of the bucket."""

    EMPTY_NAME = "an empty path component (//)"
    DOT_NAME = "a path component that is . or .."
    NUL = "a NUL character"
    NAME_TOO_LONG = "a path component over 255 bytes"
    NOT_ENCODABLE = "characters that are not Unicode (lone surrogates)"


def checked_name(name: bytes) -> bytes:
    """``name``, if a file may be called that.

    Raises:
        NameTooLong: over 255 bytes.
        BadName: not UTF-8, so it cannot be part of an object key.
        InvalidArgument: empty, ``.``, ``..``, or with ``/`` or NUL; the kernel never asks for these.
    """
    if len(name) > NAME_BYTES_MAX:
        raise NameTooLong(f"a name of {len(name)} bytes, {NAME_BYTES_MAX} are allowed")
    if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
        raise InvalidArgument(f"{name!r} is no name")
    try:
        name.decode()
    except UnicodeDecodeError as problem:
        raise BadName(f"{name!r} is not UTF-8") from problem
    return name


def check_key_length(prefix: str, path_bytes: int, name: bytes, below_bytes: int = 0, *, is_directory: bool) -> None:
    """Refuse a new or moved name whose object key, or any key below it, would be too long.

    Args:
        prefix: the share's prefix.
        path_bytes: length of the parent's path, with a "/" at its end unless it is the root (0).
        below_bytes: ``Directory.deepest_bytes`` of a directory that is moved here.

    Raises NameTooLong.
    """
    length = len(prefix.encode()) + path_bytes + len(name) + is_directory + below_bytes
    if length > KEY_BYTES_MAX:
        raise NameTooLong(f"the object key would have {length} bytes, S3 allows {KEY_BYTES_MAX}")


def split_listed_key(relative: str) -> list[bytes] | Unlistable:
    """The path components of a key found in the bucket, or why there are none.

    Args:
        relative: the key without the share's prefix. A "/" at its end marks a directory and adds no component; ""
            (a marker for the share itself) gives [].
    """
    try:
        raw = relative.encode()
    except UnicodeEncodeError:
        return Unlistable.NOT_ENCODABLE
    if raw == b"":
        return []
    if b"\0" in raw:
        return Unlistable.NUL
    names = raw.removesuffix(b"/").split(b"/")
    for name in names:
        if name == b"":
            return Unlistable.EMPTY_NAME
        if name in (b".", b".."):
            return Unlistable.DOT_NAME
        if len(name) > NAME_BYTES_MAX:
            return Unlistable.NAME_TOO_LONG
    return names
