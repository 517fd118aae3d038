"""Kept connections, dead ones, interrupted ones; deadlines and limits on real sockets."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from gatewayfs.errors import StoreUnreachable
from gatewayfs.runtime.offload import Offload, thread_clock
from gatewayfs.s3.client import HttpObjectStore
from gatewayfs.s3.http import ConnectionPool, Endpoint, HttpRequest
from gatewayfs.s3.store import Condition, FileRange, InlineBody, ObjectStore, Part
from gatewayfs.s3.transport import Timeouts
from gatewayfs.s3.wire import Deadline, Expect, Interruption
from gatewayfs.types import ETag, ObjectKey
from tests.component.s3.conftest import client_of
from tests.support import badserver
from tests.support.badserver import BadServer, Connection, reply

KEY = ObjectKey("key")
OBJECT = reply(200, b"", ETag='"e"', Last_Modified="Mon, 23 Nov 2026 14:42:28 GMT")
WRITTEN = reply(200, b"", ETag='"e"')
BODY = InlineBody(b"data")


async def until(condition: Callable[[], object], within_s: float = 5.0) -> None:
    """Wait for a condition that a thread brings about."""
    with trio.fail_after(within_s):
        while not condition():
            await trio.sleep(0.005)


async def test_an_ipv6_address_is_reached_and_named_in_brackets() -> None:
    with BadServer(host="::1") as server:
        server.otherwise(OBJECT)
        store = client_of(server.port, host="::1")
        assert (await store.head(KEY)).etag == "e"
        store.close()
    assert server.requests[0].header("host") == f"[::1]:{server.port}"


async def test_one_connection_serves_many_requests(server: BadServer, store: HttpObjectStore) -> None:
    server.otherwise(OBJECT)
    for _ in range(10):
        await store.head(KEY)
    assert (server.accepted, len(server.requests)) == (1, 10)


async def test_a_connection_the_server_closed_while_idle_is_not_used(server: BadServer, store: HttpObjectStore) -> None:
    def and_close(connection: Connection) -> bool:
        OBJECT(connection)
        return False

    server.answer(and_close)
    server.otherwise(OBJECT)
    await store.head(KEY)
    await until(lambda: not server.serving)
    # A conditional write, which would fail rather than be sent again.
    await store.put(KEY, BODY, {}, condition=Condition(absent=True))
    assert (server.accepted, len(server.requests)) == (2, 2)


@pytest.mark.parametrize("death", [badserver.close, badserver.reset], ids=["close", "reset"])
async def test_a_repeatable_request_on_a_dead_connection_is_sent_once_more(
    server: BadServer, store: HttpObjectStore, death: badserver.Answer
) -> None:
    """The server hangs up just as the request arrives: nobody is to blame, and nobody needs to hear of it."""
    server.answer(OBJECT, death, OBJECT)
    await store.head(KEY)
    await store.head(KEY)
    assert (server.accepted, len(server.requests)) == (2, 3)


async def test_a_conditional_write_on_a_dead_connection_is_not_sent_again(
    server: BadServer, store: HttpObjectStore
) -> None:
    """The first one may have arrived, and would make the second one look like somebody else's conflict."""
    server.answer(OBJECT, badserver.close, WRITTEN)
    await store.head(KEY)
    with pytest.raises(StoreUnreachable):
        await store.put(KEY, BODY, {}, condition=Condition(absent=True))
    assert len(server.requests) == 2


async def test_nothing_is_sent_twice_over_a_fresh_connection(server: BadServer, store: HttpObjectStore) -> None:
    server.otherwise(badserver.close)
    with pytest.raises(StoreUnreachable):
        await store.head(KEY)
    assert len(server.requests) == 1


async def test_completing_an_upload_is_never_sent_again(server: BadServer, store: HttpObjectStore) -> None:
    server.answer(OBJECT, badserver.close)
    await store.head(KEY)
    with pytest.raises(StoreUnreachable):
        await store.complete_multipart(KEY, "id", [Part(1, ETag("e"))])
    assert len(server.requests) == 2


async def test_an_answer_before_the_body_was_read_is_heard(
    server: BadServer, store: HttpObjectStore, tmp_path: Path
) -> None:
    """A server that refuses a large body answers and hangs up; its reason is worth more than "broken pipe"."""
    path = tmp_path / "big"
    path.write_bytes(b"\0" * (1 << 20))
    server.read_bodies = False
    server.otherwise(badserver.s3_error(400, "EntityTooLarge"))
    with pytest.raises(Exception, match="EntityTooLarge"):
        await store.put(KEY, FileRange(str(path), 0, 1 << 20), {})


@pytest.mark.parametrize("name", ["get", "put", "fetch"])
async def test_cancelling_ends_the_request_at_once_and_its_thread(server: BadServer, tmp_path: Path, name: str) -> None:
    offload = Offload(8)
    store = client_of(server.port, timeouts=Timeouts(), offload=offload)
    path = tmp_path / "cached"
    path.write_bytes(b"#" * 10)
    operations = {
        "get": lambda: store.get(KEY, 0, 10),
        "put": lambda: store.put(KEY, BODY, {}),
        "fetch": lambda: store.fetch(KEY, 0, 10, str(path), 0),
    }
    server.otherwise(badserver.hang)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(operations[name])
            await until(lambda: server.requests)
            nursery.cancel_scope.cancel()
    assert offload.busy == 0
    assert path.read_bytes() == b"#" * 10
    store.close()


async def test_a_cancelled_fetch_never_writes_later(server: BadServer, tmp_path: Path) -> None:
    """The file may be somebody else's a moment after: when the caller is gone, so is the writer."""
    offload = Offload(8)
    store = client_of(server.port, timeouts=Timeouts(), offload=offload)
    path = tmp_path / "cached"
    path.write_bytes(b"#" * 600_000)
    go_on = threading.Event()
    head = (
        b'HTTP/1.1 206 P\r\nETag: "e"\r\nLast-Modified: Mon, 23 Nov 2026 14:42:28 GMT\r\n'
        b"Content-Range: bytes 0-599999/600000\r\nContent-Length: 600000\r\n\r\n"
    )

    def in_two_halves(connection: Connection) -> bool:
        connection.send(head + b"x" * 300_000)
        go_on.wait(10)
        connection.send(b"y" * 300_000)
        return False

    server.otherwise(in_two_halves)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: store.fetch(KEY, 0, 600_000, str(path), 0))
        await until(lambda: path.read_bytes().startswith(b"x" * 200_000))
        nursery.cancel_scope.cancel()
    path.write_bytes(b"mine")
    go_on.set()
    await until(lambda: offload.busy == 0)
    assert path.read_bytes() == b"mine"
    store.close()


async def test_a_cancelled_request_does_not_spoil_the_next(server: BadServer, store: HttpObjectStore) -> None:
    server.answer(OBJECT, badserver.hang)
    server.otherwise(OBJECT)
    await store.head(KEY)
    with trio.move_on_after(0.05):
        await store.head(KEY)
    for _ in range(3):
        assert (await store.head(KEY)).etag == "e"


async def test_an_interruption_that_comes_late_hits_nobody_else(server: BadServer) -> None:
    server.otherwise(OBJECT)
    pool = ConnectionPool(Endpoint("127.0.0.1", server.port, "/"), 4, 1.0)
    request = HttpRequest("HEAD", "/key", {"host": "h"})
    first, second = Interruption(), Interruption()
    for interruption in (first, second):
        deadline = Deadline(5, 5, thread_clock)
        await Offload(1).run(pool.exchange, request, Expect(0), deadline, interruption)
        assert first.interrupt()
    assert server.accepted == 1
    pool.close()


async def test_an_interruption_that_comes_early_sends_nothing(server: BadServer) -> None:
    pool = ConnectionPool(Endpoint("127.0.0.1", server.port, "/"), 4, 1.0)
    interruption = Interruption()
    assert interruption.interrupt()
    with pytest.raises(StoreUnreachable, match="interrupted"):
        pool.exchange(HttpRequest("HEAD", "/key", {}), Expect(0), Deadline(5, 5, thread_clock), interruption)
    assert server.requests == []


async def test_requests_beyond_the_thread_limit_wait_their_turn(server: BadServer, store: HttpObjectStore) -> None:
    server.otherwise(OBJECT)
    async with trio.open_nursery() as nursery:
        for _ in range(40):
            nursery.start_soon(store.head, KEY)
    assert len(server.requests) == 40
    assert server.accepted <= 8


async def test_the_client_is_an_object_store(store: HttpObjectStore) -> None:
    protocol: ObjectStore = store
    assert protocol.bucket == "bucket"
