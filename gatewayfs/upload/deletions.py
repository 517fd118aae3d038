"""Deletions of many workers in few requests.

    worker: delete ──> waiting ──> one DeleteObjects for up to 1,000 keys, each with its etag ──> an answer per key

Each doomed object keeps its own entry, worker, key lock and record; only the request is shared. What comes within
``GATHER_S`` goes together: a renamed directory dooms its old objects one by one, as their copies are made.
"""

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import trio

from gatewayfs.errors import StoreError
from gatewayfs.s3.store import DELETIONS_MAX, Deletion
from gatewayfs.types import ObjectKey

log = logging.getLogger(__name__)

REQUESTS_MAX = 2
"""At a time: the store works on one while the answer to the other is read."""

GATHER_S = 0.1
"""Nobody waits for a deletion to be over, and it had ``upload.settle`` to wait anyway."""

Send = Callable[[Sequence[Deletion]], Awaitable[Mapping[ObjectKey, StoreError]]]


@dataclass(slots=True, eq=False)
class _Waiting:
    deletion: Deletion
    done: trio.Event = field(default_factory=trio.Event)
    problem: Exception | None = None


class Deletions:
    """Gathers deletions; ``send`` is ``ObjectStore.delete_many``."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._waiting: deque[_Waiting] = deque()
        self._sending = 0
        self._news = trio.Event()

    def __repr__(self) -> str:
        return f"<Deletions {len(self._waiting)} waiting, {self._sending} requests under way>"

    async def delete(self, deletion: Deletion) -> None:
        """Delete one object; the caller holds its key. Raises StoreError. Needs ``run`` to be running.

        Cancelled, the deletion may take effect or not, like every request.
        """
        waiting = _Waiting(deletion)
        self._waiting.append(waiting)
        self._news.set()
        await waiting.done.wait()
        if waiting.problem is not None:
            raise waiting.problem

    async def run(self) -> None:
        """Send what comes, for ever."""
        async with trio.open_nursery() as nursery:
            while True:
                await self._news.wait()
                self._news = trio.Event()
                if len(self._waiting) < DELETIONS_MAX:
                    await trio.sleep(GATHER_S)
                while self._waiting and self._sending < REQUESTS_MAX:
                    count = min(len(self._waiting), DELETIONS_MAX)
                    self._sending += 1
                    nursery.start_soon(self._perform, [self._waiting.popleft() for _ in range(count)])

    async def _perform(self, batch: list[_Waiting]) -> None:
        try:
            refused = await self._send([waiting.deletion for waiting in batch])
        except StoreError as error:
            # One for each: they are raised in as many tasks.
            problems: Mapping[ObjectKey, Exception] = {
                waiting.deletion.key: _of(error, waiting.deletion.key) for waiting in batch
            }
        except Exception as error:
            log.exception("unexpected error while deleting %d objects", len(batch))
            problems = {waiting.deletion.key: StoreError(f"DeleteObjects failed: {error!r}") for waiting in batch}
        else:
            problems = refused
        finally:
            self._sending -= 1
            self._news.set()
        # Not reached when cancelled: nobody may take an answer that never came for a good one.
        for waiting in batch:
            waiting.problem = problems.get(waiting.deletion.key)
            waiting.done.set()


def _of(error: StoreError, key: str) -> StoreError:
    return type(error)(str(error), operation=error.operation, key=key, code=error.code, status=error.status)
