"""A store that nobody can reach: for tools that look after a cache directory without a gateway."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from gatewayfs.errors import StoreUnreachable
from gatewayfs.s3.wrapping import StoreCall, StoreWrapper

T = TypeVar("T")


class OfflineStore(StoreWrapper):
    """Refuses every call with StoreUnreachable."""

    def __init__(self) -> None:
        super().__init__(self)

    def __repr__(self) -> str:
        return "<OfflineStore>"

    @property
    def bucket(self) -> str:
        return ""

    async def around(self, call: StoreCall, perform: Callable[[], Awaitable[T]]) -> T:
        raise StoreUnreachable("no gateway is running", operation=call.operation, key=call.key)
