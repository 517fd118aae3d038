"""One S3 request from description to checked reply: body read, signed, sent, answered, errors translated.

Synchronous, for worker threads; ``HttpObjectStore`` describes the calls and reads the results.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from gatewayfs.errors import StoreError
from gatewayfs.runtime.clock import Clock
from gatewayfs.runtime.offload import thread_clock
from gatewayfs.runtime.throttle import Passage
from gatewayfs.s3.bodies import EMPTY_PAYLOAD, Payload, payload_of, read_payload
from gatewayfs.s3.checksums import ALGORITHMS, Checksum
from gatewayfs.s3.headers import parse_http_date, quote_key, quote_query
from gatewayfs.s3.http import ConnectionPool, Endpoint, HttpRequest
from gatewayfs.s3.options import ObjectOptions
from gatewayfs.s3.signing import Credentials, sign
from gatewayfs.s3.store import Body
from gatewayfs.s3.translate import Attempt, error_of, error_of_key, in_place, is_web_page, not_s3
from gatewayfs.s3.wire import Deadline, Expect, Interruption, Reply
from gatewayfs.s3.xml import NotXml, is_error

T = TypeVar("T")

USER_AGENT = "gatewayfs"
BYTES_PER_S_MIN = 1 << 20

RESULT_BYTES_MAX = 64 * 1024
LIST_BYTES_MAX = 16 << 20
"""1,000 keys of 1,024 bytes, each byte percent-encoded, with their XML: under 5 MB."""

RESULT = Expect(RESULT_BYTES_MAX)

CredentialSource = Callable[[], Credentials]
"""Returns current credentials, refreshed where they expire. May block; raises CredentialsRejected."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """When a request is given up.

    A request gets ``request_s`` and one more second for every MiB it moves (a slower line fails and tries again), and
    may be silent for ``silence_s`` at a time. ``work_s`` replaces both for what the store works on before it answers:
    copying 5 GiB, joining 10,000 parts; some stay silent meanwhile.
    """

    connect_s: float = 5.0
    silence_s: float = 30.0
    request_s: float = 60.0
    work_s: float = 600.0


DEFAULT_TIMEOUTS = Timeouts()


@dataclass(frozen=True, slots=True)
class Call:
    """One S3 request. ``key`` None asks the bucket itself.

    ``replayable``: sending it twice does no harm and answers the same. ``moved_bytes`` are the body's, either way.
    """

    operation: str
    method: str
    key: str | None
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    body: Body | bytes | None = None
    expect: Expect = RESULT
    replayable: bool = True
    moved_bytes: int = 0
    works: bool = False
    checksummed: bool = False
    """The body is an object's, or a part's: it travels with its checksum, where that is wanted."""


class Transport:
    """Performs calls against one bucket. Safe to use from several threads.

    Args:
        endpoint: where the bucket is.
        bucket: its name, for messages.
        credentials: asked before every request.
        clock: the wall clock that the store's is compared with.
        timeouts: when requests are given up.
        connections_max: idle connections kept.
        options: what every request carries.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        bucket: str,
        region: str,
        credentials: CredentialSource,
        clock: Clock,
        timeouts: Timeouts,
        connections_max: int,
        options: ObjectOptions,
    ) -> None:
        self.where = f"{bucket} at {endpoint.url}"
        self.clock_skew_s: float | None = None
        self._common = options.of_every_request()
        self._checksum = ALGORITHMS.get(options.checksum)
        self._pool = ConnectionPool(endpoint, connections_max, timeouts.connect_s)
        self._timeouts = timeouts
        self._endpoint = endpoint
        self._region = region
        self._credentials = credentials
        self._clock = clock

    def __repr__(self) -> str:
        return f"<Transport {self.where} {self._region}>"

    def perform(self, call: Call, read: Callable[[Reply], T], interruption: Interruption, passage: Passage) -> T:
        """Return what ``read`` makes of the successful reply to ``call``.

        Raises StoreError, with operation and key filled in; CacheDiskFull and CacheDiskFailed for files.
        """
        attempt = Attempt(call.operation, self.where, self._region, call.key or "")
        try:
            reply = self._exchange(call, interruption, passage)
            self._note_date(reply)
            if not 200 <= reply.status < 300 or is_error(reply.body) or is_web_page(reply):
                raise error_of(attempt, reply)
            return read(reply)
        except NotXml as error:
            raise not_s3(attempt, str(error)) from error
        except StoreError as error:
            raise in_place(error, attempt) from error

    def error_of_key(self, call: Call, key: str, code: str, message: str) -> StoreError:
        """Return what an answer says of one key of a call for many."""
        return error_of_key(Attempt(call.operation, self.where, self._region, key), code, message)

    def close(self) -> None:
        """Close the kept connections."""
        self._pool.close()

    def _exchange(self, call: Call, interruption: Interruption, passage: Passage) -> Reply:
        payload = _payload(call.body, self._checksum if call.checksummed else None)
        request = self._signed(call, payload, passage)
        timeouts = self._timeouts
        if call.works:
            deadline = Deadline(timeouts.work_s, timeouts.work_s, thread_clock)
        else:
            total_s = timeouts.request_s + (payload.length + call.moved_bytes) / BYTES_PER_S_MIN
            deadline = Deadline(total_s, timeouts.silence_s, thread_clock)
        return self._pool.exchange(request, call.expect, deadline, interruption)

    def _signed(self, call: Call, payload: Payload, passage: Passage) -> HttpRequest:
        path = self._endpoint.base_path + (quote_key(call.key) if call.key is not None else "")
        query = quote_query(call.query)
        target = f"{path}?{query}" if query else path
        headers = sign(
            self._credentials(),
            self._region,
            call.method,
            self._endpoint.url + target,
            {"host": self._endpoint.authority, **self._common, **payload.headers, **call.headers},
            payload.sha256,
        )
        headers["user-agent"] = USER_AGENT
        return HttpRequest(call.method, target, headers, payload.chunks, payload.length, call.replayable, passage)

    def _note_date(self, reply: Reply) -> None:
        date = reply.headers.get("date")
        if date is not None:
            self.clock_skew_s = (parse_http_date(date) - self._clock.time_ns()) / 1e9


def _payload(body: Body | bytes | None, checksum: Checksum | None) -> Payload:
    if body is None:
        return EMPTY_PAYLOAD
    return payload_of(body) if isinstance(body, bytes) else read_payload(body, checksum)
