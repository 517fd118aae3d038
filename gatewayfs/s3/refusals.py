"""RefusalStore: tells somebody of answers that an administrator should hear about, and changes nothing.

Access denied, keys refused, an archived object that somebody wants to read, one that is gone under a reader or came
damaged: the caller handles each, and nobody would learn of it but by looking into the log. The names are S3's
own operations.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from gatewayfs.errors import (
    CredentialsRejected,
    ObjectArchived,
    ObjectDamaged,
    ObjectNotFound,
    StoreAccessDenied,
    StoreError,
)
from gatewayfs.s3.store import ObjectStore
from gatewayfs.s3.wrapping import StoreCall, StoreWrapper

T = TypeVar("T")

S3_NAMES = {
    "head": "S3HeadObject",
    "get": "S3GetObject",
    "fetch": "S3GetObject",
    "list_page": "S3ListObjects",
    "delete": "S3DeleteObject",
    "delete_many": "S3DeleteObject",
}
"""Everything else writes: S3PutObject, as File Gateway calls it."""

READS = ("get", "fetch")


@dataclass(frozen=True, slots=True)
class Refusal:
    """One answer, as it is told."""

    error: StoreError
    operation: str
    key: str


class RefusalStore(StoreWrapper):
    """``inner``; ``tell`` hears of every refusal and must not block."""

    def __init__(self, inner: ObjectStore, tell: Callable[[Refusal], None]) -> None:
        super().__init__(inner)
        self._tell = tell

    async def around(self, call: StoreCall, perform: Callable[[], Awaitable[T]]) -> T:
        """See ``StoreWrapper``."""
        try:
            return await perform()
        except (StoreAccessDenied, CredentialsRejected, ObjectArchived, ObjectDamaged) as error:
            self._tell(self._refusal(call, error))
            raise
        except ObjectNotFound as error:
            if call.operation in READS:
                self._tell(self._refusal(call, error))
            raise

    def _refusal(self, call: StoreCall, error: StoreError) -> Refusal:
        return Refusal(error, S3_NAMES.get(call.operation, "S3PutObject"), call.key)
