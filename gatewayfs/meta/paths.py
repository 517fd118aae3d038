"""The border between names (bytes, what the kernel hands us) and object keys (text, what S3 takes).

A name is allowed when it can be one component of an object key and be found again from that key: UTF-8, not empty, not
``.`` or ``..``, without ``/`` and NUL, at most 255 bytes. Control characters are allowed; S3 takes them. In the other
direction a key in the bucket is shown only when every component passes the same test (``refresh/diff.py``).
"""

from gatewayfs.errors import BadName, InvalidArgument, NameTooLong
from gatewayfs.types import NAME_BYTES_MAX


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
