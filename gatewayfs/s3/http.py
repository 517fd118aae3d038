"""Connections to one endpoint: made, kept, reused and given up. Everything here runs in worker threads.

``ConnectionPool.exchange`` sends one request and returns its reply. It never retries, with one exception: a kept
connection that the server had closed meanwhile is noticed only when the request is already on its way. Then a request
that may be sent twice without harm is sent once more, over a new connection.

An ``Interruption`` lets the event loop end an exchange from outside by shutting its socket.
"""

import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from gatewayfs.errors import BadResponse, StoreUnreachable
from gatewayfs.runtime.throttle import UNTHROTTLED, Passage
from gatewayfs.s3.wire import Deadline, Expect, NoReply, Reply, Wire


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy; ``authorization`` is its Proxy-Authorization header or ""."""

    host: str
    port: int
    authorization: str = field(default="", repr=False)


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
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.authority}"


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


class Interruption:
    """Ends an exchange from another thread. One per call; usable for the call's several exchanges."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._sock: socket.socket | None = None
        self._interrupted = False

    @property
    def interrupted(self) -> bool:
        return self._interrupted

    def interrupt(self) -> bool:
        """Shut the connection. True when there is none yet: then none will be used, nothing more will happen."""
        with self._mutex:
            self._interrupted = True
            if self._sock is None:
                return True
            try:
                # Not SSLSocket.shutdown, which takes the TLS state away from the thread that is reading.
                socket.socket.shutdown(self._sock, socket.SHUT_RDWR)
            except OSError:
                return False  # the connection ended by itself
            return False

    def attach(self, sock: socket.socket) -> None:
        """From here on ``sock`` is what ``interrupt`` shuts; raises StoreUnreachable when it was called before."""
        with self._mutex:
            if self._interrupted:
                raise StoreUnreachable("interrupted")
            self._sock = sock

    def detach(self) -> None:
        """The connection is out of this call's hands: the next one to use it must not be interrupted by us."""
        with self._mutex:
            self._sock = None


class ConnectionPool:
    """Kept connections to one endpoint, the most recently used first. Safe to use from several threads.

    Args:
        kept_max: idle connections kept; more may be open while more exchanges run.
        connect_s: how long a connection may take to come about, name resolution aside.
    """

    def __init__(self, endpoint: Endpoint, kept_max: int, connect_s: float) -> None:
        self.endpoint = endpoint
        self._connect_s = connect_s
        self._kept_max = kept_max
        self._mutex = threading.Lock()
        self._idle: list[Wire] = []
        self._closed = False

    def __repr__(self) -> str:
        return f"<ConnectionPool {self.endpoint.url}: {len(self._idle)} idle>"

    def exchange(self, request: HttpRequest, expect: Expect, deadline: Deadline, interruption: Interruption) -> Reply:
        """Send ``request`` and return its reply, whatever its status. Raises StoreUnreachable or BadResponse."""
        wire = self._take_idle()
        if wire is not None:
            try:
                return self._exchange_on(wire, request, expect, deadline, interruption)
            except NoReply:
                if not request.replayable:
                    raise
        return self._exchange_on(self._connect(deadline), request, expect, deadline, interruption)

    def close(self) -> None:
        """Close the idle connections; those in use follow as they are returned."""
        with self._mutex:
            self._closed = True
            idle, self._idle = self._idle, []
        for wire in idle:
            wire.close()

    def _exchange_on(
        self, wire: Wire, request: HttpRequest, expect: Expect, deadline: Deadline, interruption: Interruption
    ) -> Reply:
        keep = False
        try:
            interruption.attach(wire.sock)
            wire.passage = request.passage
            try:
                wire.send((self._head(request), *request.chunks()), deadline)
            except NoReply:
                # A server that refuses a body may answer and hang up before it has read all of it.
                reply = wire.receive(request.method, expect, deadline)
            else:
                reply = wire.receive(request.method, expect, deadline)
                keep = reply.keep_alive
            return reply
        finally:
            interruption.detach()
            self._give_back(wire, keep)

    def _connect(self, deadline: Deadline) -> Wire:
        return connect(self.endpoint, min(self._connect_s, deadline.next_wait_s()), deadline)

    def _head(self, request: HttpRequest) -> bytes:
        target = request.target
        if self.endpoint.proxy is not None and self.endpoint.tls is None:
            target = self.endpoint.url + target
        lines = [f"{request.method} {target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in request.headers.items()]
        if request.length or request.method in ("PUT", "POST"):
            lines.append(f"content-length: {request.length}")
        if self.endpoint.proxy is not None and self.endpoint.tls is None and self.endpoint.proxy.authorization:
            lines.append(f"proxy-authorization: {self.endpoint.proxy.authorization}")
        lines.append("\r\n")
        return "\r\n".join(lines).encode()

    def _take_idle(self) -> Wire | None:
        while True:
            with self._mutex:
                if not self._idle:
                    return None
                wire = self._idle.pop()
            if not _readable(wire.sock):
                return wire
            # Readable while idle: the server hung up, or speaks out of turn.
            wire.close()

    def _give_back(self, wire: Wire, keep: bool) -> None:
        with self._mutex:
            if keep and not self._closed and len(self._idle) < self._kept_max:
                self._idle.append(wire)
                return
        wire.close()


def connect(endpoint: Endpoint, timeout_s: float, deadline: Deadline) -> Wire:
    """Open a connection, through the proxy and TLS where there are such. Raises StoreUnreachable or BadResponse."""
    proxy = endpoint.proxy
    host, port = (proxy.host, proxy.port) if proxy is not None else (endpoint.host, endpoint.port)
    try:
        sock = socket.create_connection((host, port), timeout_s)
    except OSError as error:
        raise StoreUnreachable(f"cannot connect to {host}:{port}: {_reason(error)}") from error
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if endpoint.tls is None:
            return Wire(sock)
        if proxy is not None:
            _tunnel(sock, endpoint, proxy, deadline)
        sock.settimeout(timeout_s)
        return Wire(endpoint.tls.wrap_socket(sock, server_hostname=endpoint.host))
    except (OSError, ValueError) as error:
        sock.close()
        raise StoreUnreachable(f"cannot connect to {endpoint.url}: {_reason(error)}") from error
    except BaseException:
        sock.close()
        raise


def _tunnel(sock: socket.socket, endpoint: Endpoint, proxy: Proxy, deadline: Deadline) -> None:
    target = f"{endpoint.host}:{endpoint.port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"host: {target}"]
    if proxy.authorization:
        lines.append(f"proxy-authorization: {proxy.authorization}")
    wire = Wire(sock)
    wire.send([("\r\n".join(lines) + "\r\n\r\n").encode()], deadline)
    status = wire.receive_head(deadline).status
    if status != 200:
        raise BadResponse(f"proxy {proxy.host}:{proxy.port} refuses to connect to {target}: {status}", status=status)


def _readable(sock: socket.socket) -> bool:
    poller = select.poll()
    poller.register(sock, select.POLLIN | select.POLLERR | select.POLLHUP)
    return bool(poller.poll(0))


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    if isinstance(error, TimeoutError):
        return "timed out"
    return str(error.args[-1] if isinstance(error, OSError) and error.args else error)
