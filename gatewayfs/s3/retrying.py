"""RetryingStore: tries again what may succeed by itself, where trying again cannot hurt.

A request whose answer was lost may have taken effect. Reading, listing and sending a part come out the same the second
time. A conditional write does not: its own first try makes the second one fail with 412, which would look like somebody
else's change. Nor does one without a condition, sent to a store that knows none after a look at the key: by the second
try somebody may have replaced what the first one wrote. Such errors go to the caller, who looks before deciding.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from gatewayfs.errors import StoreError
from gatewayfs.s3.store import ObjectStore
from gatewayfs.s3.wrapping import StoreCall, StoreWrapper

T = TypeVar("T")

PAUSE_S_FIRST = 0.2
PAUSE_S_MAX = 8.0


class RetryingStore(StoreWrapper):
    """Repeats repeatable calls after transient errors, with exponential back-off and full jitter.

    Args:
        jitter: returns a random number in [0, 1).
        attempts: tries altogether.
        deadline_s: no further try starts when it would be later than this after the first one began.
    """

    def __init__(
        self, inner: ObjectStore, jitter: Callable[[], float], *, attempts: int = 4, deadline_s: float = 60.0
    ) -> None:
        super().__init__(inner)
        self._jitter = jitter
        self._attempts = attempts
        self._deadline_s = deadline_s

    async def around(self, call: StoreCall, perform: Callable[[], Awaitable[T]]) -> T:
        give_up_at = trio.current_time() + self._deadline_s
        attempt = 1
        while True:
            try:
                return await perform()
            except StoreError as error:
                if not error.transient or not call.repeatable or attempt >= self._attempts:
                    raise
                pause_s = self._jitter() * min(PAUSE_S_MAX, PAUSE_S_FIRST * 2 ** (attempt - 1))
                if trio.current_time() + pause_s > give_up_at:
                    raise
            await trio.sleep(pause_s)
            attempt += 1
