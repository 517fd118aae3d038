"""Telling the kernel to forget, off the event loop.

The kernel may make the notifier wait for a request it is just handling for the same directory, so a notification must
never be sent from a handler or from the loop's thread: it goes into a queue, and a thread works the queue off in order.
"""

import errno
import logging
from collections import deque

import pyfuse3
import trio

from gatewayfs.runtime.offload import Offloader

log = logging.getLogger(__name__)

BATCH = 512
"""Notifications per hand-over to the thread: each takes a few microseconds, the hand-over a hundred."""

_NOT_CACHED = (errno.ENOENT, errno.ENOTDIR, errno.ENOTEMPTY)
"""The kernel does not know the entry, or it is not what we think: then there is nothing to forget."""


class KernelNotifier:
    """Implements ``runtime.kernel.Kernel`` for a pyfuse3 session. ``run`` must be running for anything to happen."""

    def __init__(self, offload: Offloader) -> None:
        self._offload = offload
        self._queue: deque[tuple[int, bytes | None, int]] = deque()
        self._wake = trio.Event()
        self._idle = trio.Event()
        self._idle.set()

    def __repr__(self) -> str:
        return f"<KernelNotifier {len(self._queue)} waiting>"

    def invalidate_inode(self, ino: int, attributes_only: bool) -> None:
        """See ``runtime.kernel.Kernel``."""
        self._put((ino, None, int(attributes_only)))

    def invalidate_entry(self, parent: int, name: bytes, deleted: int = 0) -> None:
        """See ``runtime.kernel.Kernel``."""
        self._put((parent, name, deleted))

    async def run(self) -> None:
        """Work the queue off until cancelled."""
        while True:
            while self._queue:
                batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
                # abandon_on_cancel: at shutdown the kernel may never answer, and nobody needs the answer.
                await self._offload.run(_tell, batch, abandon_on_cancel=True)
            self._idle.set()
            self._wake = trio.Event()
            await self._wake.wait()

    async def forgotten(self) -> None:
        """Return when the kernel has forgotten what it was told to by now (and what came meanwhile)."""
        await self._idle.wait()

    def _put(self, item: tuple[int, bytes | None, int]) -> None:
        if not self._queue or self._queue[-1] != item:
            self._queue.append(item)
            self._idle = trio.Event() if self._idle.is_set() else self._idle
        self._wake.set()


def _tell(batch: list[tuple[int, bytes | None, int]]) -> None:
    for ino, name, extra in batch:
        try:
            if name is None:
                pyfuse3.invalidate_inode(ino, attr_only=bool(extra))
            else:
                pyfuse3.invalidate_entry(ino, name, extra)
        except OSError as problem:
            if problem.errno not in _NOT_CACHED:
                log.warning("the kernel did not forget inode %d %r: %s", ino, name, problem)
