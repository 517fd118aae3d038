"""The front of this package: what happens to a share goes in here, and comes out at its targets.

    settling.py        uploads wait until their files' writers rest
    notifications.py   requests to be told when all is in the bucket
    outbox.py          events wait in the records, bounded
    delivery.py        one target is given what waits for it
    file.py command.py webhook.py   the targets
    envelope.py        what an event looks like                       [pure]

The uploader's part (``uploaded``, ``conflicted``) is one or two small records within a transaction it makes anyway, and
nothing at all without a target. Everything else happens in tasks and threads of its own.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence

import trio

from gatewayfs.errors import FsError, LocalError
from gatewayfs.events import envelope
from gatewayfs.events.delivery import Delivery
from gatewayfs.events.envelope import Origin
from gatewayfs.events.notifications import Notifications
from gatewayfs.events.outbox import Outbox
from gatewayfs.events.settings import EventSettings, EventStatus, Randomness, Taker
from gatewayfs.events.settling import Settler
from gatewayfs.meta.env import MetaStore, Transaction
from gatewayfs.meta.schema import Inode, Remote
from gatewayfs.runtime.clock import Clock

log = logging.getLogger(__name__)

DISK_RETRY_S = 5.0
"""Pause after the records could not be changed."""


class Events:
    """One share's events.

    Args:
        takers: the targets; none: nothing is kept.
        arrived: returns when everything that is queued at its call is in the bucket.
    """

    def __init__(
        self,
        *,
        meta: MetaStore,
        clock: Clock,
        rng: Randomness,
        origin: Origin,
        settings: EventSettings,
        takers: Sequence[Taker],
        arrived: Callable[[], Awaitable[None]],
    ) -> None:
        self._meta, self._clock = meta, clock
        self._awake = trio.Event()
        names = tuple(taker.name for taker in takers)
        self._outbox = Outbox(
            meta, clock, rng, origin, bytes_max=settings.outbox_bytes_max, targets=names, wake=self._wake
        )
        self._settler = Settler(meta, clock, self._outbox, settings.settle_s)
        self._deliveries = {
            taker.name: Delivery(self._outbox, self._outbox.lanes[taker.name], taker, clock, rng) for taker in takers
        }
        self.notifications = Notifications(meta, clock, self._outbox, arrived)

    def __repr__(self) -> str:
        return f"<Events {self._outbox!r} {self._settler!r}>"

    @property
    def wanted(self) -> bool:
        """Whether there is any target."""
        return bool(self._deliveries)

    # ----------------------------------------------------------------- what happens

    def uploaded(self, tx: Transaction, inode: Inode, remote: Remote) -> None:
        """The bytes of ``inode`` are at ``remote``, where they were not before; within the transaction that says so."""
        if self.wanted and inode.is_regular and self._settler.uploaded(tx, inode, remote):
            self._wake()

    def conflicted(
        self, tx: Transaction, key: str, resolution: str, *, kept_by: str, copy_key: str | None = None
    ) -> None:
        """Both sides changed the object at ``key`` (see ``envelope.conflict``); within the transaction of the cure."""
        if self.wanted:
            self._outbox.tell(tx, envelope.conflict(self._outbox.origin, key, resolution, kept_by, copy_key))

    def new_id(self) -> str:
        """A notification id."""
        return self._outbox.new_id()

    def refreshed(self, tx: Transaction, notification_id: str, started_ns: int, folders: Sequence[str]) -> None:
        """A refresh has ended well just now; within the transaction that says so."""
        self._outbox.tell(tx, envelope.refreshed(notification_id, started_ns, self._clock.time_ns(), folders))

    # ----------------------------------------------------------------- running

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Tell and deliver until cancelled. Nothing may happen to the share before this has started."""
        await self._outbox.open()
        await self._settler.open(wanted=self.wanted)
        async with trio.open_nursery() as nursery:
            await nursery.start(self.notifications.run)
            for delivery in self._deliveries.values():
                nursery.start_soon(delivery.run)
            task_status.started()
            await self._keep()

    async def _keep(self) -> None:
        while True:
            self._awake = trio.Event()
            try:
                self._settler.turn()
                wait_s = 0.0 if self._outbox.turn() else self._settler.next_due_s - self._clock.monotonic()
            except (LocalError, FsError, OSError) as problem:
                log.warning("events are late: %s", problem)
                wait_s = DISK_RETRY_S
            with trio.move_on_after(max(0.0, wait_s)):
                await self._awake.wait()

    def _wake(self) -> None:
        self._awake.set()

    def status(self) -> EventStatus:
        """How things stand."""
        return EventStatus(
            targets={name: delivery.status() for name, delivery in self._deliveries.items()},
            settling=len(self._settler),
            notifications=len(self.notifications),
            outbox_bytes=self._outbox.bytes,
        )
