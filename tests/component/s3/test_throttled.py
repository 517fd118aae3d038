"""Bandwidth limits on real sockets, counted by a link in front of a server, not by ourselves."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count, pairwise

import pytest
import trio

from gatewayfs.runtime.clock import SystemClock
from gatewayfs.runtime.offload import Offload
from gatewayfs.runtime.throttle import Throttle
from gatewayfs.s3.boto import StoreOptions, resolve
from gatewayfs.s3.client import HttpObjectStore
from gatewayfs.s3.store import FileRange, InlineBody
from gatewayfs.types import ObjectKey
from tests.component.s3.conftest import QUICK, client_of
from tests.support.badserver import BadServer, reply
from tests.support.link import Link, Traffic
from tests.support.s3server import Bucket

WRITTEN = reply(200, b"", ETag='"e"')
UP_BYTES_PER_S = 1_000_000
DOWN_BYTES_PER_S = 5_000_000
RUN_S = 13.0
WINDOW_S = 10.0


@asynccontextmanager
async def through(link: Link, bucket: Bucket, throttle: Throttle) -> AsyncIterator[HttpObjectStore]:
    connection = resolve(bucket.name, StoreOptions(endpoint_url=link.url, addressing="path"))
    store = HttpObjectStore(connection, Offload(32), SystemClock(), throttle=throttle)
    yield store
    store.close()


def means(samples: list[tuple[float, int]], window_s: float) -> list[float]:
    """Bytes per second over every window that begins and ends at a sample."""
    found = []
    for start_s, start in samples:
        end = next(((at_s, value) for at_s, value in samples if at_s >= start_s + window_s), None)
        if end is not None:
            found.append((end[1] - start) / (end[0] - start_s))
    return found


@pytest.mark.slow
@pytest.mark.semantics("bandwidth")
async def test_both_limits_hold_at_once_over_any_ten_seconds_with_small_files_and_large_ones(
    bucket: Bucket, tmp_path: object
) -> None:
    """8 streams of small files and two of large ones up, as much down, as the link in front of the server counts.

    Downloads have the larger limit because the link's buffers, unlike a wire, take whatever the server sends: what a
    fetch of 1 MiB has not paid for before it began (0.2 s worth is) counts here before it is read.
    """
    blob = bytes(3 << 20)
    bucket.put("large", blob)
    bucket.put("small", blob[:30_000])
    path = f"{tmp_path}/file"
    with open(path, "wb") as file:
        file.write(blob)
    throttle, numbers = Throttle(32), count()

    async def put(store: HttpObjectStore, body: InlineBody | FileRange) -> None:
        while True:
            await store.put(ObjectKey(f"up/{next(numbers) % 50}"), body, {"file-mtime": "1ns"})

    async def get(store: HttpObjectStore, key: str, length: int) -> None:
        while True:
            await store.get(ObjectKey(key), 0, length)

    async def fetch(store: HttpObjectStore) -> None:
        while True:
            await store.fetch(ObjectKey("large"), 0, 1 << 20, path, 0)

    samples: list[tuple[float, Traffic]] = []
    with Link(bucket.endpoint_url) as link:
        async with through(link, bucket, throttle) as store, trio.open_nursery() as nursery:
            throttle.upload.set_limit(UP_BYTES_PER_S)
            throttle.download.set_limit(DOWN_BYTES_PER_S)
            for _ in range(8):
                nursery.start_soon(put, store, InlineBody(blob[:20_000]))
                nursery.start_soon(get, store, "small", 30_000)
            for _ in range(2):
                nursery.start_soon(put, store, FileRange(path, 0, 3 << 20, None))
                nursery.start_soon(fetch, store)
            end_s = time.monotonic() + RUN_S
            while time.monotonic() < end_s:
                samples.append((time.monotonic(), link.traffic))
                await trio.sleep(0.05)
            nursery.cancel_scope.cancel()
    up = means([(at_s, traffic.up_bytes) for at_s, traffic in samples], WINDOW_S)
    down = means([(at_s, traffic.down_bytes) for at_s, traffic in samples], WINDOW_S)
    print(f"up {min(up):.0f} to {max(up):.0f}, down {min(down):.0f} to {max(down):.0f}, {len(up)} windows")
    assert 0.95 * UP_BYTES_PER_S <= min(up) <= max(up) <= 1.05 * UP_BYTES_PER_S
    assert 0.95 * DOWN_BYTES_PER_S <= min(down) <= max(down) <= 1.05 * DOWN_BYTES_PER_S


async def test_a_low_limit_runs_into_no_deadline(server: BadServer, tmp_path: object) -> None:
    """3 s of sending and as much of receiving, with deadlines under a second."""
    throttle = Throttle(8)
    throttle.upload.set_limit(64_000)
    throttle.download.set_limit(64_000)
    body = bytes(200_000)
    store = client_of(server.port, QUICK, throttle=throttle)
    server.answer(
        WRITTEN,
        reply(
            206,
            body,
            ETag='"e"',
            Content_Range=f"bytes 0-{len(body) - 1}/{len(body)}",
            Last_Modified="Mon, 23 Nov 2026 14:42:28 GMT",
        ),
    )
    began = time.monotonic()
    await store.put(ObjectKey("key"), InlineBody(body), {})
    sent = time.monotonic()
    assert await store.get(ObjectKey("key"), 0, len(body))
    got = time.monotonic()
    store.close()
    assert sent - began == pytest.approx(200_000 / 64_000, rel=0.15)
    assert got - sent == pytest.approx(200_000 / 64_000, rel=0.15)


@pytest.mark.semantics("bandwidth")
async def test_names_and_attributes_never_wait_while_bodies_do(server: BadServer) -> None:
    """30 uploads of 100 MB and 30 downloads at 64 KB/s: more than there are threads."""
    throttle = Throttle(16)
    throttle.upload.set_limit(64_000)
    throttle.download.set_limit(64_000)
    store = client_of(server.port, QUICK, offload=Offload(16), throttle=throttle)
    server.otherwise(reply(200, b"", ETag='"e"', Last_Modified="Mon, 23 Nov 2026 14:42:28 GMT"))
    body = InlineBody(bytes(10_000_000))

    async def put(number: int) -> None:
        await store.put(ObjectKey(f"{number}"), body, {})

    async def get(number: int) -> None:
        await store.get(ObjectKey(f"{number}"), 0, 1 << 20)

    async with trio.open_nursery() as nursery:
        for number in range(30):
            nursery.start_soon(put, number)
            nursery.start_soon(get, number)
        await trio.sleep(0.5)
        for _ in range(20):
            with trio.fail_after(1.0):
                await store.head(ObjectKey("x"))
        nursery.cancel_scope.cancel()
    store.close()


async def test_a_withdrawn_body_lets_go_within_a_second(server: BadServer) -> None:
    throttle = Throttle(8)
    throttle.upload.set_limit(6_400)
    throttle.upload.note(10_000_000, 10_000_000)
    store = client_of(server.port, QUICK, throttle=throttle)
    server.otherwise(WRITTEN)
    offload_began = time.monotonic()
    with trio.move_on_after(0.3):
        await store.put(ObjectKey("key"), InlineBody(bytes(5_000_000)), {})
    assert time.monotonic() - offload_began < 1.3
    throttle.upload.set_limit(None)
    with trio.fail_after(1.0):
        await store.put(ObjectKey("key"), InlineBody(bytes(5_000_000)), {})
    store.close()


async def test_a_changed_limit_counts_within_a_second_for_a_body_under_way(server: BadServer) -> None:
    throttle = Throttle(8)
    throttle.upload.set_limit(20_000)
    store = client_of(server.port, QUICK, throttle=throttle)
    server.otherwise(WRITTEN)
    with Link(server.url) as link:
        store = client_of(link.port, QUICK, throttle=throttle)
        seen: list[float] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.put, ObjectKey("key"), InlineBody(bytes(20_000_000)), {})
            for limit in (20_000, 2_000_000, 200_000):
                throttle.upload.set_limit(limit)
                await trio.sleep(1.0)
                before = (time.monotonic(), link.traffic.up_bytes)
                await trio.sleep(1.5)
                after = (time.monotonic(), link.traffic.up_bytes)
                seen.append((after[1] - before[1]) / (after[0] - before[0]) / limit)
            nursery.cancel_scope.cancel()
        store.close()
    assert seen == pytest.approx([1.0, 1.0, 1.0], abs=0.25)


def test_the_means_are_of_whole_windows() -> None:
    samples = [(float(second), second * 100) for second in range(21)]
    assert means(samples, 10.0) == [100.0] * 11
    assert all(later[0] > earlier[0] for earlier, later in pairwise(samples))
