"""The first byte of a large cold file over a line of 20 ms, in mock time: three round trips from a cold mount."""

import os

import pytest
import trio
from trio.testing import MockClock

from gatewayfs.types import ROOT_INO
from tests.sim.world import World
from tests.support.slowstore import SlowStore

RTT_S, RATE_BYTES_PER_S = 0.02, 125e6
SIZE_BYTES = 8 << 20


@pytest.mark.semantics("cold-read")
def test_the_first_byte_of_a_large_file_takes_three_round_trips_on_a_cold_mount(tmp_path):
    world = World(tmp_path / "cache")
    line = world.link = SlowStore(world.bucket, rtt_s=RTT_S, rate_bytes_per_s=RATE_BYTES_PER_S)
    world.bucket.foreign_put("big", b"1" + bytes(SIZE_BYTES - 1))
    took_s = []

    async def main():
        async with trio.open_nursery() as nursery:
            await world.start(nursery)
            began_s = trio.current_time()
            inode = await world.fs.names.lookup(ROOT_INO, b"big")
            handle = await world.fs.files.open(inode.ino, os.O_RDONLY)
            assert await world.fs.files.read(handle, 0, 1) == b"1"
            took_s.append(trio.current_time() - began_s)
            await world.fs.files.release(handle)
            await world.crash()
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert [operation for _, operation, *_ in line.begun] == ["list_page", "head", "fetch"]
    assert took_s[0] <= 3 * RTT_S + 0.001, "the directory's names, the file's attributes, its first bytes"
    assert sum(length for *_, length in line.begun) <= 1 << 20, "not the whole file"
