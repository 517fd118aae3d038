"""BadServer: an HTTP(S) server on loopback that answers what it is told, well formed or not, and remembers what it got.

    with BadServer() as server:
        server.answer(html(200, "<html>please log in"))   # the next request gets this
        server.otherwise(s3_error(503, "SlowDown"))       # every further one that
        ...
        server.requests[0].head                           # what came

An answer is a function that is given the connection and may do anything with it; the ones below cover what proxies,
portals, dying servers and broken lines do. The connection is closed after an answer that returns False.
"""

import socket
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

WAIT_S_MAX = 30.0


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came: request line and headers, and the body (cut short if the client was)."""

    head: str
    body: bytes

    @property
    def method(self) -> str:
        return self.head.partition(" ")[0]

    @property
    def target(self) -> str:
        return self.head.split(" ")[1]

    def header(self, name: str) -> str:
        for line in self.head.splitlines()[1:]:
            field, _, value = line.partition(":")
            if field.lower() == name:
                return value.strip()
        return ""


class Connection:
    """The server's end of one connection."""

    def __init__(self, sock: socket.socket, stopping: threading.Event) -> None:
        self.sock = sock
        self.stopping = stopping

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def hang(self) -> None:
        """Say nothing more until the client goes away or the server stops."""
        self.sock.settimeout(0.02)
        while not self.stopping.is_set():
            try:
                if not self.sock.recv(65536):
                    return
            except TimeoutError:
                continue

    def drip(self, data: bytes, pause_s: float) -> None:
        """Send byte by byte, with a pause after each."""
        for byte in data:
            self.send(bytes([byte]))
            if self.stopping.wait(pause_s):
                return

    def reset(self) -> None:
        """Break the connection with a TCP reset instead of an end."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


Answer = Callable[[Connection], bool]


class BadServer:
    """Serves answers in the order they were given, then the one for otherwise. ``accepted`` counts connections."""

    def __init__(self, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.tls = tls
        self.requests: list[Received] = []
        self.accepted = 0
        self.read_bodies = True
        self._answers: list[Answer] = []
        self._otherwise: Answer = hang
        self._stopping = threading.Event()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family)
        self.port: int = self._listener.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def serving(self) -> int:
        """Connections this end has not closed."""
        return sum(1 for sock in self._sockets if sock.fileno() >= 0)

    def answer(self, *answers: Answer) -> None:
        self._answers += answers

    def otherwise(self, answer: Answer) -> None:
        self._otherwise = answer

    def __enter__(self) -> "BadServer":
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopping.set()
        for sock in (self._listener, *self._sockets):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # ended by itself
        for thread in self._threads:
            thread.join(WAIT_S_MAX)
            assert not thread.is_alive()
        for sock in (self._listener, *self._sockets):
            sock.close()

    def _start(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            self._sockets.append(sock)
            self._start(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        try:
            if self.tls is not None:
                sock = self.tls.wrap_socket(sock, server_side=True)
                self._sockets.append(sock)
            connection = Connection(sock, self._stopping)
            while (received := self._receive(sock)) is not None:
                self.requests.append(received)
                answer = self._answers.pop(0) if self._answers else self._otherwise
                if not answer(connection):
                    break
        except OSError:
            return  # the client went away
        finally:
            sock.close()

    def _receive(self, sock: socket.socket) -> Received | None:
        data = b""
        while b"\r\n\r\n" not in data:
            more = sock.recv(65536)
            if not more:
                return None
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        received = Received(head.decode("latin-1"), b"")
        length = int(received.header("content-length") or 0)
        while self.read_bodies and len(body) < length:
            more = sock.recv(65536)
            if not more:
                break
            body += more
        return Received(received.head, body)


# --------------------------------------------------------------------------- answers


def reply(status: int, body: bytes = b"", **headers: str) -> Answer:
    """A well-formed answer that keeps the connection; header names with "_" for "-"."""
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    data = ("\r\n".join(lines) + "\r\n\r\n").encode() + body
    return raw(data, keep=True)


def raw(data: bytes, *, keep: bool = False) -> Answer:
    """Exactly these bytes."""

    def answer(connection: Connection) -> bool:
        connection.send(data)
        return keep

    return answer


def html(status: int, text: str = "<!DOCTYPE html><html><body>Please log in</body></html>") -> Answer:
    """A web page: what captive portals, proxies and load balancers say."""
    return reply(status, text.encode(), content_type="text/html; charset=utf-8")


def s3_error(status: int, code: str, message: str = "", extra: str = "") -> Answer:
    """An S3 error document."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message>{extra}</Error>"
    return reply(status, body.encode(), content_type="application/xml", x_amz_request_id="1")


def truncated(status: int, body: bytes, announced: int, **headers: str) -> Answer:
    """Announces more than it sends, then closes."""
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {announced}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return raw(("\r\n".join(lines) + "\r\n\r\n").encode() + body)


def hang(connection: Connection) -> bool:
    """No answer at all."""
    connection.hang()
    return False


def close(connection: Connection) -> bool:
    """An ordinary end instead of an answer."""
    return False


def reset(connection: Connection) -> bool:
    """A TCP reset instead of an answer."""
    connection.reset()
    return False


def dripping(data: bytes, pause_s: float) -> Answer:
    """A byte at a time: never silent for long, never done."""

    def answer(connection: Connection) -> bool:
        connection.drip(data, pause_s)
        return False

    return answer
