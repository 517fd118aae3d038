"""HTTP replies from a server that sends them cut into pieces anywhere."""

import contextlib
import itertools
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayfs.errors import BadResponse, StoreUnreachable
from gatewayfs.runtime.offload import thread_clock
from gatewayfs.s3.http import ConnectionPool, Endpoint, HttpRequest
from gatewayfs.s3.wire import Deadline, Expect, Interruption, NoReply, Reply

SILENCE_S = 0.3


def receive(pieces: list[bytes], *, method: str = "GET", limit: int = 1 << 20, end: bool = True) -> Reply:
    """What a client makes of these pieces, each sent by itself, then (with ``end``) the connection's end."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with listener.accept()[0] as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                request = b""
                while b"\r\n\r\n" not in request:
                    request += connection.recv(65536)
                # A client that has read enough of a bad answer hangs up before all of it was sent.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    for piece in pieces:
                        connection.sendall(piece)
                if not end:
                    over.wait(10)

        server = threading.Thread(target=serve)
        server.start()
        pool = ConnectionPool(Endpoint("127.0.0.1", listener.getsockname()[1], "/"), 1, 1.0)
        try:
            deadline = Deadline(2, SILENCE_S, thread_clock)
            return pool.exchange(HttpRequest(method, "/key", {"host": "h"}), Expect(limit), deadline, Interruption())
        finally:
            over.set()
            server.join()
            pool.close()


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:stop] for start, stop in itertools.pairwise(edges) if start < stop]


@given(st.binary(max_size=200), st.lists(st.integers(0, 1000), max_size=6))
def test_a_reply_is_the_same_however_it_is_cut(body: bytes, places: list[int]) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX-Amz-Meta-A: b c\r\n\r\n" % len(body)
    reply = receive(cut(head + body, places))
    assert (reply.status, reply.body, reply.headers["x-amz-meta-a"]) == (200, body, "b c")


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=5), st.lists(st.integers(0, 1000), max_size=6))
def test_a_chunked_body_is_the_same_however_it_is_cut(chunks: list[bytes], places: list[int]) -> None:
    body = b"".join(b"%x;ext=1\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\nTrailer: x\r\n\r\n"
    reply = receive(cut(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body, places))
    assert reply.body == b"".join(chunks)


@given(st.binary(max_size=300), st.lists(st.integers(0, 1000), max_size=4))
def test_garbage_is_one_of_two_errors(garbage: bytes, places: list[int]) -> None:
    if garbage.startswith(b"HTTP/1."):
        return
    with pytest.raises((BadResponse, StoreUnreachable)):
        receive(cut(garbage, places))


def test_every_truncation_of_a_reply_is_unreachable() -> None:
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nA: b\r\n\r\n0123456789"
    assert receive([whole]).body == b"0123456789"
    for length in range(len(whole)):
        with pytest.raises(StoreUnreachable):
            receive([whole[:length]])


def test_only_an_end_before_the_first_byte_counts_as_no_reply() -> None:
    with pytest.raises(NoReply):
        receive([b""])
    with pytest.raises(StoreUnreachable) as caught:
        receive([b"HTTP/1.1 2"])
    assert not isinstance(caught.value, NoReply)


def test_interim_replies_are_skipped() -> None:
    reply = receive(
        [b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nA: b\r\n\r\nHTTP/1.1 204 No\r\n\r\n"], end=False
    )
    assert reply.status == 204


def test_head_has_no_body_whatever_its_length_says() -> None:
    reply = receive([b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"], method="HEAD", end=False)
    assert (reply.body, reply.headers["content-length"]) == (b"", "1000")


def test_a_body_without_length_ends_with_the_connection() -> None:
    assert receive([b"HTTP/1.1 200 OK\r\n\r\n", b"abc", b"def"]).body == b"abcdef"


def test_a_body_over_the_limit_is_a_bad_response() -> None:
    with pytest.raises(BadResponse):
        receive([b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n" + b"x" * 11], limit=10)


def test_headers_are_lower_case_joined_and_utf8() -> None:
    reply = receive(["HTTP/1.1 204 No\r\nA: 1\r\na:2 \r\nB: grüße".encode() + b"\r\nC: gr\xfc\xdfe\r\n\r\n"])
    assert dict(reply.headers) == {"a": "1,2", "b": "grüße", "c": "grüße"}


def test_as_many_headers_as_metadata_can_be() -> None:
    lines = "".join(f"x-amz-meta-{number}: \r\n" for number in range(680))
    reply = receive([f"HTTP/1.1 204 No\r\n{lines}\r\n".encode()])
    assert len(reply.headers) == 680


def test_a_compressed_object_stays_compressed() -> None:
    """It is the object's bytes that are wanted, whatever Content-Encoding says that they are."""
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n"
    assert receive([head + b"\x1f\x8b\x08\x00"]).body == b"\x1f\x8b\x08\x00"


def test_silence_ends_at_its_limit() -> None:
    for pieces in ([], [b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n12"]):
        with pytest.raises(StoreUnreachable, match="silent"):
            receive(pieces, end=False)
