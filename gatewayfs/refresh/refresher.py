"""What is in the bucket becomes names and attributes here: on first use, and again when asked.

``Refresh`` is this package's front. Handlers call the ``ensure_`` methods before they read the records; each waits at
most ``deadline_s`` and then raises Unavailable, while the work goes on in the background for the next who asks. Every
answer of the bucket is applied to the records as they are at that moment, never as they were when it was asked for.

    diff.py        a LIST page against one directory          [pure]
    records.py     records made of what the bucket says       [pure]
    motion.py      what is only on its way out: never news
    own.py         what we changed while an answer was under way (observed.py feeds it)
    apply.py       rows into records, removal.py the opposite, markers.py the directory itself
    listing.py     directories, naming.py single names
    headpool.py    attributes (ahead.py: those wanted next; answers.py: what is made of them), targets.py symlinks
    freshness.py   listings older than the share's TTL
    flat.py        a whole tree compared with one stream of LISTs; estimate.py: where that is cheaper
    renewal.py     lists again what was listed before; jobs.py refresh-cache as an operator sees it
    looking.py     single keys that are said to have changed (places.py: which of them matter; echoes.py: our own)
    notices.py     who says so, in which form      [pure]
"""

from collections.abc import Callable, Sequence

import trio

from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.schema import Inode
from gatewayfs.refresh.apply import Applier, CachedBytes
from gatewayfs.refresh.flat import FlatWalk
from gatewayfs.refresh.freshness import Freshness
from gatewayfs.refresh.headpool import HeadPool
from gatewayfs.refresh.listing import Lister
from gatewayfs.refresh.longest import LongestKey
from gatewayfs.refresh.looking import Looking
from gatewayfs.refresh.motion import Motion
from gatewayfs.refresh.naming import Names
from gatewayfs.refresh.own import OwnRequests
from gatewayfs.refresh.renewal import Renewal
from gatewayfs.refresh.settings import RefreshProgress, RefreshReport, RefreshSettings, RefreshStatistics
from gatewayfs.refresh.targets import Targets
from gatewayfs.refresh.waiting import Requests
from gatewayfs.runtime.clock import Clock
from gatewayfs.runtime.kernel import Kernel
from gatewayfs.s3.store import ObjectStore


class Refresh:
    """The inventory of one share.

    Args:
        store: reads only; the uploader's own store must report to ``note_own`` (``ObservedStore`` does).
        notice: called with the ino of every inode that became dirty here (children of a renamed directory, found late).
    """

    def __init__(
        self,
        *,
        meta: MetaStore,
        store: ObjectStore,
        cache: CachedBytes,
        clock: Clock,
        kernel: Kernel,
        settings: RefreshSettings,
        notice: Callable[[int], None],
    ) -> None:
        self._meta = meta
        self._clock = clock
        self._settings = settings
        self._requests = Requests(settings.request_timeout_s)
        self._motion = Motion(meta, store, OwnRequests(), self._requests)
        self._applier = Applier(meta, cache, kernel, clock, settings.defaults, self._motion, notice)
        self._lister = Lister(self._applier, store, self._requests, settings)
        self._names = Names(self._applier, self._lister, store, self._requests, settings)
        self._fresh = Freshness(meta, clock, self._lister, settings)
        self._heads = HeadPool(self._applier, store, self._requests, settings)

        self.ensure_listed = self._lister.ensure_listed
        self.entries_after = self._lister.entries_after
        self._longest = LongestKey(meta, store, self._requests, settings)
        self.longest_below = self._longest.below
        self.ensure_fresh = self._fresh.ensure_fresh
        self.ensure_name = self._names.ensure_name
        self.ensure_attributes = self._heads.ensure_attributes
        self.recheck = self._heads.recheck
        self.read_small = self._heads.read_small
        self.prefetch_attributes = self._heads.prefetch_attributes
        self.names_read = self._heads.names_read
        self.reads_attributes = self._heads.reads_attributes
        self.expect_attributes = self._heads.expect_attributes
        self.cancel_prefetch = self._heads.cancel_prefetch
        self.read_target = Targets(self._applier, self._heads, store, self._requests, settings).read_target
        self._looking = Looking(self._applier, self._lister, store, self._requests)
        self.look_again = self._looking.look_again
        self.note_moved = self._motion.claims.note

    def note_own(self, key: str) -> None:
        """A request of the uploader's changed ``key``, or may have."""
        self._motion.own.note(key)
        self._looking.echoes.wrote(key)

    def expect_notices(self) -> None:
        """From now on notices of changes in the bucket come to ``look_again``, those of our own writes among them."""
        self._looking.echoes.expected = True

    def share_attributes(self, elsewhere: Callable[[int, list[int]], list[int]]) -> None:
        """Offer each directory's files whose attributes are wanted ahead to ``elsewhere(directory, files)``.

        It gets some of them by ``read_small`` and returns the others.
        """
        self._heads.elsewhere = elsewhere

    def __repr__(self) -> str:
        return f"<Refresh {self._lister.listing_now} listings, {self._heads.in_flight} heads under way>"

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listings, HEADs and probes live here, for ever; until it has started every question is Unavailable."""
        await self._motion.claims.scan()
        async with trio.open_nursery() as nursery:
            self._lister.nursery = self._names.nursery = self._heads.nursery = self._fresh.nursery = nursery
            try:
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._lister.nursery = self._names.nursery = self._heads.nursery = self._fresh.nursery = None

    async def refresh(self, folders: Sequence[str] = ("/",), recursive: bool = True) -> RefreshReport:
        """List folders again that were listed before, and bring what others changed into the records.

        For whoever waits for it; what is asked for and outlives a restart is a job (``jobs.py``).

        Args:
            folders: paths from the share's root, like ``/photos/2024``.
            recursive: go on into folders below that were listed before.

        Raises:
            NoEntry, NotADirectory: no such folder.
            Unavailable: the bucket does not answer; what was listed by then is applied.
        """
        return await self.begin(RefreshProgress(self._clock.time_ns())).run(folders, recursive=recursive)

    async def hidden_below(self, ino: int) -> int:
        """How many keys directly below a directory are not shown; the bucket is asked anew where there were any.

        Raises StaleInode, Unavailable, PermissionDenied.
        """
        directory = self._meta.require(ino).directory
        if directory is None or not directory.hidden:
            return 0
        walk = await self._lister.renew(ino, recursive=False)
        if walk.error is not None:
            raise walk.error
        directory = self._meta.require(ino).directory
        return directory.hidden if directory is not None else 0

    def begin(self, progress: RefreshProgress) -> Renewal:
        """A refresh that counts in ``progress``, and goes on where that says."""
        return Renewal(self._meta, self._clock, self._lister, self._names, self._settings, progress, self._flat_walk)

    def _flat_walk(self, progress: RefreshProgress, is_done: Callable[[Inode], bool]) -> FlatWalk:
        return FlatWalk(self._applier, self._lister, self._requests, self._settings, progress, is_done)

    def claimant(self, key: str, directory: int) -> int:
        """The renamed directory, its children not visited yet, that whatever lies at ``key`` belongs to; 0 if to none.

        Args:
            directory: where the one who asks is; below the renamed directory itself the key is its own.
        """
        return self._motion.claims.claimant(self._meta, key, directory)

    def statistics(self) -> RefreshStatistics:
        """Counters since the start, and the state now."""
        applier, lister, heads = self._applier, self._lister, self._heads
        return RefreshStatistics(
            listing_now=lister.listing_now,
            ttl_renewals=self._fresh.renewals,
            heads_in_flight=heads.in_flight,
            heads_waiting=heads.waiting,
            listings=lister.listings,
            lists=lister.lists + self._longest.lists,
            heads=heads.heads,
            probes=self._names.probes,
            added=lister.total.added,
            changed=lister.total.changed,
            removed=lister.total.removed,
            shadowed=applier.shadowed.count,
            unrepresentable=applier.unrepresentable.count,
            shadowed_examples=applier.shadowed.examples,
            unrepresentable_examples=applier.unrepresentable.examples,
            last_error=self._requests.last_error,
        )
