"""Cold reads over a line with a round trip and a rate, in mock time: how long readers wait, and what is asked for."""

import os
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio
import trio.testing

from gatewayfs.cache.aheadsettings import AheadSettings
from gatewayfs.cache.content import ContentCache
from gatewayfs.cache.downloads import AHEAD_WHILE_DEMANDED, AHEAD_WHILE_LIMITED
from gatewayfs.cache.evicting import Limits
from gatewayfs.cache.extents import Extents
from gatewayfs.cache.fetch import REQUESTS_OF_A_WHOLE
from gatewayfs.cache.readahead import BLOCK_BYTES
from gatewayfs.cache.wholefiles import BucketMovedOn
from gatewayfs.errors import StoreRefused, Unavailable
from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.schema import Directory, Inode, Remote
from gatewayfs.runtime.clock import ManualClock
from gatewayfs.runtime.offload import InlineOffload
from tests.support.fakestore import FakeObjectStore
from tests.support.faultystore import FaultyStore
from tests.support.slowstore import PIECE_BYTES, SlowStore

MIB = 1 << 20
KERNEL = 128 << 10
RTT_S = 0.02
RATE = 125e6
WINDOW = 16 * MIB
BYTES = os.urandom(48 * MIB)


class Rig:
    """A cache over a slow line; inode 2 is ``big``, inode 3 ``other``, both only in the bucket."""

    def __init__(self, directory, big_bytes, limit=None, limits=None):
        self.bucket = FakeObjectStore()
        self.faulty = FaultyStore(self.bucket)
        self.line = SlowStore(self.faulty, rtt_s=RTT_S, rate_bytes_per_s=RATE)
        clock, offload = ManualClock(), InlineOffload()
        self.meta = MetaStore.open(directory, prefix="", clock=clock, offload=offload)
        self.limit = limit
        self.cache = ContentCache(
            directory,
            meta=self.meta,
            store=self.line,
            clock=clock,
            offload=offload,
            background=lambda job: None,
            limits=limits,
            ahead=AheadSettings(WINDOW, 8, lambda: self.limit),
        )
        self.big, self.other = BYTES[:big_bytes], BYTES[-4 * MIB :]
        with self.meta.transaction() as tx:
            tx.put(Inode(1, 0, b"", 0o040755, 0, 0, 0, 1, 1, 1, directory=Directory(complete=True)))
            for ino, name, data in ((2, "big", self.big), (3, "other", self.other)):
                remote = Remote(name, self.bucket.foreign_put(name, data), len(data), 1, 0, 0)
                inode = Inode(ino, 1, name.encode(), 0o100644, 0, 0, len(data), 1, 1, 1, remote=remote)
                tx.put(msgspec.structs.replace(inode, content_revision=0))

    def open(self, ino=2):
        content = self.cache.acquire(self.meta.require(ino))
        content.opens += 1
        return content

    def close(self, content):
        content.opens -= 1
        self.cache.release(content)

    @property
    def status(self):
        return self.cache.statistics()


@asynccontextmanager
async def running(rig):
    """The cache's tasks run, and end before the records go."""
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.cache.run)
        yield rig
        nursery.cancel_scope.cancel()
    rig.meta.abandon()


@pytest.fixture
async def rig(tmp_path):
    async with running(Rig(tmp_path / "cache", 48 * MIB)) as rig:
        yield rig


async def read_in_order(content, data, start=0, end=None):
    for offset in range(start, end or len(data), KERNEL):
        assert await content.read(offset, KERNEL) == data[offset : offset + KERNEL]


async def settled():
    """Everything under way has ended: later than any of it can take."""
    await trio.sleep(10)


@pytest.mark.semantics("cold-read")
async def test_the_first_bytes_of_a_large_file_take_one_request_and_its_round_trip(rig, autojump_clock):
    content = rig.open()
    await content.read(0, 4096)
    assert trio.current_time() <= RTT_S + 2 * PIECE_BYTES / RATE
    assert rig.line.count("fetch") == 1
    rig.close(content)


async def test_the_last_bytes_are_not_behind_all_others(rig, autojump_clock):
    content = rig.open()
    await content.read(len(rig.big) - 4096, 4096)
    assert trio.current_time() <= RTT_S + 2 * BLOCK_BYTES / RATE
    assert rig.line.received_bytes <= BLOCK_BYTES
    rig.close(content)


async def test_a_reader_in_order_gets_the_lines_speed(rig, autojump_clock):
    content = rig.open()
    await read_in_order(content, rig.big)
    # 48 MiB are 0.4 s of this line: the two round trips of the start still show.
    assert trio.current_time() <= len(rig.big) / RATE / 0.85
    assert rig.line.received_bytes == len(rig.big), "nothing twice"
    assert rig.line.count("fetch") <= 36
    rig.close(content)
    assert rig.status.ahead_used_bytes == rig.status.ahead_bytes > len(rig.big) // 2
    assert rig.status.ahead_wasted_bytes == 0


async def test_a_large_file_fetched_whole_gets_the_lines_speed(rig, autojump_clock):
    with rig.cache.using(rig.meta.require(2)) as content:
        await rig.cache.fetch(content, 0, content.size)
        assert trio.current_time() <= len(rig.big) / RATE / 0.9
        assert content.resident
    assert rig.line.received_bytes == len(rig.big), "nothing twice"
    assert rig.line.in_flight_max == REQUESTS_OF_A_WHOLE


async def test_what_an_upload_needs_whole_gets_it_too(rig, autojump_clock):
    await rig.cache.ensure_resident(2)
    assert trio.current_time() <= len(rig.big) / RATE / 0.9
    assert rig.line.received_bytes == len(rig.big)


async def test_a_whole_file_that_fails_says_so_once_and_keeps_what_came(rig, autojump_clock):
    rig.faulty.fail("get", StoreRefused("no", status=400), skip=20, times=1000)
    with rig.cache.using(rig.meta.require(2)) as content:
        with pytest.raises(Unavailable, match="no"):
            await rig.cache.fetch(content, 0, content.size)
        assert not content.resident
    await settled()
    assert rig.line.in_flight == 0


async def test_reads_that_arrive_side_by_side_and_out_of_order_get_it_too(rig, autojump_clock):
    content = rig.open()
    async with trio.open_nursery() as kernel:
        places = trio.Semaphore(6)

        async def one(offset):
            assert await content.read(offset, KERNEL) == rig.big[offset : offset + KERNEL]
            places.release()

        for first in range(0, len(rig.big), 4 * KERNEL):
            for offset in (first + KERNEL, first, first + 3 * KERNEL, first + 2 * KERNEL):
                await places.acquire()
                kernel.start_soon(one, offset)
    # 48 MiB are 0.4 s of this line: the two round trips of the start still show.
    assert trio.current_time() <= len(rig.big) / RATE / 0.85
    assert rig.line.received_bytes == len(rig.big)
    rig.close(content)


async def test_two_readers_of_one_file_share_what_is_fetched(rig, autojump_clock):
    first, second = rig.open(), rig.open()
    async with trio.open_nursery() as readers:
        readers.start_soon(read_in_order, first, rig.big)
        readers.start_soon(read_in_order, second, rig.big)
    assert rig.line.received_bytes == len(rig.big)
    rig.close(first)
    rig.close(second)


async def test_random_readers_fetch_nothing_ahead(rig, autojump_clock):
    content = rig.open()
    for number in range(1, 41):
        offset = (number * 7919 * 4096) % (len(rig.big) - 4096)
        assert await content.read(offset, 4096) == rig.big[offset : offset + 4096]
    assert rig.status.ahead_bytes == 0
    assert rig.line.received_bytes <= 41 * BLOCK_BYTES
    rig.close(content)


async def test_closing_ends_what_is_on_its_way_and_keeps_what_has_arrived(rig, autojump_clock):
    content = rig.open()
    await read_in_order(content, rig.big, end=8 * MIB)
    assert rig.line.in_flight > 1
    rig.close(content)
    await trio.testing.wait_all_tasks_blocked()
    assert rig.line.in_flight == 0
    received = rig.line.received_bytes
    await settled()
    assert rig.line.received_bytes == received
    assert rig.status.ahead_wasted_bytes == received - 8 * MIB
    assert rig.status.live_files == 0
    placement = rig.meta.require(2).placement
    assert sum(placement.extents[1::2]) - sum(placement.extents[0::2]) == received
    again = rig.open()
    before = len(rig.line.begun)
    await read_in_order(again, rig.big, end=8 * MIB)
    here = Extents(placement.extents)
    for _, _, _, start, length in rig.line.begun[before:]:
        assert here.missing(start, start + length) == [(start, start + length)], "what was here is here"
    assert rig.status.damaged == 0
    rig.close(again)


async def test_a_reader_who_jumps_away_takes_the_line_along(rig, autojump_clock):
    content = rig.open()
    await read_in_order(content, rig.big, end=4 * MIB)
    await read_in_order(content, rig.big, start=40 * MIB, end=44 * MIB)
    await settled()
    middle = content.extents.missing(0, 40 * MIB)
    assert middle, "all of the old window came for nobody"
    rig.close(content)


@pytest.mark.semantics("cold-read")
async def test_a_demanded_read_is_not_behind_what_is_fetched_ahead(rig, autojump_clock):
    content, other = rig.open(), rig.open(3)
    await read_in_order(content, rig.big, end=8 * MIB)
    assert rig.line.in_flight > 1
    began = trio.current_time()
    await other.read(MIB, 4096)
    assert [at for at, _, key, *_ in rig.line.begun if key == "other"] == [began], "it waited for a place"
    # The line is shared with those under way, piece by piece; none of them is finished first.
    flows = rig.line.in_flight_max
    assert trio.current_time() - began <= RTT_S + 2 * flows * PIECE_BYTES / RATE
    rig.close(content)
    rig.close(other)


async def test_while_a_demanded_request_waits_hardly_anything_begins_ahead(rig, autojump_clock):
    content, other = rig.open(), rig.open(3)
    content.extents.add(0, 24 * MIB)
    async with trio.open_nursery() as readers:
        readers.start_soon(other.read, 0, 4096)
        await trio.testing.wait_all_tasks_blocked()
        for offset in range(0, 24 * MIB, KERNEL):
            rig.cache._fetcher.follow(content, offset, offset + KERNEL)
        assert rig.status.ahead_requests == AHEAD_WHILE_DEMANDED
    await trio.testing.wait_all_tasks_blocked()
    assert rig.status.ahead_requests > AHEAD_WHILE_DEMANDED, "its first byte has come"
    rig.close(content)
    rig.close(other)


async def test_under_a_bandwidth_limit_one_request_at_a_time_goes_ahead_and_a_small_one(rig, autojump_clock):
    rig.limit = 4 * MIB
    content = rig.open()
    await content.read(0, KERNEL)
    for offset in range(KERNEL, 8 * MIB, KERNEL):
        await content.read(offset, KERNEL)
        assert rig.status.ahead_requests <= AHEAD_WHILE_LIMITED + 1, "one waited for counts as demanded"
    assert max(length for *_, length in rig.line.begun) <= 2 * MIB
    rig.close(content)


async def test_a_limit_below_a_megabyte_in_two_seconds_ends_reading_ahead(rig, autojump_clock):
    rig.limit = 100_000
    content = rig.open()
    await read_in_order(content, rig.big, end=4 * MIB)
    assert rig.status.ahead_bytes == 0
    rig.close(content)


async def test_a_writer_does_not_wait_for_what_is_fetched_ahead(rig, autojump_clock):
    content = rig.open()
    await read_in_order(content, rig.big, end=8 * MIB)
    download = next(download for download in content.intake.downloads if download.begun and download.expected_bytes)
    where = download.end - 4096
    began = trio.current_time()
    await content.write(where, b"new" * 100)
    assert trio.current_time() == began
    expected = bytearray(rig.big)
    expected[where : where + 300] = b"new" * 100
    assert await content.read(0, len(expected)) == bytes(expected)
    rig.close(content)


@pytest.mark.parametrize("size", [0, 5 * MIB, 9 * MIB + 1])
async def test_what_is_cut_off_while_it_is_fetched_never_comes_back(rig, size, autojump_clock):
    content = rig.open()
    await read_in_order(content, rig.big, end=8 * MIB)
    assert content.intake.downloads
    await content.truncate(size)
    await content.truncate(20 * MIB)
    await settled()
    expected = rig.big[:size] + bytes(20 * MIB - size)
    assert await content.read(0, 20 * MIB) == expected
    await content.persist()
    rig.close(content)


async def test_an_object_replaced_while_it_is_read_ahead_is_never_mixed_in(rig, autojump_clock):
    content = rig.open()
    await read_in_order(content, rig.big, end=4 * MIB)
    rig.bucket.foreign_put("big", b"n" * len(rig.big))
    with pytest.raises(BucketMovedOn):
        await read_in_order(content, rig.big, start=4 * MIB)
    rig.close(content)


async def test_bytes_of_a_replaced_object_are_not_fetched_into_the_old_ones(rig, autojump_clock):
    """The record names the new object before the reader of the old one knows."""
    content = rig.open()
    await content.read(0, KERNEL)
    etag = rig.bucket.foreign_put("big", b"n" * len(rig.big))
    with rig.meta.transaction() as tx:
        inode = rig.cache.rebase(tx, tx.require(2))
        tx.put(msgspec.structs.replace(inode, remote=msgspec.structs.replace(inode.remote, etag=etag)))
    with pytest.raises(BucketMovedOn):
        await content.read(20 * MIB, KERNEL)
    rig.close(content)


async def test_an_error_ahead_reaches_nobody_and_the_next_demand_asks_again(rig, autojump_clock):
    content = rig.open()
    await content.read(0, KERNEL)
    rig.faulty.fail("get", StoreRefused("no", status=400), times=3)
    await read_in_order(content, rig.big, start=KERNEL, end=MIB)
    await settled()
    rig.faulty.heal()
    await read_in_order(content, rig.big)
    rig.close(content)


async def test_a_reader_who_gives_up_ends_its_request(rig, autojump_clock):
    rig.line.rtt_s = 1000.0
    content = rig.open()
    with trio.move_on_after(1):
        await content.read(0, KERNEL)
    await trio.testing.wait_all_tasks_blocked()
    assert rig.line.in_flight == 0
    rig.close(content)


async def test_a_window_of_nothing_turns_it_off(rig, autojump_clock):
    rig.cache._fetcher._ahead = AheadSettings(0)
    content = rig.open()
    await read_in_order(content, rig.big, end=8 * MIB)
    assert rig.status.ahead_bytes == 0
    rig.close(content)


async def test_in_a_small_cache_the_window_is_a_part_of_it_and_what_was_read_makes_room(tmp_path, autojump_clock):
    size = 16 * MIB
    async with running(Rig(tmp_path / "cache", 48 * MIB, limits=Limits(size_bytes=size))) as rig:
        content = rig.open()
        for offset in range(0, len(rig.big), KERNEL):
            assert await content.read(offset, KERNEL) == rig.big[offset : offset + KERNEL]
            assert rig.status.used_bytes <= size
        assert rig.line.received_bytes <= len(rig.big) * 1.1, "what was fetched ahead left before it was read"
        assert rig.status.bypassed_bytes == 0
        rig.close(content)
