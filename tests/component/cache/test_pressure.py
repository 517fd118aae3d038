"""Writers are slowed, then refused, and never anything is lost: over real records, with a clock that jumps."""

import math
import os

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from gatewayfs.cache.limits import Limits
from gatewayfs.cache.pressure import DELAY_S_MAX, RATE_MIN_BYTES_PER_S, SOFT, delay_s
from gatewayfs.errors import NoSpace
from tests.component.cache.test_evicting import Box

LIMIT = 4 << 20
PIECE = 128 << 10


@given(st.integers(0, 100), st.integers(0, 100), st.integers(1, 1 << 20), st.floats(0, 1e9))
def test_delays_grow_with_what_is_dirty_and_shrink_with_the_rate_of_the_uploads(low, high, length, rate):
    low, high = sorted((low, high))
    assert 0 <= delay_s(low, 100, length, rate) <= delay_s(high, 100, length, rate)
    assert delay_s(low, 100, length, rate) >= delay_s(low, 100, length, 2 * rate)
    assert (delay_s(low, 100, length, rate) == 0) == (low / 100 <= SOFT)
    assert delay_s(100, 100, length, rate) > length / max(rate, RATE_MIN_BYTES_PER_S), "below the rate at the limit"
    assert delay_s(high, math.inf, length, rate) == 0


@pytest.fixture
def box(tmp_path):
    made = Box(tmp_path / "cache", limits=Limits(size_bytes=8 << 20, dirty_bytes_max=LIMIT))
    made.data = {}
    yield made
    made.close()


async def write(box, content, offset, data):
    await box.cache.pressure.admit(content, offset, len(data))
    await content.write(offset, data)


async def fill(box, content):
    """Write until it is refused; returns how much was taken and how long each piece took."""
    took = []
    for offset in range(0, 2 * LIMIT, PIECE):
        started = trio.current_time()
        try:
            await write(box, content, offset, os.urandom(PIECE))
        except NoSpace as problem:
            return offset, took, str(problem)
        took.append(trio.current_time() - started)
    raise AssertionError("never refused")


@pytest.mark.semantics("cache-writers-slowed")
async def test_writers_are_slowed_then_refused_with_the_reason_and_go_on_when_there_is_room(box, autojump_clock):
    box.put(2, dirty_since_ns=1)
    hurried = set()
    box.cache.pressure.hurry = hurried.update
    content = box.cache.acquire(box.meta.require(2))
    content.writers += 1
    written, took, reason = await fill(box, content)
    assert written == LIMIT
    assert "cache.dirty_max" in reason
    assert not any(took[: len(took) // 2])
    assert sorted(took) == took
    assert 0 < took[-1] < DELAY_S_MAX
    assert hurried == {2}, "its upload is asked for early"
    statistics = box.cache.statistics()
    assert (statistics.refused, statistics.refusing) == (1, reason)
    await write(box, content, 0, os.urandom(PIECE))  # what is dirty already may be overwritten
    await content.persist()
    content.writers -= 1
    box.cache.release(content)
    box.data[2] = b"x" * written
    box.uploaded(2)
    box.put(3, dirty_since_ns=1)
    with box.cache.using(box.meta.require(3)) as other:
        await write(box, other, 0, os.urandom(PIECE))
        await other.persist()
    assert box.cache.statistics().refusing == ""


async def test_a_write_at_the_limit_waits_for_an_upload_that_gets_done(box, autojump_clock):
    await box.write(2, os.urandom(LIMIT))
    box.data[2] = b"x" * LIMIT
    box.put(3, dirty_since_ns=1)

    async def upload():
        await trio.sleep(2)
        box.uploaded(2)

    with box.cache.using(box.meta.require(3)) as content:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(upload)
            await write(box, content, 0, os.urandom(PIECE))
        assert trio.current_time() >= 2
        await content.persist()


async def test_many_writers_are_paced_together(box, autojump_clock):
    await box.write(2, os.urandom(LIMIT * 3 // 4))
    for ino in range(3, 7):
        box.put(ino, dirty_since_ns=1)
    contents = [box.cache.acquire(box.meta.require(ino)) for ino in range(3, 7)]
    started = trio.current_time()
    async with trio.open_nursery() as nursery:
        for content in contents:
            nursery.start_soon(box.cache.pressure.admit, content, 0, PIECE)
    together = trio.current_time() - started
    started = trio.current_time()
    for content in contents:
        await box.cache.pressure.admit(content, 0, PIECE)
    assert together == pytest.approx(trio.current_time() - started, rel=0.2)
    for content in contents:
        box.cache.release(content)


@pytest.mark.parametrize("short_of", ["cache.size", "cache.min_free"])
async def test_a_write_that_does_not_fit_below_the_watermark_has_clean_bytes_evicted(
    tmp_path, autojump_clock, short_of
):
    floor = 1 << 20 if short_of == "cache.min_free" else 0
    box = Box(tmp_path / "cache", limits=Limits(size_bytes=8 << 20, free_bytes_min=floor))
    clean = int(7.5 * (1 << 20)) if short_of == "cache.size" else LIMIT
    box.data = {2: os.urandom(clean)}
    await box.write(2, box.data[2])
    box.uploaded(2)
    room = box.cache.room
    if floor:
        disk = room.used_bytes + int(1.2 * floor)
        box.cache.evictor._free_bytes = lambda: disk - room.used_bytes
    box.put(3, dirty_since_ns=1)
    async with trio.open_nursery() as nursery:
        await nursery.start(box.cache.run)
        with box.cache.using(box.meta.require(3)) as content:
            await write(box, content, 0, os.urandom(768 << 10))
            await content.persist()
        nursery.cancel_scope.cancel()
    assert box.cache.statistics().evicted_bytes > 0
    assert await box.read(2) == box.data[2]
    box.close()
