"""Connections to one endpoint, through urllib3: made, kept, reused and given up. Everything runs in worker threads.

``ConnectionPool.exchange`` sends one request and returns its reply, urllib3's retries and redirects being off. It never
sends twice, with one exception: a kept connection that the server had closed meanwhile is noticed only when the
request is already on its way. Then a request that may be sent twice without harm goes over the next connection.
"""

import re
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException, IncompleteRead
from typing import Any, cast

import urllib3
from urllib3.exceptions import (
    HTTPError,
    InvalidChunkLength,
    InvalidHeader,
    NewConnectionError,
    ProxyError,
    SSLError,
)
from urllib3.exceptions import TimeoutError as Urllib3Timeout
from urllib3.response import BaseHTTPResponse

from gatewayfs.errors import BadResponse, StoreError, StoreUnreachable
from gatewayfs.runtime.throttle import UNTHROTTLED, Passage
from gatewayfs.s3.connection import PlainConnection, TlsConnection, WholeReply
from gatewayfs.s3.wire import (
    ERROR_BODY_BYTES_MAX,
    RECEIVE_BYTES,
    Deadline,
    Exchange,
    Expect,
    Interruption,
    NoReply,
    Reply,
    serving,
)

SOCKET_OPTIONS = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
_TUNNEL_REFUSED = re.compile(r"Tunnel connection failed: ([0-9]{3})")


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy; ``authorization`` is its Proxy-Authorization header or ""."""

    host: str
    port: int
    authorization: str = field(default="", repr=False)

    @property
    def url(self) -> str:
        return f"http://{_bracketed(self.host)}:{self.port}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a bucket is reached.

    ``base_path`` precedes every key: "/" for virtual-host addressing, "/bucket/" for path addressing. ``tls`` is None
    for plain http.
    """

    host: str
    port: int
    base_path: str
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    proxy: Proxy | None = None

    @property
    def authority(self) -> str:
        """The Host header: the port only where it is not the scheme's own."""
        host = _bracketed(self.host)
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    @property
    def scheme(self) -> str:
        return "https" if self.tls else "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}"


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request, signed.

    ``chunks`` makes the body anew for every sending; ``length`` is its size in bytes. ``passage`` is its way through
    the bandwidth limits.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    chunks: Callable[[], Iterable[bytes | memoryview]] = tuple
    length: int = 0
    replayable: bool = True
    passage: Passage = UNTHROTTLED


class _PlainPool(urllib3.HTTPConnectionPool):
    ConnectionCls = PlainConnection


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = TlsConnection


class ConnectionPool:
    """Kept connections to one endpoint, the most recently used first. Safe to use from several threads.

    Args:
        kept_max: idle connections kept; more may be open while more exchanges run.
        connect_s: how long a connection may take to come about, name resolution aside.
    """

    def __init__(self, endpoint: Endpoint, kept_max: int, connect_s: float) -> None:
        self.endpoint = endpoint
        self._connect_s = connect_s
        self._pool = _pool(endpoint, kept_max)
        # A proxy for plain http is told the whole address; one for https only where to tunnel to.
        self._base = endpoint.url if endpoint.proxy is not None and endpoint.tls is None else ""

    def __repr__(self) -> str:
        return f"<ConnectionPool {self.endpoint.url}>"

    def exchange(self, request: HttpRequest, expect: Expect, deadline: Deadline, interruption: Interruption) -> Reply:
        """Send ``request`` and return its reply, whatever its status. Raises StoreUnreachable or BadResponse."""
        exchange = serving.exchange = Exchange(deadline, interruption, request.passage)
        try:
            while True:
                try:
                    return self._exchange(request, expect, exchange)
                except NoReply:
                    if not exchange.reused or (exchange.sent and not request.replayable):
                        raise
                # Each turn uses up one kept connection; a new one is the last turn.
                exchange.reused = False
        except HTTPError as error:
            raise self._translated(error) from error
        finally:
            interruption.detach()

    def close(self) -> None:
        """Close the idle connections; those in use follow as they are returned."""
        self._pool.close()

    def _exchange(self, request: HttpRequest, expect: Expect, exchange: Exchange) -> Reply:
        idle_s = exchange.deadline.next_wait_s()
        response = self._pool.urlopen(
            request.method,
            self._base + request.target,
            # urllib3 sends whatever bytes-like an iterable gives, and headers of bytes as they are.
            body=cast("Iterable[bytes]", request.chunks()) if request.length else None,
            headers=cast("Mapping[str, str]", _encoded(request)),
            retries=False,
            redirect=False,
            assert_same_host=False,
            timeout=urllib3.Timeout(connect=min(self._connect_s, idle_s), read=idle_s),
            preload_content=False,
            decode_content=False,
        )
        try:
            return _received(response, expect)
        except BaseException:
            response.close()
            raise
        finally:
            response.release_conn()

    def _translated(self, error: HTTPError) -> StoreError:
        """Return what an error of urllib3's means here."""
        causes = list(_causes(error))
        for cause in causes:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return self._no_connection(f"its certificate is not trusted ({cause.verify_message})")
        if isinstance(error, ProxyError) and (refusal := _TUNNEL_REFUSED.search(str(error.original_error))):
            return self._refused_by_proxy(int(refusal[1]))
        if isinstance(error, InvalidChunkLength | InvalidHeader):
            return BadResponse("broken framing in the answer")
        if isinstance(error, NewConnectionError | ProxyError | SSLError | Urllib3Timeout):
            return self._no_connection(_reason(causes[-1]))
        for cause in causes:
            if isinstance(cause, IncompleteRead):
                return StoreUnreachable("connection lost inside the answer")
            if isinstance(cause, HTTPException):
                return BadResponse("answer is not HTTP")
        return StoreUnreachable(f"connection lost: {_reason(causes[-1])}")

    def _no_connection(self, reason: str) -> StoreUnreachable:
        proxy = self.endpoint.proxy
        through = f" through proxy {proxy.url}" if proxy is not None else ""
        return StoreUnreachable(f"cannot connect to {self.endpoint.url}{through}: {reason}")

    def _refused_by_proxy(self, status: int) -> BadResponse:
        endpoint, proxy = self.endpoint, self.endpoint.proxy
        assert proxy is not None
        text = f"proxy {proxy.host}:{proxy.port} refuses to connect to {endpoint.host}:{endpoint.port}: {status}"
        return BadResponse(text, status=status)


def _received(response: BaseHTTPResponse, expect: Expect) -> Reply:
    headers: dict[str, str] = {}
    for name, value in response.headers.items():
        key, text = name.lower(), _header_text(value)
        headers[key] = f"{headers[key]},{text}" if key in headers else text
    reply = Reply(response.status, headers)
    sink = expect.sink_for(reply) if expect.sink_for is not None else None
    plain = response._fp  # type: ignore[attr-defined]
    if sink is not None and isinstance(plain, WholeReply) and plain.sized:
        reply.body_bytes = plain.pour(sink)
        return reply
    limit = expect.body_bytes_max if reply.status < 300 else ERROR_BODY_BYTES_MAX
    pieces = []
    for piece in response.stream(RECEIVE_BYTES, decode_content=False):
        reply.body_bytes += len(piece)
        if sink is not None:
            sink(memoryview(piece))
        elif reply.body_bytes > limit:
            raise BadResponse(f"answer longer than {limit} bytes", status=reply.status)
        else:
            pieces.append(piece)
    reply.body = b"".join(pieces)
    return reply


def _encoded(request: HttpRequest) -> dict[str, str | bytes]:
    """Return the headers as http.client takes them: what is not ASCII, as the UTF-8 that was signed."""
    headers: dict[str, str | bytes] = {
        name: value if value.isascii() else value.encode() for name, value in request.headers.items()
    }
    if request.length or request.method in ("PUT", "POST"):
        headers["content-length"] = str(request.length)
    return headers


def _header_text(value: str) -> str:
    """Most stores send metadata as it was sent to them, which is UTF-8; anything else is at least kept readable."""
    value = value.strip(" \t")
    if value.isascii():
        return value
    try:
        return value.encode("latin-1").decode()
    except UnicodeDecodeError:
        return value


def _pool(endpoint: Endpoint, kept_max: int) -> urllib3.HTTPConnectionPool:
    options: dict[str, Any] = {"maxsize": kept_max, "block": False, "socket_options": SOCKET_OPTIONS}
    if endpoint.tls is not None:
        options["ssl_context"] = endpoint.tls
    proxy = endpoint.proxy
    manager: urllib3.PoolManager
    if proxy is None:
        manager = urllib3.PoolManager(**options)
    else:
        headers = {"proxy-authorization": proxy.authorization} if proxy.authorization else None
        manager = urllib3.ProxyManager(proxy.url, proxy_headers=headers, **options)
    manager.pool_classes_by_scheme = {"http": _PlainPool, "https": _TlsPool}
    return manager.connection_from_host(endpoint.host, endpoint.port, endpoint.scheme)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and what it was made of, outermost first."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        inner = [argument for argument in seen.args if isinstance(argument, BaseException)]
        seen = seen.__cause__ or (inner[0] if inner else None)


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError | Urllib3Timeout) and not isinstance(error, NewConnectionError):
        return "timed out"
    return str(error.args[-1] if isinstance(error, OSError) and error.args else error)
