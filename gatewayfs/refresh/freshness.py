"""Listings that are too old are renewed when somebody looks into the directory.

A listing has an age, that of its first LIST. Whoever looks into a directory whose listing is older than the share's
TTL waits, for a bounded time, until it is renewed; or, where the share says so, is answered at once from the old one
while it is renewed in the background. When the bucket does not answer, what is known counts: nobody waits twice for a
network that is down.

The kernel must come back to us for this: its own timeouts are no longer than the TTL (``daemon/telling.py``).
"""

from collections import OrderedDict

import trio

from gatewayfs.errors import FsError
from gatewayfs.meta.env import MetaStore
from gatewayfs.refresh.listing import Lister
from gatewayfs.refresh.settings import RefreshSettings
from gatewayfs.runtime.clock import Clock

RENEWALS_MAX = 8
"""Directories renewed at a time: a program that walks an old tree asks for many."""

RETRY_S = 10.0
"""After a renewal that failed, or changed nothing because the directory is being moved, nobody waits for this long."""

ATTEMPTS_MAX = 10_000
"""Directories whose last attempt is remembered: about a megabyte."""


class Freshness:
    """Keeps what is looked at no older than the TTL. ``nursery`` is set while ``Refresh.run`` runs."""

    def __init__(self, meta: MetaStore, clock: Clock, lister: Lister, settings: RefreshSettings) -> None:
        self._meta = meta
        self._clock = clock
        self._lister = lister
        self._ttl_ns = int(settings.ttl_s * 1e9)
        self._wait_s = 0.0 if settings.stale_while_revalidate else settings.ttl_wait_s
        self._limit = trio.CapacityLimiter(RENEWALS_MAX)
        self._renewing: dict[int, trio.Event] = {}
        self._attempts: OrderedDict[int, float] = OrderedDict()
        self._down_until_s = 0.0
        self.nursery: trio.Nursery | None = None
        self.renewals = 0

    def __repr__(self) -> str:
        return f"<Freshness of {self._ttl_ns / 1e9:g} s, {len(self._renewing)} renewals under way>"

    async def ensure_fresh(self, ino: int, *, wait: bool = True) -> None:
        """Return when the listing of a directory is no older than the TTL, or cannot be had in time.

        Nothing happens for what is no directory, was not listed as a whole, or while the TTL is off. Raises nothing.

        Args:
            wait: otherwise it is only begun to be renewed.
        """
        if not self._ttl_ns or self.nursery is None or not self._is_old(ino):
            return
        renewing = self._renewing.get(ino)
        if renewing is None:
            attempted_s = self._attempts.get(ino)
            if attempted_s is not None and self._clock.monotonic() < attempted_s + RETRY_S:
                return
            renewing = self._renewing[ino] = trio.Event()
            self.nursery.start_soon(self._renew, ino, renewing)
        if wait and self._wait_s and self._clock.monotonic() >= self._down_until_s:
            with trio.move_on_after(self._wait_s) as waiting:
                await renewing.wait()
            if waiting.cancelled_caught:
                self._down_until_s = self._clock.monotonic() + RETRY_S

    def _is_old(self, ino: int) -> bool:
        inode = self._meta.inode(ino)
        if inode is None or inode.directory is None or not inode.linked or not inode.directory.complete:
            return False
        if inode.dirty_since_ns and inode.directory.source is None:
            return False  # made here: the bucket does not know it yet
        age_ns = self._clock.time_ns() - inode.directory.listed_ns
        return not 0 <= age_ns < self._ttl_ns

    async def _renew(self, ino: int, ended: trio.Event) -> None:
        try:
            async with self._limit:
                # Recursive only in name: the attributes of what is below are asked for when somebody looks there.
                walk = await self._lister.renew(ino, recursive=True)
                self.renewals += 1
                if walk.error is not None or walk.current is None:
                    self._note_attempt(ino)
        except FsError:
            self._note_attempt(ino)  # the share is stopping
        finally:
            del self._renewing[ino]
            ended.set()

    def _note_attempt(self, ino: int) -> None:
        self._attempts[ino] = self._clock.monotonic()
        self._attempts.move_to_end(ino)
        if len(self._attempts) > ATTEMPTS_MAX:
            self._attempts.popitem(last=False)
