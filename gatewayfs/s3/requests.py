"""What every request method of the S3 client stands on: where the bucket is, and one way to perform a call."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from gatewayfs.errors import BadResponse, StoreRefused
from gatewayfs.runtime.clock import Clock
from gatewayfs.runtime.offload import Offloader
from gatewayfs.runtime.throttle import Passage, Throttle
from gatewayfs.s3.headers import condition_headers, quote_key, quoted_etag
from gatewayfs.s3.http import Endpoint
from gatewayfs.s3.options import ObjectOptions
from gatewayfs.s3.store import Capabilities, Condition
from gatewayfs.s3.transport import DEFAULT_TIMEOUTS, Call, CredentialSource, Timeouts, Transport
from gatewayfs.s3.wire import Interruption, Reply
from gatewayfs.s3.xml import unquoted
from gatewayfs.types import ETag, ObjectKey

T = TypeVar("T")
LIST_KEYS_MAX = 1000
"""What S3 returns at most, whatever is asked."""

READING_METHODS = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class Connection:
    """How a bucket is reached: what ``s3.boto.resolve`` finds out. Holds no secrets itself."""

    bucket: str
    endpoint: Endpoint
    region: str
    credentials: CredentialSource


class Requests:
    """One bucket's transport, its capabilities, and what requests have in common.

    Args:
        connection: from ``s3.boto.resolve``.
        offload: runs the requests; its thread limit is the limit of requests at a time.
        clock: what the store's is compared with.
        timeouts: when requests are given up.
        connections_max: idle connections kept; as many as ``offload`` has threads.
        read_only: refuse every request that could change something, whoever asks for it.
        options: what every request and every written object carries.
        throttle: bandwidth limits that bodies keep to; None for a client without any.
    """

    def __init__(
        self,
        connection: Connection,
        offload: Offloader,
        clock: Clock,
        *,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        connections_max: int = 32,
        throttle: Throttle | None = None,
        read_only: bool = False,
        options: ObjectOptions = ObjectOptions(),
    ) -> None:
        self.options = options
        self._connection = connection
        self.throttle = throttle or Throttle(connections_max)
        self._offload = offload
        self._read_only = read_only
        self._transport = Transport(
            connection.endpoint,
            connection.bucket,
            connection.region,
            connection.credentials,
            clock,
            timeouts,
            connections_max,
            options,
        )
        self.capabilities = Capabilities()
        """What the probe found. ``quoted_if_match``, ``replace_keeps_tags`` and ``acls`` change what is sent."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._transport.where}>"

    @property
    def bucket(self) -> str:
        return self._connection.bucket

    async def _perform(self, call: Call, read: Callable[[Reply], T]) -> T:
        if self._read_only and call.method not in READING_METHODS:
            raise StoreRefused("the share is read-only", operation=call.operation, key=call.key or "")
        interruption = Interruption()
        passage = self._passage(call, interruption)
        try:
            await passage.begin()
            return await self._offload.run(
                self._transport.perform, call, read, interruption, passage, interrupt=interruption.interrupt
            )
        finally:
            passage.end()

    def _passage(self, call: Call, interruption: Interruption) -> Passage:
        """Only what files are made of may be held up; our own XML is as urgent as a call without a body."""
        body = call.body
        return self.throttle.passage(
            lambda: interruption.interrupted,
            sends_bytes=None if body is None or isinstance(body, bytes) else body.length,
            receives_bytes=call.moved_bytes or None,
        )

    def _condition(self, condition: Condition) -> dict[str, str]:
        return condition_headers(condition, quoted=self.capabilities.quoted_if_match)

    def _copy_source(self, source: ObjectKey, source_etag: ETag | None) -> dict[str, str]:
        headers = {"x-amz-copy-source": f"/{self.bucket}/{quote_key(source)}", **self.options.of_copies()}
        if source_etag is not None:
            quoted = quoted_etag(source_etag, quoted=self.capabilities.quoted_if_match)
            headers["x-amz-copy-source-if-match"] = quoted
        return headers


def etag_of(reply: Reply) -> ETag:
    etag = unquoted(reply.headers.get("etag", ""))
    if not etag:
        raise BadResponse("a write answered without ETag", status=reply.status)
    return etag


def nothing(reply: Reply) -> None:
    """Read the answer to a deletion: S3 has nothing to say but the status."""
    if reply.body:
        raise BadResponse("an answer where none was expected", status=reply.status)
