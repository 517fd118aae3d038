"""urllib3's connection, held to our promises: every wait has an end, every answer is whole, and the event loop can end
an exchange from outside by shutting its socket.

urllib3 brings connections, TLS, proxies, IPv6, framing. What it does not have, this file adds at the two places where
bytes pass: ``PlainConnection.send`` and ``_Incoming.readinto``. Both ask the exchange their thread is working on how
long they may wait (a timeout alone ends a silence, never a trickle) and how much may pass now.
"""

import http.client
import io
import socket
import threading
from typing import Any, cast

from urllib3.connection import HTTPConnection, HTTPSConnection

from gatewayfs.errors import BadResponse, StoreUnreachable
from gatewayfs.s3.wire import BUFFER_BYTES, Exchange, Interruption, NoReply, Sink, serving

HEADERS_MAX = 1000
"""2 KiB of user metadata can be 680 headers; http.client refuses answers with more than 100 unless told otherwise."""

# There is no other way to tell it.
http.client._MAXHEADERS = max(HEADERS_MAX, cast("int", http.client._MAXHEADERS))  # type: ignore[attr-defined]


class PlainConnection(HTTPConnection):
    """A connection that can be shut from another thread, but only while it serves that thread's exchange."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.response_class = WholeReply
        self._mutex = threading.Lock()
        self._serves: Exchange | None = None
        self._socket: socket.socket | None = None
        self._spent = False

    def connect(self) -> None:
        super().connect()
        with self._mutex:
            # Kept apart from ``sock``, which http.client forgets once an answer says that it is the last one.
            self._socket, self._spent = self.sock, False
        self._serve()

    def request(self, *args: Any, **options: Any) -> None:
        if self.sock is not None and self._serves is not serving.exchange:
            serving.exchange.reused = True
            self._serve()
        super().request(*args, **options)

    def _serve(self) -> None:
        exchange = serving.exchange
        with self._mutex:
            if self._spent:
                raise NoReply("the connection was shut meanwhile")
            self._serves = exchange
        exchange.interruption.attach(self)

    def shut(self, interruption: Interruption) -> None:
        """End both directions, if it still is this interruption's exchange that the connection serves."""
        with self._mutex:
            if self._serves is None or self._serves.interruption is not interruption or self._socket is None:
                return  # it is somebody else's by now
            self._spent = True
            try:
                # Not SSLSocket.shutdown, which takes the TLS state away from the thread that is reading.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
            except OSError:
                return  # it ended by itself

    def send(self, data: Any) -> None:
        """Send ``data`` (bytes-like), within the exchange's deadline.

        A server that refuses a body may answer and hang up before it has read all of it: BrokenPipeError, which makes
        urllib3 look for that answer.
        """
        if self.sock is None:
            self.connect()
        assert self.sock is not None
        exchange = serving.exchange
        exchange.sent = True
        view = memoryview(data)
        try:
            while view:
                slice_bytes = exchange.may_send(len(view))
                self.sock.settimeout(exchange.deadline.next_wait_s())
                self.sock.sendall(view[:slice_bytes])
                view = view[slice_bytes:]
        except TimeoutError as error:
            raise StoreUnreachable("timed out while sending") from error
        except (OSError, ValueError) as error:
            # ValueError: the socket was shut in the middle of TLS.
            self._spent = True
            raise BrokenPipeError(f"connection lost while sending: {error}") from error


class TlsConnection(PlainConnection, HTTPSConnection):
    """The same over TLS."""


class _Incoming(io.RawIOBase):
    """What http.client reads from: the socket, each wait within the exchange's deadline."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._exchange = serving.exchange
        self._raw = cast("io.RawIOBase", sock.makefile("rb", buffering=0))

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self, BUFFER_BYTES)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        exchange = self._exchange
        room = memoryview(buffer)
        room = room[: exchange.may_receive(len(room))]
        self._sock.settimeout(exchange.deadline.next_wait_s())
        try:
            count = self._raw.readinto(room) or 0
        except TimeoutError as error:
            raise StoreUnreachable("timed out: the store fell silent") from error
        except (OSError, ValueError) as error:
            if exchange.received:
                raise StoreUnreachable(f"connection lost inside the answer: {error}") from error
            raise NoReply(f"connection lost: {error}") from error
        if count:
            exchange.received = True
        exchange.passage.received(count)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _HeadLines:
    """Lines of a reply's head. The connection's end is no end of the headers, as it would be to http.client."""

    def __init__(self, file: io.BufferedReader) -> None:
        self._file = file
        self._first = True

    def readline(self, limit: int) -> bytes:
        line = self._file.readline(limit)
        first, self._first = self._first, False
        if line[-1:] == b"\n" or len(line) >= limit:
            return line
        if not line and not serving.exchange.received:
            raise NoReply("connection closed without an answer")
        if first and not b"HTTP/1.".startswith(line[:7]):
            return line  # http.client says what it thinks of it
        raise StoreUnreachable("connection lost inside the answer's headers")

    def close(self) -> None:
        self._file.close()


class WholeReply(http.client.HTTPResponse):
    """http.client's reply, less trusting: a head that is cut short or contradicts itself is an error."""

    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(cast("socket.socket", _Incoming(sock)), *args, **options)

    def begin(self) -> None:
        file = self.fp
        status = 0
        while status < 200:  # interim answers, of which http.client skips but "continue"
            self.headers = self.msg = cast("http.client.HTTPMessage", None)
            self.fp = cast("io.BufferedReader", _HeadLines(file))
            try:
                super().begin()
            finally:
                if self.fp is not None:
                    self.fp = file
            status = self.status
        self._check_framing()

    @property
    def sized(self) -> bool:
        """The body's length is known from the head."""
        return not self.chunked and self.length is not None

    def pour(self, sink: Sink) -> int:
        """Give a sized body to ``sink``, from the socket straight into one buffer; returns its length.

        urllib3 would join and copy every piece several times, half of what a large download cost.
        """
        length = left = self.length or 0
        room = serving.room()
        while left:
            count = self.readinto(room)
            if not count:
                raise StoreUnreachable("connection lost inside the answer")
            left -= count
            sink(room[:count])
        return length

    def _check_framing(self) -> None:
        if self.headers.defects:
            raise BadResponse("broken header in the answer", status=self.status)
        encoding = self.headers.get("transfer-encoding", "")
        if encoding and not self.chunked:
            raise BadResponse(f"unknown transfer encoding {encoding[:40]!r}", status=self.status)
        length = self.headers.get("content-length", "0")
        if not self.chunked and not (length.isascii() and length.isdigit() and len(length) < 19):
            raise BadResponse(f"broken Content-Length {length[:40]!r}", status=self.status)
