"""A cache disk that gives errors: the bucket serves what it has, and only what was nowhere else is lost."""

import os

import pytest
import trio

from gatewayfs.cache.losses import Losses
from gatewayfs.errors import CacheDiskFailed, CacheDiskHangs, LocalError
from gatewayfs.runtime.disk import OpenFile
from gatewayfs.runtime.diskstate import Condition, DiskState
from tests.component.cache.test_evicting import SMALL, Box

LARGE = 3 << 20


@pytest.fixture
def box(tmp_path):
    made = Box(tmp_path / "cache")
    made.data = {2: os.urandom(LARGE), 3: os.urandom(SMALL - 1)}
    yield made
    made.close()


@pytest.fixture
def health(box):
    return box.cache._fetcher._health


def unreadable(path):
    """A descriptor whose reads fail, as those of bad sectors do."""
    return OpenFile(os.open(path, os.O_WRONLY))


async def here_and_there(box, ino):
    """A file that is here and in the bucket."""
    await box.write(ino, box.data[ino])
    box.uploaded(ino)


@pytest.mark.semantics("failing-disk")
async def test_what_cannot_be_read_here_is_read_from_the_bucket(box, health):
    await here_and_there(box, 2)
    await here_and_there(box, 3)
    with box.cache.using(box.meta.require(2)) as content:
        content.sparse.open()
        content.sparse.file = unreadable(content.sparse.path)
        assert await content.read(1000, LARGE) == box.data[2][1000:]
    pack = box.meta.require(3).placement.pack
    box.cache.packs._files[pack] = unreadable(box.cache.packs.path(pack))
    assert await box.read(3) == box.data[3]
    assert health.state.read_errors_s, "its health suffers"
    assert box.cache.statistics().bypassed_bytes == LARGE - 1000 + SMALL - 1


async def test_what_is_only_here_and_cannot_be_read_is_an_error(box):
    await box.write(2, box.data[2])
    with box.cache.using(box.meta.require(2)) as content:
        content.sparse.open()
        content.sparse.file = unreadable(content.sparse.path)
        with pytest.raises(CacheDiskFailed):
            await content.read(0, 100)


async def test_a_disk_that_is_not_well_is_given_nothing_and_asked_for_nothing_but_its_page_cache(box, health):
    await here_and_there(box, 2)
    box.remote(4, b"absent" * SMALL)
    health.state = DiskState(Condition.UNSTABLE, why="slow")
    assert await box.read(4) == b"absent" * SMALL
    assert box.cache.is_resident(box.meta.require(4)) is False
    with box.cache.using(box.meta.require(2)) as content:
        content.sparse.file = None
        assert await content.read(0, 100) == box.data[2][:100]
        assert content.sparse.file is None, "open(2) may have to wait for the disk"
    health.state = DiskState()
    assert await box.read(4) == b"absent" * SMALL
    assert box.cache.is_resident(box.meta.require(4))


async def test_a_reader_whose_disk_turns_out_to_hang_goes_on_with_the_bucket(box, health, autojump_clock):
    await here_and_there(box, 2)

    class Stuck:
        async def run(self, *_args, **_options):
            await trio.sleep_forever()

    box.cache._parts.disk.reading = Stuck()
    started_s = trio.current_time()
    with box.cache.using(box.meta.require(2)) as content:
        async with trio.open_nursery() as nursery:

            async def hang():
                await trio.sleep(2)
                for _ in range(3):
                    health.read_failed("no answer")

            nursery.start_soon(hang)
            fd = content.sparse.open().fd
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            assert await content.read(0, LARGE) == box.data[2]
    assert trio.current_time() - started_s >= 2
    assert not health.fit


async def test_a_disk_that_hangs_is_not_touched_by_the_loop(box, health):
    box.meta.watch_disk(health, Losses(box.cache, box.meta).judge)
    health.state = DiskState(Condition.HANGING, why="it does not answer")
    before = box.meta.statistics().sequence
    with pytest.raises(CacheDiskHangs):
        box.put(9)
    assert (box.meta.inode(9), box.meta.statistics().sequence) == (None, before)
    health.state = DiskState()
    box.put(9)


def lose(box, path):
    """The kernel could not write back a cache file."""
    box.meta._committer.syncing.note_lost_data([str(path)])


async def test_lost_clean_bytes_are_no_loss(box, health):
    box.meta.watch_disk(health, Losses(box.cache, box.meta).judge)
    await here_and_there(box, 2)
    await here_and_there(box, 3)
    with box.cache.using(box.meta.require(2)) as content:
        lose(box, content.sparse.path)
        assert content.stale, "who has it open goes on with the bucket's bytes"
    lose(box, box.cache.packs.path(box.meta.require(3).placement.pack))
    assert box.meta.require(2).placement is None
    await box.meta.sync()
    assert box.meta.unkept() == ""
    assert await box.read(2) == box.data[2]


@pytest.mark.parametrize("ino", [2, 3])
async def test_lost_bytes_that_are_nowhere_else_end_all_promises(box, health, ino):
    box.meta.watch_disk(health, Losses(box.cache, box.meta).judge)
    await box.write(ino, box.data[ino])
    placement = box.meta.require(ino).placement
    packed = ino == 3
    lose(box, box.cache.packs.path(placement.pack) if packed else box.cache.folder.path(ino, placement.pack))
    with pytest.raises(LocalError):
        await box.meta.sync()
    assert "lost bytes of 1 files" in health.unkept()
