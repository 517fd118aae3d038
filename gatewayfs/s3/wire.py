"""HTTP/1.1 as an S3 client needs it, on a connected socket: send one request, read one reply.

Why not a library: requests are short and many, and the interpreter lock they hold is the lock FUSE calls wait for.
Against a trivial local server one small GET costs 0.2 ms of CPU through urllib3, 0.14 ms through http.client, 0.03 ms
here. And every wait needs a deadline of its own, which neither offers: their timeouts end a silence, never a trickle.

What is read is bounded (head, body) and checked (framing, length): a reply is complete or it is an error.

    StoreUnreachable   the connection broke, fell silent, or ended inside a reply
    BadResponse        what came is not HTTP, or longer than the caller can have asked for
"""

import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from gatewayfs.errors import BadResponse, StoreUnreachable
from gatewayfs.runtime.throttle import UNTHROTTLED, Passage

HEAD_BYTES_MAX = 64 * 1024
ERROR_BODY_BYTES_MAX = 64 * 1024
RECEIVE_BYTES = 256 * 1024
"""Room for one recv: measured throughput is flat from here on."""

SEND_BYTES = 1 << 20
"""Bodies leave in slices of this size, so that the silence timeout restarts with each."""

Sink = Callable[[memoryview], None]
"""Takes the next bytes of a body; the view is only valid during the call."""


class Deadline:
    """When to give up: after ``idle_s`` of silence, and ``total_s`` from now altogether, by the clock ``monotonic``.

    ``held_up_s`` is added to the total: time that a bandwidth limit took, which is nobody's fault.
    """

    __slots__ = ("_at", "_idle_s", "_monotonic", "held_up_s")

    def __init__(self, total_s: float, idle_s: float, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._at = monotonic() + total_s
        self._idle_s = idle_s
        self.held_up_s = 0.0

    def next_wait_s(self) -> float:
        """Return how long the next wait may take; raises StoreUnreachable when none may."""
        left = self._at + self.held_up_s - self._monotonic()
        if left <= 0:
            raise StoreUnreachable("timed out: the store did not finish in time")
        return min(left, self._idle_s)


class NoReply(StoreUnreachable):
    """The connection ended before the first byte of a reply: typical of one that idled too long in the pool."""


@dataclass(slots=True)
class Reply:
    """Status line, headers (lower-case names, repeated ones joined with commas) and body of one answer.

    ``body`` is empty when a sink took it; ``body_bytes`` counts it either way.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    body_bytes: int = 0
    keep_alive: bool = False


@dataclass(frozen=True, slots=True)
class Expect:
    """How to take a reply's body.

    ``body_bytes_max`` bounds a success's body in memory. With ``sink_for``, a reply's head is shown to it first, and
    the sink it returns, if any, gets the body instead.
    """

    body_bytes_max: int
    sink_for: Callable[[Reply], Sink | None] | None = None


class Wire:
    """One connection's reading and writing side."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.passage: Passage = UNTHROTTLED
        self._buffer = b""
        self._at = 0  # the buffer's first byte nobody has taken yet

    def close(self) -> None:
        self.sock.close()

    # ----------------------------------------------------------------------- sending

    def send(self, chunks: Iterable[bytes | memoryview], deadline: Deadline) -> None:
        """Send ``chunks`` one after the other."""
        try:
            for chunk in chunks:
                view = memoryview(chunk)
                while view:
                    slice_bytes = self.passage.may_send(min(len(view), SEND_BYTES))
                    deadline.held_up_s = self.passage.waited_s
                    self.sock.settimeout(deadline.next_wait_s())
                    self.sock.sendall(view[:slice_bytes])
                    view = view[slice_bytes:]
        except TimeoutError as error:
            raise StoreUnreachable("timed out while sending") from error
        except (OSError, ValueError) as error:
            # ValueError: the socket was shut by an interrupt in the middle of TLS.
            raise NoReply(f"connection lost while sending: {error}") from error

    # ----------------------------------------------------------------------- receiving

    def receive(self, method: str, expect: Expect, deadline: Deadline) -> Reply:
        """Read the reply to a ``method`` request, interim (1xx) replies skipped."""
        reply = self.receive_head(deadline)
        sink = expect.sink_for(reply) if expect.sink_for is not None else None
        kept = bytearray()
        limit = expect.body_bytes_max if reply.status < 300 else ERROR_BODY_BYTES_MAX
        for piece in self._body(method, reply, deadline):
            reply.body_bytes += len(piece)
            if sink is not None:
                sink(piece)
            elif reply.body_bytes > limit:
                raise BadResponse(f"answer longer than {limit} bytes", status=reply.status)
            else:
                kept += piece
        reply.body = bytes(kept)
        return reply

    def receive_head(self, deadline: Deadline) -> Reply:
        """Read up to where the next final reply's body begins."""
        while True:
            head = self._until(b"\r\n\r\n", deadline, start=b"HTTP/1.")
            if head is None:
                raise NoReply("connection closed without an answer")
            reply = parse_head(head)
            if reply.status >= 200:
                return reply

    def _body(self, method: str, reply: Reply, deadline: Deadline) -> Iterator[memoryview]:
        if method == "HEAD" or reply.status in (204, 304):
            return iter(())
        encoding = reply.headers.get("transfer-encoding", "").lower()
        if encoding == "chunked":
            return self._chunked(deadline)
        if encoding:
            raise BadResponse(f"unknown transfer encoding {encoding[:40]!r}", status=reply.status)
        length = reply.headers.get("content-length")
        if length is None:
            reply.keep_alive = False
            return self._until_closed(deadline)
        return self._exactly(_parse_length(length), deadline)

    def _exactly(self, length: int, deadline: Deadline) -> Iterator[memoryview]:
        while length:
            piece = self._some(length, deadline)
            if not piece:
                raise StoreUnreachable(f"connection lost with {length} bytes of the answer missing")
            length -= len(piece)
            yield piece

    def _until_closed(self, deadline: Deadline) -> Iterator[memoryview]:
        while piece := self._some(RECEIVE_BYTES, deadline):
            yield piece

    def _chunked(self, deadline: Deadline) -> Iterator[memoryview]:
        while True:
            line = self._line(deadline)
            try:
                size = int(line.partition(b";")[0], 16)
            except ValueError as error:
                raise BadResponse("broken chunk in the answer") from error
            if size < 0:
                raise BadResponse("broken chunk in the answer")
            if size == 0:
                while self._line(deadline):  # trailers
                    pass
                return
            yield from self._exactly(size, deadline)
            if self._line(deadline):
                raise BadResponse("broken chunk in the answer")

    def _line(self, deadline: Deadline) -> bytes:
        line = self._until(b"\r\n", deadline)
        if line is None:
            raise StoreUnreachable("connection lost inside the answer")
        return line

    def _until(self, end: bytes, deadline: Deadline, start: bytes = b"") -> bytes | None:
        """Return the bytes before the next ``end`` and step over it; None when the connection ended before a byte."""
        while (found := self._buffer.find(end, self._at)) < 0:
            self._buffer = self._buffer[self._at :]
            self._at = 0
            if len(self._buffer) > HEAD_BYTES_MAX:
                raise BadResponse("answer's headers are too long")
            if not start.startswith(self._buffer[: len(start)]):
                raise BadResponse("answer is not HTTP")
            more = self._receive(deadline)
            if not more and self._buffer:
                raise StoreUnreachable("connection lost inside the answer's headers")
            if not more:
                return None
            self._buffer += more
        taken = self._buffer[self._at : found]
        self._at = found + len(end)
        return taken

    def _some(self, at_most: int, deadline: Deadline) -> memoryview:
        """Return up to ``at_most`` bytes, none at the connection's end. The view lives until the next call."""
        if self._at == len(self._buffer):
            self._buffer = self._receive(deadline)
            self._at = 0
        piece = memoryview(self._buffer)[self._at : self._at + at_most]
        self._at += len(piece)
        return piece

    def _receive(self, deadline: Deadline) -> bytes:
        room_bytes = self.passage.may_receive(RECEIVE_BYTES)
        deadline.held_up_s = self.passage.waited_s
        self.sock.settimeout(deadline.next_wait_s())
        try:
            data = self.sock.recv(room_bytes)
        except TimeoutError as error:
            raise StoreUnreachable("timed out: the store fell silent") from error
        except (OSError, ValueError) as error:
            if self._at < len(self._buffer):
                raise StoreUnreachable(f"connection lost inside the answer: {error}") from error
            raise NoReply(f"connection lost: {error}") from error
        self.passage.received(len(data))
        return data


def parse_head(head: bytes) -> Reply:
    """Return the reply that status line and headers announce. Raises BadResponse."""
    lines = head.split(b"\r\n")
    version, _, rest = lines[0].partition(b" ")
    code = rest[:3]
    if not version.startswith(b"HTTP/1.") or not code.isdigit() or len(code) < 3:
        raise BadResponse("answer is not HTTP")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if not colon or not name or name[:1] in b" \t":
            raise BadResponse("broken header in the answer", status=int(code))
        key = name.decode("latin-1").lower()
        text = _header_text(value.strip(b" \t"))
        headers[key] = f"{headers[key]},{text}" if key in headers else text
    connection = headers.get("connection", "").lower()
    alive = "close" not in connection if version == b"HTTP/1.1" else "keep-alive" in connection
    return Reply(int(code), headers, keep_alive=alive)


def _header_text(value: bytes) -> str:
    """Most stores send metadata as it was sent to them, which is UTF-8; anything else is at least kept readable."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _parse_length(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise BadResponse(f"broken Content-Length {text[:40]!r}")
    return int(text)
