"""The audit log: who did what to which file, in File Gateway's operations and fields.

One line per operation that succeeded or was refused for want of permission, written when it has been answered. The
kernel decides most permissions and keeps file contents itself, so two things are told as they can be known here: *Read
Data* is an open for reading (once per open: the reads themselves may never reach us), *Write Data* the first write
after an open. A refusal by the kernel's own permission check is invisible.

Numbers are written as text and times in milliseconds, as File Gateway writes them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec

from gatewayfs.errors import GatewayError
from gatewayfs.meta.reader import Reader
from gatewayfs.runtime.clock import Clock
from gatewayfs.types import ROOT_INO
from gatewayfs.vfs.share import Caller

VERSION = "1.0"

READ, WRITE, CREATE = "Read Data", "Write Data", "Create"
RENAME, DELETE, ATTRIBUTES = "Rename", "Delete", "Write Attributes"

SUCCESS, DENIED = "Success", "PermissionDenied"


class Shown(Protocol):
    """A file's attributes as the mount shows them (pyfuse3's EntryAttributes)."""

    st_ino: int
    st_mode: int
    st_uid: int
    st_gid: int
    st_size: int
    st_mtime_ns: int
    st_ctime_ns: int


@dataclass(frozen=True, slots=True)
class AuditNames:
    """What every line says alike.

    Attributes:
        source: the host's name.
    """

    share: str
    bucket: str
    gateway: str
    source: str


class AuditLog:
    """Builds the lines.

    Args:
        put: takes a finished line, without its end, and never blocks.
    """

    def __init__(self, names: AuditNames, meta: Reader, clock: Clock, put: Callable[[bytes], None]) -> None:
        self._names = names
        self._meta = meta
        self._clock = clock
        self._put = put

    def path(self, ino: int, name: bytes = b"") -> str:
        """Where an inode, or a name in it, is in the share: "/a/b"; "" when it has no place any more."""
        try:
            parts = () if ino == ROOT_INO else self._meta.path_of(ino)
        except GatewayError:
            return ""
        return "/" + b"/".join((*parts, *([name] if name else []))).decode(errors="replace")

    def note(
        self,
        operation: str,
        caller: Caller,
        path: str,
        shown: Shown | None,
        *,
        new_path: str = "",
        status: str = SUCCESS,
    ) -> None:
        """One line.

        Args:
            shown: the file's attributes; None where it is not known, as after a refusal.
        """
        line = {
            "version": VERSION,
            "timestamp": _milliseconds(self._clock.time_ns()),
            "operation": operation,
            "status": status,
            "objectName": path,
            "newObjectName": new_path,
            "objectType": "" if shown is None else _kind(shown.st_mode),
            "bucket": self._names.bucket,
            "shareName": self._names.share,
            "gateway": self._names.gateway,
            "source": self._names.source,
            "sourceAddress": "",
            "clientUid": str(caller.uid),
            "clientGid": str(caller.gid),
        }
        if shown is not None:
            line |= {
                "accessMode": f"{shown.st_mode & 0o7777:04o}",
                "ownerId": str(shown.st_uid),
                "groupId": str(shown.st_gid),
                "fileSizeInBytes": str(shown.st_size),
                "mtime": _milliseconds(shown.st_mtime_ns),
                "ctime": _milliseconds(shown.st_ctime_ns),
            }
        self._put(msgspec.json.encode(line))


def _milliseconds(time_ns: int) -> str:
    return str(time_ns // 1_000_000)


def _kind(mode: int) -> str:
    return {0o040000: "directory", 0o100000: "file", 0o120000: "symlink"}.get(mode & 0o170000, "special")
