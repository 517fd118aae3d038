"""The kinds of things an administrator should know, by name, each with its cure in plain words.

The first eight are File Gateway's own names, so that what watches its health log understands ours. The difference: ours
are cured by what is said here and go away by themselves; none of them leaves a file unusable until somebody copies it.
"""

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How much it matters."""

    INFO = "INFO"
    WARNING = "WARN"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True)
class HealthType:
    """One kind."""

    severity: Severity
    cure: str


E, W, I = Severity.ERROR, Severity.WARNING, Severity.INFO  # noqa: E741

TYPES = {
    "InaccessibleStorageClass": HealthType(
        E,
        "restore the object from its archive class, or move it to another class; it is read or written again by itself",
    ),
    "InvalidObjectState": HealthType(
        W, "somebody else changed the object; both versions are kept: compare them, keep one, remove the other"
    ),
    "ObjectMissing": HealthType(
        W, "somebody else deleted the object; restore it in the bucket if it should be there, then refresh-cache"
    ),
    "S3AccessDenied": HealthType(
        E, "allow the operation for these credentials on the bucket; then gatewayfs queue retry"
    ),
    "DroppedNotifications": HealthType(E, "cure the target of the events, or make events.outbox larger"),
    "GatewayClockOutOfSync": HealthType(E, "synchronise this machine's clock (chrony or systemd-timesyncd)"),
    "Reboot": HealthType(I, "nothing to do: the gateway was started again after it had been stopped"),
    "HardReboot": HealthType(
        W, "nothing is lost that was acknowledged; find out in the system's log why the gateway or the machine ended"
    ),
    "CredentialsRejected": HealthType(E, "check the keys, their expiry and this machine's clock"),
    "BucketUnreachable": HealthType(E, "check network, endpoint and name resolution; the queue drains by itself after"),
    "CacheFull": HealthType(E, "see why uploads are slow, raise cache.size or cache.dirty_max, or free the disk"),
    "CacheDiskFailed": HealthType(E, "replace the cache disk; docs/recovery.md says how to keep what is not uploaded"),
    "ObjectDamaged": HealthType(
        E,
        "read it with another tool: if that fails, restore the object from a version or a copy; else see the network",
    ),
    "OnlyCopyDamaged": HealthType(
        E, "write the file anew from another copy, or remove it; look at the cache disk's health (SMART) and replace it"
    ),
    "CacheDiskUnstable": HealthType(
        E, "look at the disk and the kernel's log; it is used again by itself when it answers well for a while"
    ),
    "CacheDiskLow": HealthType(W, "free space on the cache disk"),
    "PinsNotKept": HealthType(W, "raise cache.size or unpin something, or cure why they cannot be fetched"),
    "UploadsParked": HealthType(E, "cure the reason; they are tried again daily and by gatewayfs queue retry"),
    "UploadsHeld": HealthType(W, "gatewayfs queue release lets them go"),
    "NotificationsFailing": HealthType(W, "cure the target of the events: they wait for it and are tried again"),
    "ChangesNotFollowed": HealthType(
        W, "see gatewayfs doctor about the queue; refresh-cache shows meanwhile what others changed"
    ),
    "NamesNotShown": HealthType(W, "rename them in the bucket"),
    "AuditDropped": HealthType(E, "give audit.file a disk that takes it; operations went on without a trace"),
}
