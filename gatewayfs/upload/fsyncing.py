"""fsync that waits for the bucket (``upload.fsync = "bucket"``).

By then what was written is safe on the cache disk; here the call waits until it is in the bucket, too, and hurries it.
Whatever keeps it from getting there (refused, held, archived, lost to what others wrote) becomes an error of that call
with its reason, and so does a wait of ``timeout_s``. An error here takes nothing back: the bytes stay in the queue.

Waiting costs a place: one of pyfuse3's requests, and one of the threads of an NFS server. ``WAITING_MAX`` calls may
wait at a time, and get places of their own (``fuse/session.py``), so that all other calls go on; one more is asked to
come again (EAGAIN), which NFS clients do by themselves, because nfs-ganesha tells them so.
"""

import logging

import trio

from gatewayfs.errors import TryAgain, Unavailable
from gatewayfs.runtime.clock import Clock
from gatewayfs.upload.drains import Drains
from gatewayfs.upload.status import DrainReport

log = logging.getLogger(__name__)

WAITING_MAX = 64
"""nfs-ganesha works with 200 threads (``RPC_Ioq_ThrdMax``): a third of them may wait for a dead link."""

TOLD_EVERY_S = 60.0


class BucketFsync:
    """Calls that wait.

    Args:
        timeout_s: how long one may.
    """

    def __init__(self, drains: Drains, clock: Clock, timeout_s: float, waiting_max: int = WAITING_MAX) -> None:
        self._drains, self._clock, self._timeout_s, self._waiting_max = drains, clock, timeout_s, waiting_max
        self._told_s = float("-inf")
        self.waiting = 0

    def __repr__(self) -> str:
        return f"<BucketFsync {self.waiting} waiting>"

    async def wait(self, ino: int) -> None:
        """Returns when the file, or the entries of the directory, are in the bucket as they are now.

        Raises:
            Unavailable: they did not get there; the message says why.
            TryAgain: too many wait already.
        """
        if self.waiting >= self._waiting_max:
            self._tell()
            raise TryAgain(f"{self.waiting} calls of fsync wait for the bucket already")
        self.waiting += 1
        report: DrainReport | None = None
        try:
            with trio.move_on_after(self._timeout_s):
                report = await self._drains.arrived(ino)
        finally:
            self.waiting -= 1
        if report is None:
            raise Unavailable(f"{self._drains.key_of(ino)} is not in the bucket yet: {self._why(ino)}")
        if report.left:
            first = report.left[0]
            raise Unavailable(f"{first.key} does not get into the bucket: {first.parked.reason}")
        if report.held:
            raise Unavailable(f"{self._drains.key_of(ino)} is held; `gatewayfs queue release` lets it go")

    def _why(self, ino: int) -> str:
        return f"{self._drains.what_keeps(ino)}, after {self._timeout_s:g} s (upload.fsync_timeout); it goes on"

    def _tell(self) -> None:
        now_s = self._clock.monotonic()
        if now_s - self._told_s >= TOLD_EVERY_S:
            self._told_s = now_s
            log.warning("%d calls of fsync wait for the bucket; more are asked to come again (EAGAIN)", self.waiting)
