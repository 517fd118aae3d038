"""Following the bucket: a queue tells what others change, and it is looked at within a second.

    receive ──> read (notices.py) ──> inbox.py ──> look (looking.py) ──> records durable ──> message deleted

A message is deleted when what it led to is on the disk, so a crash, or power loss, makes it come again: at least once.
Many messages about one key that wait together are one look. ``HELD_MAX`` messages are in hand at most; beyond, nothing
is received, so a storm stays in the queue, where it costs nothing. While the *bucket* does not answer nothing is
received either: messages that come again and again without effect would end in the dead-letter queue.

What is no notification, and what the store refuses to show for good, is left for the dead-letter queue where there is
one, and deleted where there is none: it would come again every minute for days.
"""

import logging
from collections import deque
from collections.abc import Awaitable, Callable

import trio

from gatewayfs.errors import FsError, LocalError, StoreError
from gatewayfs.refresh.followstatus import FollowStatus
from gatewayfs.refresh.inbox import Inbox, Ticket, Work
from gatewayfs.refresh.looking import LOOKS_MAX, Look, Outcome
from gatewayfs.refresh.notices import BadMessage, read
from gatewayfs.runtime.clock import Clock
from gatewayfs.runtime.randomness import Randomness
from gatewayfs.s3.queue import RECEIVED_MAX, Message, Queue, QueueError

log = logging.getLogger(__name__)

HELD_MAX = 1000
"""Messages in hand: some 4 MB, and a few seconds of looking."""

GATHER_S = 0.05
"""Messages that are done within this are deleted together, after one sync of the journal."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0

BUSY_PAUSE_S, BUSY_PAUSE_S_MAX = 0.25, 5.0

BUSY_S_MAX = 600.0
"""A write of ours at the key that is unanswered for so long: the uploader looks before it tries again."""

MOVING_S_MAX = 60.0
"""A directory made here settles within seconds; the move of a large one may take hours, then a refresh is due."""

DELETE_TRIES = 6


class Following:
    """One share's queue.

    Args:
        look: ``Refresh.look_again``.
        sync: ``MetaStore.sync``.
    """

    def __init__(
        self,
        *,
        queue: Queue,
        look: Look,
        sync: Callable[[], Awaitable[None]],
        bucket: str,
        prefix: str,
        clock: Clock,
        rng: Randomness,
    ) -> None:
        self._queue, self._look, self._sync = queue, look, sync
        self._bucket, self._prefix, self._clock, self._rng = bucket, prefix, clock, rng
        self._inbox = Inbox()
        self._done: deque[Ticket] = deque()
        self._done_news = trio.Event()
        self._room = trio.Event()
        self._held = 0
        self._received = self._applied = self._ignored = self._bad = self._refused = self._given_up = 0
        self._lag_s = 0.0
        self._failing: dict[str, int] = {}
        self._last_error = ""
        self._told: set[str] = set()
        self._dead_letters: bool | None = None

    def __repr__(self) -> str:
        return f"<Following {self._queue.address}, {self._held} messages in hand>"

    def status(self) -> FollowStatus:
        """How it goes."""
        return FollowStatus(
            queue=self._queue.address,
            received=self._received,
            applied=self._applied,
            ignored=self._ignored,
            bad=self._bad,
            refused=self._refused,
            given_up=self._given_up,
            held=self._held,
            lag_s=self._lag_s,
            failing_since_ns=min(self._failing.values(), default=0),
            last_error=self._last_error,
        )

    async def run(self) -> None:
        """Follow until cancelled; what is in hand then comes again."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._deleting)
            for _ in range(LOOKS_MAX):
                nursery.start_soon(self._looking)
            await self._receiving()

    # ------------------------------------------------------------------ receiving

    async def _receiving(self) -> None:
        failures = 0
        while True:
            while self._held > HELD_MAX - RECEIVED_MAX or "bucket" in self._failing:
                self._room = trio.Event()
                await self._room.wait()
            try:
                messages = await self._queue.receive()
            except QueueError as problem:
                failures += 1
                self._fails("queue", str(problem))
                await trio.sleep(self._pause_s(failures))
                continue
            failures = 0
            self._works("queue")
            for message in messages:
                await self._take(message)

    async def _take(self, message: Message) -> None:
        self._received += 1
        try:
            reading = read(message.body, self._bucket, self._prefix)
        except BadMessage as problem:
            self._bad += 1
            await self._useless(Ticket(message.receipt, message.sent_ns, 0), f"a message is no notification: {problem}")
            return
        self._ignored += reading.ignored
        ticket = Ticket(message.receipt, message.sent_ns, len(reading.notices))
        self._held += 1
        for notice in reading.notices:
            self._inbox.put(notice, ticket)
        if not reading.notices:
            self._finish(ticket)

    async def _useless(self, ticket: Ticket, why: str) -> None:
        """Nothing will ever come of this message."""
        if why not in self._told:
            self._told.add(why)
            log.warning("%s: %s (told once; status counts them)", self._queue.address, why)
        if not await self._has_dead_letters():
            self._held += 1
            self._finish(ticket)

    async def _has_dead_letters(self) -> bool:
        if self._dead_letters is None:
            try:
                self._dead_letters = (await self._queue.facts()).dead_letters
            except QueueError as problem:
                log.info(
                    "whether there is a dead-letter queue cannot be seen, so bad messages are deleted: %s", problem
                )
                self._dead_letters = False
        return self._dead_letters

    # ------------------------------------------------------------------ looking

    async def _looking(self) -> None:
        while True:
            work = await self._inbox.next()
            try:
                outcome = await self._look(work.notice)
            except StoreError as problem:
                if problem.transient:
                    self._fails("bucket", str(problem))
                    self._inbox.put_back(work, self._pause_s(work.tries + 1))
                else:
                    self._works("bucket")
                    self._refuse(work, problem)
                continue
            except (FsError, LocalError) as problem:
                self._last_error = str(problem)
                self._inbox.put_back(work, self._pause_s(work.tries + 1))
                continue
            except Exception:
                log.exception("unexpected error while looking at a key that was told of; will be tried again")
                self._inbox.put_back(work, self._pause_s(work.tries + 1))
                continue
            if outcome is Outcome.LOOKED:
                self._works("bucket")
            self._settle(work, outcome)

    def _settle(self, work: Work, outcome: Outcome) -> None:
        waited_s = trio.current_time() - work.since_s
        if outcome in (Outcome.BUSY, Outcome.MOVING):
            if waited_s < (BUSY_S_MAX if outcome is Outcome.BUSY else MOVING_S_MAX):
                self._inbox.put_back(work, min(BUSY_PAUSE_S * 2.0 ** min(work.tries, 10), BUSY_PAUSE_S_MAX))
                return
            self._given_up += 1
        elif outcome is Outcome.ODD:
            self._ignored += 1
        self._tick_off(work)

    def _refuse(self, work: Work, problem: StoreError) -> None:
        self._refused += 1
        self._last_error = str(problem)
        kind = f"the store refuses to show a key that a message names: {type(problem).__name__}"
        if kind not in self._told:
            self._told.add(kind)
            log.warning("%s: %s, for example %s (told once; status counts them)", self._queue.address, kind, problem)
        for ticket in work.tickets:
            ticket.failed = True
        self._tick_off(work)

    def _tick_off(self, work: Work) -> None:
        self._inbox.done(work)
        for ticket in work.tickets:
            ticket.left -= 1
            if not ticket.left:
                self._finish(ticket)

    # ------------------------------------------------------------------ deleting

    def _finish(self, ticket: Ticket) -> None:
        self._done.append(ticket)
        self._done_news.set()

    async def _deleting(self) -> None:
        while True:
            await self._done_news.wait()
            self._done_news = trio.Event()
            await trio.sleep(GATHER_S)
            while self._done:
                batch = [self._done.popleft() for _ in range(min(len(self._done), RECEIVED_MAX))]
                spared = any(ticket.failed for ticket in batch) and await self._has_dead_letters()
                await self._delete([ticket for ticket in batch if not (ticket.failed and spared)])
                self._held -= len(batch)
                self._room.set()

    async def _delete(self, tickets: list[Ticket]) -> None:
        for tries in range(1, DELETE_TRIES + 1):
            if not tickets:
                return
            try:
                await self._sync()
                await self._queue.delete([ticket.receipt for ticket in tickets])
            except (QueueError, LocalError, FsError) as problem:
                # After the last try they come again, and cost another look each.
                self._fails("deleting", str(problem))
                await trio.sleep(self._pause_s(tries))
                continue
            self._works("deleting")
            self._applied += len(tickets)
            if newest_ns := max(ticket.sent_ns for ticket in tickets):
                self._lag_s = max(0.0, (self._clock.time_ns() - newest_ns) / 1e9)
            return

    # ------------------------------------------------------------------ trouble

    def _fails(self, what: str, problem: str) -> None:
        if not self._failing:
            log.warning("changes of the bucket are not followed: %s", problem)
        self._failing.setdefault(what, self._clock.time_ns())
        self._last_error = problem

    def _works(self, what: str) -> None:
        if self._failing.pop(what, None) is not None and not self._failing:
            log.info("changes of the bucket are followed again")
        self._room.set()

    def _pause_s(self, tries: int) -> float:
        return self._rng.uniform(0.5, 1.0) * min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(tries - 1, 30))
