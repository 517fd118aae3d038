"""HTTP replies over a socket pair, cut into pieces anywhere."""

import itertools
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayfs.errors import BadResponse, StoreUnreachable
from gatewayfs.runtime.offload import thread_clock
from gatewayfs.s3.wire import Deadline, Expect, NoReply, Reply, Wire, parse_head


def receive(pieces: list[bytes], *, method: str = "GET", limit: int = 1 << 20, end: bool = True) -> Reply:
    """What a client makes of these pieces, each sent by itself, then the connection's end."""
    ours, theirs = socket.socketpair()

    def send() -> None:
        for piece in pieces:
            theirs.sendall(piece)
        if end:
            theirs.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        return Wire(ours).receive(method, Expect(limit), Deadline(2, 1, thread_clock))
    finally:
        sender.join()
        ours.close()
        theirs.close()


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:stop] for start, stop in itertools.pairwise(edges) if start < stop]


@given(st.binary(max_size=200), st.lists(st.integers(0, 1000), max_size=6))
def test_a_reply_is_the_same_however_it_is_cut(body: bytes, places: list[int]) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX-Amz-Meta-A: b c\r\n\r\n" % len(body)
    reply = receive(cut(head + body, places))
    assert (reply.status, reply.body, reply.headers["x-amz-meta-a"]) == (200, body, "b c")
    assert reply.keep_alive


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=5), st.lists(st.integers(0, 1000), max_size=6))
def test_a_chunked_body_is_the_same_however_it_is_cut(chunks: list[bytes], places: list[int]) -> None:
    body = b"".join(b"%x;ext=1\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\nTrailer: x\r\n\r\n"
    reply = receive(cut(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body, places))
    assert reply.body == b"".join(chunks)
    assert reply.keep_alive


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
    reply = receive([b"HTTP/1.1 200 OK\r\n\r\n", b"abc", b"def"])
    assert (reply.body, reply.keep_alive) == (b"abcdef", False)


def test_a_body_over_the_limit_is_a_bad_response() -> None:
    with pytest.raises(BadResponse):
        receive([b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n" + b"x" * 11], limit=10)


@pytest.mark.parametrize(
    ("head", "alive"),
    [
        (b"HTTP/1.1 200 OK", True),
        (b"HTTP/1.1 200 OK\r\nConnection: close", False),
        (b"HTTP/1.1 200 OK\r\nConnection: Keep-Alive", True),
        (b"HTTP/1.0 200 OK", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive", True),
    ],
)
def test_keep_alive_follows_version_and_header(head: bytes, alive: bool) -> None:
    assert parse_head(head).keep_alive is alive


def test_headers_are_lower_case_joined_and_utf8() -> None:
    reply = parse_head("HTTP/1.1 200 OK\r\nA: 1\r\na:2 \r\nB: grüße".encode() + b"\r\nC: gr\xfc\xdfe")
    assert dict(reply.headers) == {"a": "1,2", "b": "grüße", "c": "grüße"}


def test_silence_ends_at_its_limit() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(StoreUnreachable, match="silent"):
        Wire(ours).receive("GET", Expect(10), Deadline(10, 0.05, thread_clock))
