"""Fetching a file for an operator: a thin line is no failure while bytes come."""

import pytest

from gatewayfs.cache.wholefiles import BucketMovedOn
from gatewayfs.daemon.keeping import Keeping
from gatewayfs.errors import Unavailable
from tests.component.cache.test_reading_ahead import MIB, RATE, Rig, running


class Known:
    """Stands for ``Refresh`` where every attribute is known."""

    async def ensure_attributes(self, ino):
        pass


def keeping(rig):
    return Keeping(rig.cache, rig.meta, None, Known(), lambda ino: None)


async def test_a_large_file_on_a_line_too_thin_for_the_deadline_of_a_read_is_fetched(tmp_path, autojump_clock):
    async with running(Rig(tmp_path / "cache", 48 * MIB)) as rig:
        rig.line.rate_bytes_per_s = RATE / 250  # 48 MiB take a hundred seconds, three deadlines
        assert await keeping(rig).fetch(2) == 48 * MIB
        with rig.cache.using(rig.meta.require(2)) as content:
            assert content.resident
        assert rig.line.received_bytes == 48 * MIB, "nothing twice"


async def test_where_no_byte_comes_the_deadline_is_the_end(tmp_path, autojump_clock):
    async with running(Rig(tmp_path / "cache", 48 * MIB)) as rig:
        rig.line.rtt_s = 1000.0
        with pytest.raises(Unavailable, match="within 30 s"):
            await keeping(rig).fetch(2)


async def test_what_others_replaced_meanwhile_is_not_asked_for_again_and_again(tmp_path, autojump_clock):
    async with running(Rig(tmp_path / "cache", 48 * MIB)) as rig:
        rig.bucket.foreign_put("big", b"new")
        with pytest.raises(BucketMovedOn):
            await keeping(rig).fetch(2)
        assert rig.line.count("fetch") <= 4
