"""Messages that say "this object changed", in the forms that are about, made into notices.                    [pure]

    {"Records": [{"eventName": "ObjectCreated:Put", "s3": {...}}, ...]}     S3's own, also of MinIO and Ceph
    {"Type": "Notification", "Message": "{...}"}                            any of these, wrapped by SNS
    {"detail-type": "Object Created", "detail": {"bucket": {...}, ...}}     S3's by way of EventBridge
    {"detail-type": "Storage Gateway Object Upload Event", ...}             a gateway's (``events/envelope.py``)
    {"Event": "s3:TestEvent", ...}                                          what S3 sends when somebody names a queue

A message is other people's text. Only one thing is taken from it: which keys to look at. The rest is hints that may
save a look (``looking.py``). Order (``sequencer``) needs none: the look tells how things are.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

import msgspec

BODY_BYTES_MAX = 2 << 20
"""Twice what SQS takes."""

RECORDS_MAX = 10_000
"""S3 sends one per message. What has more is nobody's notification."""


class BadMessage(Exception):
    """Not a notification; the text says in a few words what is wrong, and quotes nothing of it."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Somebody says that an object changed.

    Attributes:
        key: the whole key. One that ends with "/" is a directory's marker.
        gone: what changed is said to be that it was removed, for good.
        etag: what it is said to be now, without quotes; "" where nothing is said.
    """

    key: str
    gone: bool = False
    etag: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one message says.

    Attributes:
        notices: of the share, each key once.
        ignored: parts that concern other buckets or prefixes, or nothing that changes a name, an attribute or bytes.
    """

    notices: tuple[Notice, ...] = ()
    ignored: int = 0


def read(body: str | bytes, bucket: str, prefix: str) -> Reading:
    """Read one message for the share that shows ``prefix`` of ``bucket``. Raises BadMessage."""
    found = list(_parts(_decoded(body), unwrap=True))
    if not found:
        return Reading(ignored=1)  # well understood, and about no object
    notices: dict[str, Notice] = {}
    ignored = 0
    for where, notice in found:
        if notice is None or where != bucket or not notice.key.startswith(prefix):
            ignored += 1
            continue
        before = notices.get(notice.key)
        # Two that differ save no look.
        notices[notice.key] = notice if before in (None, notice) else Notice(notice.key)
    return Reading(tuple(notices.values()), ignored)


def merged(one: Notice, other: Notice) -> Notice:
    """One look for two notices of one key."""
    return one if one == other else Notice(one.key)


_Part = tuple[str, Notice | None]
"""A bucket, and what changed in it; None: nothing that matters here."""


def _decoded(body: str | bytes) -> Mapping[str, Any]:
    if len(body) > BODY_BYTES_MAX:
        raise BadMessage("too long")
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as problem:
        raise BadMessage("no JSON") from problem
    if not isinstance(decoded, dict):
        raise BadMessage("no JSON object")
    return decoded


def _parts(message: Mapping[str, Any], *, unwrap: bool) -> list[_Part]:
    if isinstance(message.get("Records"), list):
        if len(message["Records"]) > RECORDS_MAX:
            raise BadMessage("too many records")
        return [_of_record(record) for record in message["Records"]]
    if message.get("Event") == "s3:TestEvent":
        return []
    if isinstance(message.get("Message"), str) and "TopicArn" in message and unwrap:
        return _parts(_decoded(message["Message"]), unwrap=False)
    kind, detail = message.get("detail-type"), message.get("detail")
    if isinstance(kind, str) and isinstance(detail, dict):
        return _DETAILS.get(kind, _of_nothing)(detail)
    raise BadMessage("no known form")


def _of_record(record: Any) -> _Part:
    if not isinstance(record, dict) or not isinstance(record.get("s3"), dict):
        raise BadMessage("a record without s3")
    event, source = _text(record, "eventName"), record.get("eventSource")
    what = record["s3"]
    bucket, thing = _mapping(what, "bucket"), _mapping(what, "object")
    key = _text(thing, "key")
    # AWS and MinIO encode the key as a form does ("red+flower.jpg"), Ceph does not.
    if not (isinstance(source, str) and source.startswith("ceph:")):
        key = _decoded_key(key)
    event = event.removeprefix("s3:")
    removed = event.startswith(("ObjectRemoved:", "LifecycleExpiration:", "ObjectLifecycle:Expiration"))
    if not (removed or event.startswith("ObjectCreated:")):
        return _text(bucket, "name"), None
    # Removing one *version*, named by its id, may as well bring an older one back.
    version = thing.get("versionId")
    gone = removed and ("DeleteMarker" in event or not version)
    return _text(bucket, "name"), Notice(_key(key), gone, "" if removed else _etag(thing.get("eTag")))


def _of_bridge_created(detail: Mapping[str, Any]) -> list[_Part]:
    thing = _mapping(detail, "object")
    notice = Notice(_key(_text(thing, "key")), etag=_etag(thing.get("etag")))
    return [(_text(_mapping(detail, "bucket"), "name"), notice)]


def _of_bridge_deleted(detail: Mapping[str, Any]) -> list[_Part]:
    thing = _mapping(detail, "object")
    gone = detail.get("deletion-type") == "Delete Marker Created" or not thing.get("version-id")
    return [(_text(_mapping(detail, "bucket"), "name"), Notice(_key(_text(thing, "key")), gone))]


def _of_upload(detail: Mapping[str, Any]) -> list[_Part]:
    """A gateway's own event: its keys are relative to its prefix."""
    prefix = detail.get("prefix")
    if not isinstance(prefix, str):
        raise BadMessage("no prefix")
    names = [_text(detail, "object-key")]
    if isinstance(copy := detail.get("copy-key"), str):
        names.append(copy)
    bucket = _text(detail, "bucket-name")
    return [(bucket, Notice(_key(prefix + name))) for name in names]


def _of_nothing(_detail: Mapping[str, Any]) -> list[_Part]:
    return []


_DETAILS: Mapping[str, Callable[[Mapping[str, Any]], list[_Part]]] = {
    "Object Created": _of_bridge_created,
    "Object Deleted": _of_bridge_deleted,
    "Storage Gateway Object Upload Event": _of_upload,
    "GatewayFS Conflict Event": _of_upload,
}


def _decoded_key(key: str) -> str:
    try:
        return unquote_plus(key, errors="strict")
    except UnicodeDecodeError as problem:
        raise BadMessage("a key that is not UTF-8") from problem


def _key(key: str) -> str:
    try:
        key.encode()
    except UnicodeEncodeError as problem:
        raise BadMessage("a key that is not UTF-8") from problem
    if not key:
        raise BadMessage("an empty key")
    return key


def _etag(value: Any) -> str:
    return value.strip('"') if isinstance(value, str) else ""


def _text(of: Mapping[str, Any], name: str) -> str:
    value = of.get(name)
    if not isinstance(value, str):
        raise BadMessage(f"no {name}")
    return value


def _mapping(of: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = of.get(name)
    if not isinstance(value, dict):
        raise BadMessage(f"no {name}")
    return value
