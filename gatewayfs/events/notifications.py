"""Tell me when everything written until now is in the bucket.

A request is a record, so it outlives the daemon. What it waits for is noted in memory, as a drain does; after a restart
it is everything that is queued then, which includes what was queued before. Unlike a drain it hurries nothing, and it
waits for what is parked or held, however long: the news is only ever told when it is true.
"""

import logging
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

from gatewayfs.errors import FsError, LocalError, UserError
from gatewayfs.events import envelope
from gatewayfs.events.outbox import Outbox
from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.schema import Notification
from gatewayfs.runtime.clock import Clock

log = logging.getLogger(__name__)

OPEN_MAX = 100
"""Open requests; each remembers everything in the queue."""

DISK_RETRY_S = 5.0
"""Pause after the records could not be changed."""


@dataclass(slots=True, eq=False)
class Request:
    """One open request.

    Attributes:
        identity: a UUID.
        completed_ns: when everything was in the bucket; 0 before.
        done: set then, and when the event is recorded.
    """

    identity: str
    requested_ns: int
    completed_ns: int
    done: trio.Event


class Notifications:
    """Requests of one share.

    Args:
        arrived: returns when everything that is queued at its call is in the bucket.
    """

    def __init__(self, meta: MetaStore, clock: Clock, outbox: Outbox, arrived: Callable[[], Awaitable[None]]) -> None:
        self._meta, self._clock, self._outbox, self._arrived = meta, clock, outbox, arrived
        self._nursery: trio.Nursery | None = None
        self._open = 0

    def __len__(self) -> int:
        """Open requests."""
        return self._open

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch, until cancelled; what an earlier run was asked goes on."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for raw, notification in self._meta.notifications().items():
                self._watch(Request(str(uuid.UUID(bytes=raw)), notification.requested_ns, 0, trio.Event()))
            task_status.started()
            await trio.sleep_forever()

    def request(self) -> Request:
        """Ask; recorded when this returns (safe from power loss after ``MetaStore.sync``).

        Raises UserError when too many requests are open; LocalError, NoSpace.
        """
        if self._open >= OPEN_MAX:
            raise UserError(
                f"{self._open} requests are waiting already", "wait until some are answered: gatewayfs status"
            )
        identity, now_ns = self._outbox.new_id(), self._clock.time_ns()
        with self._meta.transaction() as tx:
            tx.put_notification(uuid.UUID(identity).bytes, Notification(now_ns))
        request = Request(identity, now_ns, 0, trio.Event())
        self._watch(request)
        return request

    def _watch(self, request: Request) -> None:
        assert self._nursery is not None, "run is not running"
        self._open += 1
        self._nursery.start_soon(self._follow, request)

    async def _follow(self, request: Request) -> None:
        await self._arrived()
        request.completed_ns = self._clock.time_ns()
        news = envelope.all_uploaded(request.identity, request.requested_ns, request.completed_ns)
        while not request.done.is_set():
            try:
                with self._meta.transaction() as tx:
                    tx.put_notification(uuid.UUID(request.identity).bytes, None)
                    self._outbox.tell(tx, news)
            except (LocalError, FsError) as problem:
                log.warning("notification %s is late: %s", request.identity, problem)
                await trio.sleep(DISK_RETRY_S)
            else:
                request.done.set()
        self._open -= 1
        log.info("everything written before request %s is in the bucket", request.identity)
