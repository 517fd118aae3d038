"""An object store that reports each key its caller changes.

The uploader gets its store in this wrapper, so that ``own.py`` knows which answers of LIST and HEAD are older than a
change of our own, without the uploader knowing of listings.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from gatewayfs.s3.store import ObjectStore
from gatewayfs.s3.wrapping import StoreCall, StoreWrapper

T = TypeVar("T")

CHANGING = frozenset({"put", "copy", "delete", "delete_many", "complete_multipart"})
"""Calls after which the key may hold another object; parts become visible with their completion only."""


class ObservedStore(StoreWrapper):
    """``inner``, calling ``changed(key)`` after every request that may have changed the object at ``key``.

    Failed and cancelled requests count too: they may have taken effect.
    """

    def __init__(self, inner: ObjectStore, changed: Callable[[str], None]) -> None:
        super().__init__(inner)
        self._changed = changed

    async def around(self, call: StoreCall, perform: Callable[[], Awaitable[T]]) -> T:
        """See ``StoreWrapper``."""
        try:
            return await perform()
        finally:
            if call.operation in CHANGING:
                for key in call.keys or (call.key,):
                    self._changed(key)
