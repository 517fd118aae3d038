"""YieldingStore: requests that nobody waits for take turns, and none while programs need the interpreter more."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from gatewayfs.runtime.precedence import Precedence
from gatewayfs.s3.store import ObjectStore
from gatewayfs.s3.wrapping import StoreCall, StoreWrapper

T = TypeVar("T")


class YieldingStore(StoreWrapper):
    """``inner`` for background work: every call waits for its turn (``runtime/precedence.py``)."""

    def __init__(self, inner: ObjectStore, precedence: Precedence) -> None:
        super().__init__(inner)
        self._precedence = precedence

    async def around(self, call: StoreCall, perform: Callable[[], Awaitable[T]]) -> T:
        """See ``StoreWrapper``."""
        async with self._precedence.turn(call.operation):
            return await perform()
