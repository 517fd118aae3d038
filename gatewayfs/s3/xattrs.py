"""User extended attributes <-> S3 user metadata.

Metadata that other tools put on an object is shown as ``user.<name>`` xattrs, and an xattr becomes metadata that other
tools can read wherever its name and value survive an HTTP header: ``user.colour`` is ``x-amz-meta-colour``. Any other
name or value, binary ones among them, is kept as ``xattr-<base32 of the name>: <base64 of the value>``. Nothing is lost
either way.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from email.errors import MessageError
from email.header import decode_header

from gatewayfs.s3.attributes import OWN_KEYS
from gatewayfs.s3.dialects import READ_KEYS, understood

XATTR_NAMESPACE = b"user."
XATTR_KEY_PREFIX = "xattr-"
XATTR_EMPTY = "="
"""Stands for the empty xattr value: some servers and proxies drop headers without a value."""

_RESERVED_KEYS = frozenset({"user-agent", "user-agent-id", "fs-id"})
_RESERVED_PREFIXES = ("file-", "goog-reserved-")

# Names and values that travel through every HTTP server unharmed. No underscore: nginx, which stands before many
# stores, drops such headers unless told otherwise. No double blank: signatures collapse them, servers may too.
# No "=?": it would read back as an RFC 2047 encoded word.
_PLAIN_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")
_PLAIN_VALUE = re.compile(rb"[!-~]+(?: [!-~]+)*")


def xattrs_from_metadata(metadata: Mapping[str, str]) -> dict[bytes, bytes]:
    """Return the extended attributes, by full name (``b"user.colour"``), that ``metadata`` shows.

    RFC 2047 encoded words, which S3 makes of non-ASCII values, are shown as UTF-8 text.
    """
    xattrs: dict[bytes, bytes] = {}
    lowered = {key.lower(): value for key, value in metadata.items()}
    attributes = understood(lowered)
    for key, value in lowered.items():
        shown = None if key in attributes else _xattr_of(key, value)
        # A name both in plain and in encoded form can only come from elsewhere; the plain one is what people see.
        if shown is not None and (shown[0] not in xattrs or not key.startswith(XATTR_KEY_PREFIX)):
            xattrs[shown[0]] = shown[1]
    return xattrs


def metadata_from_xattrs(xattrs: Mapping[bytes, bytes], previous: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return foreign metadata that shows exactly ``xattrs``.

    Args:
        xattrs: by full name, which must begin with ``user.`` (ValueError otherwise).
        previous: the foreign metadata so far. Entries whose xattr is unchanged are kept verbatim, and so is
            everything reserved.
    """
    metadata: dict[str, str] = {}
    kept: set[bytes] = set()
    attributes = understood(previous or {})
    for key, value in (previous or {}).items():
        shown = None if key in attributes else _xattr_of(key, value)
        if shown is None:
            metadata[key] = value
        elif xattrs.get(shown[0]) == shown[1] and shown[0] not in kept:
            metadata[key] = value
            kept.add(shown[0])
    for name, content in xattrs.items():
        if name not in kept:
            key, text = _metadata_of(name, content)
            metadata[key] = text
    return metadata


def _xattr_of(key: str, value: str) -> tuple[bytes, bytes] | None:
    """Return the (name, value) one metadata entry shows, None where it shows nothing."""
    if key in OWN_KEYS or key in _RESERVED_KEYS or key.startswith(_RESERVED_PREFIXES):
        return None
    if not key.startswith(XATTR_KEY_PREFIX):
        return XATTR_NAMESPACE + key.encode(), _display(value)
    try:
        name = _unbase32(key.removeprefix(XATTR_KEY_PREFIX))
        content = b"" if value == XATTR_EMPTY else base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None
    return (name, content) if name.startswith(XATTR_NAMESPACE) else None


def _metadata_of(name: bytes, value: bytes) -> tuple[str, str]:
    """Return the metadata entry for one xattr: plain where that is safe, encoded otherwise."""
    if not name.startswith(XATTR_NAMESPACE):
        raise ValueError(f"not in the user namespace: {name!r}")
    short = name.removeprefix(XATTR_NAMESPACE).decode("latin-1")
    reserved = (
        short in _RESERVED_KEYS or short in READ_KEYS or short.startswith((*_RESERVED_PREFIXES, XATTR_KEY_PREFIX))
    )
    if not reserved and _PLAIN_NAME.fullmatch(short) and _PLAIN_VALUE.fullmatch(value) and b"=?" not in value:
        return short, value.decode("ascii")
    encoded = base64.b32encode(name).decode("ascii").rstrip("=").lower()
    return XATTR_KEY_PREFIX + encoded, base64.b64encode(value).decode("ascii") or XATTR_EMPTY


def _unbase32(text: str) -> bytes:
    return base64.b32decode(text.upper() + "=" * (-len(text) % 8))


def _display(value: str) -> bytes:
    """Return ``value`` as UTF-8, RFC 2047 encoded words decoded where they are well formed."""
    if "=?" not in value:
        return value.encode()
    try:
        parts = decode_header(value)
        return b"".join(
            part.encode() if isinstance(part, str) else part.decode(charset or "ascii").encode()
            for part, charset in parts
        )
    except (MessageError, binascii.Error, LookupError, ValueError):
        return value.encode()
