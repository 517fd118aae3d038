"""What kinds of values options take: each a type, the check that says how to write it, and its word in the manual.

A check raises ``ValueError`` with the cure; ``load`` puts the place, the option and the value in front of it.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BeforeValidator

from gatewayfs.config import units
from gatewayfs.types import KEY_BYTES_MAX


@dataclass(frozen=True, slots=True)
class Kind:
    """What a value is, in one word for the documentation, and how it is written back."""

    word: str
    write: Callable[[Any], str]


ID_MAX = (1 << 32) - 2
"""2**32 - 1 is (uid_t)-1, "leave unchanged" to chown."""


class SecretInValue(ValueError):
    """The value must not be repeated in the error message."""


def _whole_number(value: object) -> object:
    if isinstance(value, bool) or not (isinstance(value, int) or (isinstance(value, str) and value.strip().isdigit())):
        raise ValueError("write a whole number")
    return value


def _flag(value: object) -> object:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "yes", "on", "false", "no", "off"):
        return value.lower() in ("true", "yes", "on")
    raise ValueError("write true or false")


def _text(value: object) -> object:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("write some text in quotes")
    return value


def _absolute_path(value: object) -> object:
    if isinstance(value, Path):
        value = str(value)
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise ValueError('write a full path, starting with "/"')
    return Path(os.path.normpath(value))


def is_share_name(value: object) -> bool:
    """Whether a share may be called that."""
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", value) is not None


def _share_name(value: object) -> object:
    if not is_share_name(value):
        raise ValueError(
            "use up to 128 letters, digits, dots, dashes and underscores, beginning with a letter or digit"
        )
    return value


def _bucket(value: object) -> object:
    # S3's rule is stricter (lower case, 3 to 63); Ceph and old us-east-1 buckets are allowed more.
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{2,254}", value):
        raise ValueError('write a bucket name alone (3 or more letters, digits, dots, dashes), without "s3://" and "/"')
    return value


def normalize_prefix(value: object) -> str:
    """``/photos/2024`` -> ``photos/2024/``; "" stays "". Raises ValueError for what cannot be a directory path."""
    if not isinstance(value, str):
        raise ValueError("write some text in quotes")
    stripped = value.strip("/")
    if not stripped:
        return ""
    if any(part in ("", ".", "..") for part in stripped.split("/")) or "\0" in stripped:
        raise ValueError('write a path of plain names: no "//", ".", ".." or NUL')
    prefix = stripped + "/"
    # Half of S3's key length is kept for the paths below; a longer prefix makes most names impossible.
    if len(prefix.encode()) > KEY_BYTES_MAX // 2:
        raise ValueError(f"a prefix may have at most {KEY_BYTES_MAX // 2} bytes: object keys end at {KEY_BYTES_MAX}")
    return prefix


def _endpoint(value: object) -> object:
    text = _text(value)
    try:
        parts = urlsplit(str(text))
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    if parts.username is not None or parts.password is not None:
        raise SecretInValue("a URL here may not hold a user name or password")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError('write a URL like "https://s3.example.com" or "http://127.0.0.1:9000"')
    return str(text).rstrip("/")


def _webhook(value: object) -> object:
    text = str(_text(value))
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    if parts.username is not None or parts.password is not None or parts.query:
        raise SecretInValue("the address may hold no user name, password or query; put secrets into a headers file")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment or not text.isprintable():
        raise ValueError('write a URL like "https://events.example.com/gatewayfs"')
    return text


def _queue(value: object) -> object:
    text = str(_text(value))
    if re.fullmatch(r"arn:[a-z0-9-]+:sqs:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_.-]{1,80}", text):
        return text
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    if parts.username is not None or parts.password is not None:
        raise SecretInValue("the address may hold no user name or password; set refresh.events_profile")
    plain = parts.scheme in ("http", "https") and parts.hostname and not parts.query and not parts.fragment
    if not plain or not parts.path.strip("/") or not text.isprintable():
        raise ValueError(
            'write the queue\'s URL, "https://sqs.eu-west-1.amazonaws.com/123456789012/photos", or its ARN, '
            '"arn:aws:sqs:eu-west-1:123456789012:photos"'
        )
    return text


def _command_line(value: object) -> object:
    items = value.split() if isinstance(value, str) else value
    if not isinstance(items, list | tuple) or not all(isinstance(item, str) and "\0" not in item for item in items):
        raise ValueError('write a list like ["/usr/local/bin/on-event", "--quiet"]')
    if items and not str(items[0]).startswith("/"):
        raise ValueError('write the program with its full path, starting with "/"')
    return tuple(items)


def _time_zone(value: object) -> object:
    try:
        if not isinstance(value, str) or (value != "UTC" and not ZoneInfo(value).key):
            raise ValueError
    except (ValueError, OSError, ZoneInfoNotFoundError):
        raise ValueError('write a zone that this machine knows, like "Europe/Berlin" or "UTC"') from None
    return value


# Ours to set, or known to break the mount: each with what to do instead.
_RESERVED_FUSE_OPTIONS = {
    "allow_other": "set mount.allow_other instead",
    "default_permissions": "it is always on",
    "fsname": "it is always the bucket",
    "subtype": "it is always gatewayfs",
    "max_read": "it makes the mount fail; leave it out",
}


def _is_word(item: object) -> bool:
    return isinstance(item, str) and bool(item) and "\0" not in item


def _fuse_options(value: object) -> object:
    items = [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value
    if not isinstance(items, list | tuple) or not all(_is_word(item) for item in items):
        raise ValueError('write a list like ["noatime", "nosuid"]')
    for item in items:
        advice = _RESERVED_FUSE_OPTIONS.get(str(item).partition("=")[0])
        if advice:
            raise ValueError(f"{item} cannot be given here: {advice}")
    return tuple(items)


def _written_flag(value: bool) -> str:
    return "true" if value else "false"


def written_list(value: tuple[str, ...]) -> str:
    return "[" + ", ".join(f'"{item}"' for item in value) + "]"


def _storage_class(value: object) -> object:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Z0-9_-]{1,64}", value):
        raise ValueError('write it as S3 does: "STANDARD_IA", "INTELLIGENT_TIERING" ...')
    return value


def _account(value: object) -> object:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{12}", value):
        raise ValueError("write the account's twelve digits in quotes")
    return value


TAGS_MAX = 10
"""What S3 keeps per object."""


def _tags(value: object) -> object:
    items = [item for item in value.split(",") if item.strip()] if isinstance(value, str) else value
    if not isinstance(items, list | tuple) or not all(isinstance(item, str) and "=" in item for item in items):
        raise ValueError('write a list like ["project=alpha", "kept=10y"]')
    pairs = [tuple(part.strip() for part in item.split("=", 1)) for item in items]
    if len(pairs) > TAGS_MAX or len({name for name, _ in pairs}) < len(pairs):
        raise ValueError(f"S3 keeps at most {TAGS_MAX} tags per object, each name once")
    if not all(0 < len(name) <= 128 and len(content) <= 256 for name, content in pairs):
        raise ValueError("a tag's name has 1 to 128 characters, its value at most 256")
    return tuple(f"{name}={content}" for name, content in pairs)


def _patterns(value: object) -> object:
    items = [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value
    if not isinstance(items, list | tuple) or not all(_is_word(item) and item.strip("/") for item in items):
        raise ValueError('write a list of patterns like [".nfs*", "*.tmp", "build/*.o"]')
    return tuple(items)


_ID_PAIR = re.compile(r"\s*([0-9]{1,10})\s*=\s*([0-9]{1,10})\s*")


def _id_table(value: object) -> object:
    items = [item for item in value.split(",") if item.strip()] if isinstance(value, str) else value
    if not isinstance(items, list | tuple) or not all(isinstance(item, str) for item in items):
        raise ValueError('write a list of pairs "id here=id in the bucket", like ["1000=5001", "1001=5002"]')
    here: dict[int, str] = {}
    there: dict[int, str] = {}
    for item in items:
        pair = _ID_PAIR.fullmatch(item)
        if pair is None or max(int(pair[1]), int(pair[2])) > ID_MAX:
            raise ValueError(f'{item!r} is not a pair of ids up to {ID_MAX}; write "1000=5001"')
        for table, number, where in ((here, int(pair[1]), "left"), (there, int(pair[2]), "right")):
            if number in table:
                raise ValueError(
                    f'{number} stands twice on the {where}, in "{table[number].strip()}" and "{item.strip()}": '
                    "every id has one partner; take one out"
                )
            table[number] = item
    return tuple(zip(here, there, strict=True))


def _written_id_table(value: tuple[tuple[int, int], ...]) -> str:
    return written_list(tuple(f"{here}={there}" for here, there in value))


Size = Annotated[int, BeforeValidator(units.parse_size), Kind("size", units.format_size)]
RateLimit = Annotated[int | None, BeforeValidator(units.parse_rate_limit), Kind("rate", units.format_rate)]
Duration = Annotated[float, BeforeValidator(units.parse_duration), Kind("duration", units.format_duration)]
Mode = Annotated[int, BeforeValidator(units.parse_mode), Kind("mode", units.format_mode)]
Count = Annotated[int, BeforeValidator(_whole_number), Kind("number", str)]
Flag = Annotated[bool, BeforeValidator(_flag), Kind("true or false", _written_flag)]
Text = Annotated[str, BeforeValidator(_text), Kind("text", str)]
AbsolutePath = Annotated[Path, BeforeValidator(_absolute_path), Kind("path", str)]
ShareName = Annotated[str, BeforeValidator(_share_name), Kind("name", str)]
BucketName = Annotated[str, BeforeValidator(_bucket), Kind("name", str)]
Prefix = Annotated[str, BeforeValidator(normalize_prefix), Kind("key prefix", str)]
TimeZone = Annotated[str, BeforeValidator(_time_zone), Kind("time zone", str)]
EndpointUrl = Annotated[str, BeforeValidator(_endpoint), Kind("URL", str)]
WebhookUrl = Annotated[str, BeforeValidator(_webhook), Kind("URL", str)]
QueueAddress = Annotated[str, BeforeValidator(_queue), Kind("queue", str)]
CommandLine = Annotated[tuple[str, ...], BeforeValidator(_command_line), Kind("list of text", written_list)]
StorageClass = Annotated[str, BeforeValidator(_storage_class), Kind("storage class", str)]
AccountId = Annotated[str, BeforeValidator(_account), Kind("account", str)]
IdTable = Annotated[tuple[tuple[int, int], ...], BeforeValidator(_id_table), Kind("id table", _written_id_table)]
Tags = Annotated[tuple[str, ...], BeforeValidator(_tags), Kind("list of text", written_list)]
Patterns = Annotated[tuple[str, ...], BeforeValidator(_patterns), Kind("list of text", written_list)]
FuseOptions = Annotated[tuple[str, ...], BeforeValidator(_fuse_options), Kind("list of text", written_list)]
