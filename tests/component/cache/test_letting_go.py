"""In which order the cache lets go of bytes and changes them: the record that allows it is on the disk first."""

import os

import msgspec
import pytest

from gatewayfs.cache import evicting, live
from gatewayfs.cache.limits import Limits
from tests.component.cache.test_evicting import CHUNK, SMALL, Box
from tests.component.cache.test_pins import PinBox

LARGE = 2 * CHUNK


@pytest.fixture
def box(tmp_path):
    made = Box(tmp_path / "cache")
    made.data = {}
    yield made
    made.close()


@pytest.fixture
def unsynced(box, monkeypatch):
    """What of the journal power loss could still take back, at each failpoint that was passed: ``unsynced[name]``."""
    seen = {}

    def look(name):
        status = box.meta.statistics()
        seen.setdefault(name, []).append(status.sequence - status.synced_sequence)

    monkeypatch.setattr(evicting, "failpoint", look)
    monkeypatch.setattr(live, "failpoint", look)
    return seen


async def uploaded(box, ino, size):
    box.data[ino] = os.urandom(size)
    await box.write(ino, box.data[ino])
    box.uploaded(ino)


@pytest.mark.semantics("durable-power-loss")
async def test_evicted_bytes_go_when_the_record_without_them_is_on_the_disk(box, unsynced):
    await uploaded(box, 2, LARGE)
    assert await box.evictor.evict(box.room.keys_of(2))
    assert unsynced["cache.evict.recorded"] != [0], "the test looks at nothing"
    assert unsynced["cache.evict.synced"] == unsynced["cache.evict.after"] == [0]


@pytest.mark.semantics("durable-power-loss")
async def test_the_first_byte_changes_in_place_when_the_mark_is_on_the_disk(box, unsynced):
    await uploaded(box, 2, LARGE)
    unsynced.clear()
    with box.cache.using(box.meta.require(2)) as content:
        await content.write(5, b"!")
    assert unsynced["cache.mark_dirty.after"] != [0], "the test looks at nothing"
    assert unsynced["cache.write.after"] == [0]


@pytest.mark.semantics("durable-power-loss")
async def test_a_tail_is_cut_off_when_the_record_without_it_is_on_the_disk(box, unsynced):
    await uploaded(box, 2, LARGE)
    unsynced.clear()
    with box.cache.using(box.meta.require(2)) as content:
        await content.truncate(LARGE - 5)
    assert unsynced["cache.truncate.before"] == [0]


@pytest.mark.semantics("cache-dirty-stays")
@pytest.mark.parametrize("size", [SMALL // 2, LARGE])
@pytest.mark.parametrize("standing", ["changed", "no object", "metadata pending", "unlinked"])
async def test_what_must_stay_does_not_go_when_somebody_asks_for_it(box, standing, size):
    await uploaded(box, 2, size)
    inode = box.meta.require(2)
    changes = {
        "changed": {"content_revision": inode.content_revision + 1, "dirty_since_ns": 5},
        "no object": {"remote": None, "dirty_since_ns": 5},
        "metadata pending": {"dirty_since_ns": 5},
        "unlinked": {"parent": 0, "name": b""},
    }
    keys = box.room.keys_of(2)
    with box.meta.transaction() as tx:
        tx.put(msgspec.structs.replace(inode, **changes[standing]))
    assert await box.evictor.evict(keys) == []
    assert box.cache.is_resident(box.meta.require(2))
    assert await box.read(2) == box.data[2]


async def test_what_an_upload_needs_is_not_evicted_behind_its_back(box):
    await uploaded(box, 2, LARGE)
    with box.cache.using(box.meta.require(2)) as content:
        content.needed += 1
        assert await box.evictor.evict(box.room.keys_of(2)) == []
        content.needed -= 1
        assert len(await box.evictor.evict(box.room.keys_of(2))) == 2


async def test_a_large_file_below_a_pin_stays_and_its_unpinning_is_kept(tmp_path):
    box = PinBox(tmp_path)
    box.evictor.limits = Limits(64 << 20)
    box.room.pinned_bytes_max = 64 << 20
    await box.clean(2, size=LARGE)
    # Moved below by its directory's record alone, as a renamed tree is: the books have not heard.
    keys = box.room.keys_of(2)
    assert len(keys) == 2
    box.pin(2)
    assert await box.evictor.evict(keys) == []
    box.cache.pins.remove("f2")
    box.crash()
    assert box.cache.pins.paths == []
    await box.cache.take_stock(box.meta.inodes_after)
    assert len(await box.evictor.evict(keys)) == 2
    box.close()


async def test_unpinning_a_directory_ends_the_pins_below_it_and_no_others(tmp_path):
    box = PinBox(tmp_path)
    await box.clean(2, parent=50)
    await box.clean(3, name=b"directory.txt")
    box.pin(2)
    box.pin(3)
    assert box.cache.pins.paths == ["dir/f2", "directory.txt"]
    assert [pin.path for pin in box.cache.pins.remove("dir")] == ["f2"]
    assert box.cache.pins.paths == ["directory.txt"]
    assert await box.evicts(2)
    assert not await box.evicts(3)
    box.close()


async def test_a_pin_goes_with_its_file_and_not_to_what_takes_its_old_name(tmp_path):
    box = PinBox(tmp_path)
    await box.clean(2)
    await box.clean(3)
    box.pin(2)
    with box.meta.transaction() as tx:
        tx.put(msgspec.structs.replace(box.meta.require(3), name=b"f2"))
        tx.put(msgspec.structs.replace(box.meta.require(2), name=b"f3"))
    assert box.cache.pins.paths == ["f3"]
    assert not await box.evicts(2)
    assert await box.evicts(3)
    box.close()
