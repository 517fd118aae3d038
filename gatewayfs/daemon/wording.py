"""How problems are worded: times, and what a cache disk that is not well means for those who use the share."""

from datetime import UTC, datetime

from gatewayfs.runtime.diskhealth import DiskStatus
from gatewayfs.runtime.diskstate import Condition

_FOLLOWS = {
    Condition.UNSTABLE: "cached files are read from the bucket, changes are taken; see to the disk if it does not pass",
    Condition.HANGING: "changes wait, cached files are read from the bucket; see the kernel's log, the disk or its "
    "controller is stuck",
    Condition.READ_ONLY: "changes are refused (EROFS), cached files are read from the bucket; see the kernel's log, "
    "then docs/operating.md on replacing the disk",
}


def told(disk: DiskStatus) -> tuple[str, str]:
    """Type and text of the problem that a disk which is not NORMAL is."""
    kind = "CacheDiskFailed" if disk.state == Condition.READ_ONLY else "CacheDiskUnstable"
    follows = _FOLLOWS[Condition(disk.state)]
    return kind, f"the cache disk is {disk.state} since {when(disk.since_ns)}: {disk.reason}; {follows}"


def when(time_ns: int) -> str:
    """Nanoseconds since 1970, as people read them."""
    return datetime.fromtimestamp(time_ns / 1e9, UTC).isoformat(timespec="seconds")
