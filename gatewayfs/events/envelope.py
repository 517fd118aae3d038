"""What an event looks like: one JSON object in EventBridge's envelope, as AWS S3 File Gateway sends them.        [pure]

``detail-type`` and ``detail`` of uploads, notifications and refreshes are File Gateway's to the letter, so whatever
reads its events reads ours. We are no AWS service, so ``source`` is an option and ``resources`` are strings of our own
in the form of ARNs. Keys are other people's text: everything beyond printable ASCII is escaped, so an event is always
one line, whatever a key holds.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)  # noqa: UP017 - datetime.UTC says the same, less clearly
_LAST_NS = 253_402_300_799 * 10**9
"""The end of the year 9999: no later time can be written, and utimes(2) takes any."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who speaks: the same in every event of a share.

    Attributes:
        share: the share's name.
        gateway: this host's name.
        prefix: "" or ending with "/".
        account: twelve digits.
        source: the envelope's ``source``.
    """

    share: str
    gateway: str
    bucket: str
    prefix: str
    region: str = "us-east-1"
    account: str = "000000000000"
    source: str = "gatewayfs"

    def path_of(self, key: str) -> str:
        """The key without the share's prefix."""
        return key.removeprefix(self.prefix)

    def resources(self, *, bucket: bool) -> list[str]:
        """The share and the gateway, and perhaps the bucket."""
        place = f"arn:gatewayfs:storagegateway:{self.region}:{self.account}"
        owners = [f"{place}:share/{self.share}", f"{place}:gateway/{self.gateway}"]
        return [*owners, f"arn:aws:s3:::{self.bucket}"] if bucket else owners


@dataclass(frozen=True, slots=True)
class News:
    """The part of an event that says what happened."""

    detail_type: str
    detail: Mapping[str, Any]
    about_bucket: bool = False
    """The bucket is among the resources."""


def written(origin: Origin, news: News, identity: str, now_ns: int) -> bytes:
    """The event, one line without its end."""
    event = {
        "version": "0",
        "id": identity,
        "detail-type": news.detail_type,
        "source": origin.source,
        "account": origin.account,
        "time": utc(now_ns),
        "region": origin.region,
        "resources": origin.resources(bucket=news.about_bucket),
        "detail": news.detail,
    }
    return json.dumps(event, ensure_ascii=True).encode("ascii")


def utc(time_ns: int) -> str:
    """``2026-01-02T03:04:05Z``; times outside of the years 1 to 9999 are written as the nearest of them."""
    seconds = max(0, min(time_ns, _LAST_NS)) // 10**9
    return f"{_EPOCH + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%SZ}"


def object_uploaded(origin: Origin, key: str, size_bytes: int, mtime_ns: int) -> News:
    """A file's bytes are in the bucket, under a key where they were not before."""
    detail = {
        "event-type": "object-upload-complete",
        "object-size": size_bytes,
        "modification-time": utc(mtime_ns),
        "object-key": origin.path_of(key),
        "prefix": origin.prefix,
        "bucket-name": origin.bucket,
    }
    return News("Storage Gateway Object Upload Event", detail, about_bucket=True)


def all_uploaded(notification_id: str, received_ns: int, completed_ns: int) -> News:
    """Everything that was written before a request for this news is in the bucket."""
    detail = {
        "event-type": "upload-complete",
        "notification-id": notification_id,
        "request-received": utc(received_ns),
        "completed": utc(completed_ns),
    }
    return News("Storage Gateway File Upload Event", detail)


def refreshed(notification_id: str, started_ns: int, completed_ns: int, folders: Sequence[str]) -> News:
    """Folders were listed again, and what others changed there is shown."""
    detail = {
        "event-type": "refresh-complete",
        "notification-id": notification_id,
        "started": utc(started_ns),
        "completed": utc(completed_ns),
        "folderList": [f"/{folder.strip('/')}" for folder in folders],
    }
    return News("Storage Gateway Refresh Cache Event", detail)


def conflict(origin: Origin, key: str, resolution: str, kept_by: str, copy_key: str | None) -> News:
    """Both sides changed one object.

    Args:
        resolution: what was done, a word of ``gatewayfs.conflict.Verdict`` like "keep-both".
        kept_by: whose version has the name now: "bucket" or "gateway".
        copy_key: where the other version went; None where it is not needed or nothing is left of it.
    """
    detail = {
        "event-type": "conflict",
        "resolution": resolution,
        "kept-by": kept_by,
        "object-key": origin.path_of(key),
        "copy-key": None if copy_key is None else origin.path_of(copy_key),
        "prefix": origin.prefix,
        "bucket-name": origin.bucket,
    }
    return News("GatewayFS Conflict Event", detail, about_bucket=True)
