"""``sync``: what was acknowledged survives power loss, at the price of one fdatasync for many callers.

Cache files first, then a frame that says so, then the journal: whoever finds the frames after power loss knows that
the bytes they talk about are there as well. Callers that come while an fdatasync runs share the next one.

A failed fdatasync is for ever: the kernel may have dropped the pages and will report success the next time it is
asked. So it is not asked again. The journal's content is still in memory and goes to LMDB instead (``suspect`` until
it is there); for cache files, whose bytes are not in memory, ``sync`` fails until the next start.
"""

import logging
from collections.abc import Awaitable, Callable

import trio

from gatewayfs.errors import CacheDiskFailed, LocalError, NoSpace
from gatewayfs.meta import codec
from gatewayfs.meta.journal import Journal, sync_segments
from gatewayfs.runtime.durable import SyncedNames, datasync_path
from gatewayfs.runtime.offload import Offloader

log = logging.getLogger(__name__)

_MARKER = codec.encode([])
"""An empty transaction: carries ``Journal.ordered`` to the disk."""


class Syncing:
    """Promises about power loss. The loop's thread only, but for what it hands to ``offload``.

    Args:
        journal: what is fdatasynced.
        names: remembers which cache files' names are durable.
        applied: the sequence number up to which LMDB holds everything, synced.
        checkpoint: commits everything to LMDB; the way out when the journal's fdatasync fails.
    """

    def __init__(
        self,
        journal: Journal,
        names: SyncedNames,
        applied: Callable[[], int],
        checkpoint: Callable[[], Awaitable[None]],
        offload: Offloader,
    ) -> None:
        self.suspect = False
        """An fdatasync of the journal failed: only a commit can make promises about what was appended before."""
        self.unordered: dict[str, None] = {}
        """Cache files named by transactions and not fdatasynced since."""
        self.busy_fds: set[int] = set()
        """Journal descriptors that must stay open now."""
        self.failed_data_paths: dict[str, None] = {}
        """Cache files whose bytes the disk could not keep, and that are nowhere else."""
        self.failed: Callable[[object], None] = _unheard
        """Told of each fdatasync that failed."""
        self.lost: Callable[[str], bool] = _matters
        """Whether the loss of a cache file's bytes matters; by default it does."""
        self._journal = journal
        self._names = names
        self._applied = applied
        self._checkpoint = checkpoint
        self._offload = offload
        self._syncing: trio.Event | None = None

    async def sync(self) -> None:
        """Everything appended so far survives power loss, the cache files it names included. Raises CacheDiskFailed."""
        target = self._journal.sequence
        while True:
            if self.failed_data_paths:
                raise CacheDiskFailed(f"the disk lost bytes of {next(iter(self.failed_data_paths))}")
            if max(self._journal.synced, self._applied()) >= target:
                break
            if self._syncing is not None:
                await self._syncing.wait()
                continue
            self._syncing = trio.Event()
            try:
                await self._sync_once()
            except LocalError as problem:
                raise CacheDiskFailed(f"cannot promise durability: {problem}") from problem
            finally:
                self._syncing.set()
                self._syncing = None
        await trio.lowlevel.checkpoint()

    async def _sync_once(self) -> None:
        """Raise ``journal.synced`` to at least the present sequence number, or raise LocalError."""
        if self.suspect:
            await self._checkpoint()
            return
        journal = self._journal
        start = journal.sequence
        if self.unordered:
            await self._sync_data()
            journal.ordered = max(journal.ordered, start)
            try:
                journal.append(_MARKER, False)
            except NoSpace:
                await self._checkpoint()
                return
        # Frames that came meanwhile and need data of their own are not covered.
        through = start if self.unordered else journal.sequence
        try:
            await self._sync_journal()
        except OSError as problem:
            self.suspect = True
            self.failed(f"fdatasync of the journal: {problem.strerror}")
            log.error("fdatasync of the journal failed (%s): committing to LMDB instead", problem.strerror)
            await self._checkpoint()
            return
        journal.synced = max(journal.synced, through)

    async def _sync_journal(self) -> None:
        segments = self._journal.unsynced()
        for segment in segments:
            segment.unsynced = False
        self.busy_fds = {segment.fd for segment in segments}
        try:
            await self._offload.run(sync_segments, sorted(self.busy_fds))
        except BaseException:
            for segment in segments:
                segment.unsynced = True
            raise
        finally:
            self.busy_fds = set()

    async def _sync_data(self) -> None:
        """The cache files named so far are on disk. Raises CacheDiskFailed."""
        paths, self.unordered = self.unordered, {}
        try:
            failed = await self._offload.run(_sync_files, list(paths), self._names)
        except BaseException:
            self.unordered = {**paths, **self.unordered}
            raise
        if failed:
            self.note_lost_data(failed)
            raise CacheDiskFailed(f"fdatasync of {failed[0]} failed")

    def note_lost_data(self, paths: list[str]) -> None:
        """The disk could not write these cache files back: promises end here."""
        for path in paths:
            self.failed(f"it could not write back {path}")
            if path not in self.failed_data_paths and self.lost(path):
                log.error("the disk could not write back %s; fsync fails from now on", path)
                self.failed_data_paths[path] = None


def _unheard(_what: object) -> None:
    """Nobody watches the disk."""


def _matters(_path: str) -> bool:
    """Nobody knows better."""
    return True


def _sync_files(paths: list[str], names: SyncedNames) -> list[str]:
    """fdatasync each, and make their names durable; returns those that failed."""
    failed = []
    for path in paths:
        try:
            datasync_path(path)
        except OSError:
            failed.append(path)
    try:
        names.sync(paths)
    except OSError:
        return paths
    return failed
