"""A cache disk that gives back other bytes than it was given: clean ones are fetched again, others are refused."""

import pytest

from gatewayfs.cache.content import ContentCache
from gatewayfs.cache.integrity import IntegritySettings
from gatewayfs.cache.verify import wrong_with
from gatewayfs.errors import CorruptRecord
from gatewayfs.meta.schema import PLACED_IN_PACK
from tests.component.cache.test_content import SMALL, Cache

CELL = 16
BYTES = bytes(range(256)) * 2


class Checked(Cache):
    """A cache with cells of 16 bytes, one in ``every`` compared."""

    every = 1

    def open(self):
        super().open()
        self.cache.close()
        self.cache = ContentCache(
            self.directory,
            meta=self.meta,
            store=self.store,
            clock=self.clock,
            offload=self.cache._offload,
            background=self.jobs.append,
            small_file_bytes=SMALL,
            cell_bytes=CELL,
            integrity=IntegritySettings(self.every),
        )

    async def read(self, offset=0, length=1 << 20):
        with self.cache.using(self.inode) as content:
            return await content.read(offset, length)

    def flip(self, offset):
        """One bit of a byte of the file, behind everybody's back."""
        placement = self.inode.placement
        packed = placement.kind == PLACED_IN_PACK
        path = self.cache.packs.path(placement.pack) if packed else self.cache.folder.path(2, placement.pack)
        with path.open("r+b") as file:
            file.seek(offset + (placement.offset if packed else 0))
            (byte,) = file.read(1)
            file.seek(-1, 1)
            file.write(bytes([byte ^ 4]))

    @property
    def damaged(self):
        return self.cache.statistics().damaged


@pytest.fixture
def box(tmp_path):
    made = Checked(tmp_path / "cache")
    yield made
    made.close()


@pytest.mark.semantics("damaged-cache")
@pytest.mark.parametrize("offset", [0, 100, len(BYTES) - 1], ids=["first", "middle", "last"])
async def test_a_damaged_clean_cell_is_fetched_again(box, offset, caplog):
    box.make_remote(BYTES)
    assert await box.read() == BYTES
    box.flip(offset)
    fetched = box.cache.statistics().fetched_bytes
    assert await box.read(offset // CELL * CELL, 4) == BYTES[offset // CELL * CELL :][:4], "the rest of its cell counts"
    assert await box.read() == BYTES
    assert box.damaged == 1
    assert box.cache.statistics().fetched_bytes - fetched <= CELL
    assert sum("the cache disk damaged bytes of f" in record.message for record in caplog.records) == 1
    box.crash()
    assert await box.read() == BYTES
    assert box.damaged == 0, "what was fetched again is in its place"


async def test_two_damaged_cells_go_and_nothing_between_them(box):
    box.make_remote(BYTES)
    await box.read()
    box.flip(3)
    box.flip(100)
    fetched = box.cache.statistics().fetched_bytes
    assert await box.read() == BYTES
    assert box.damaged == 2
    assert box.cache.statistics().fetched_bytes - fetched == 2 * CELL


async def test_a_cell_is_compared_once_while_the_file_is_in_use(box):
    box.make_remote(BYTES)
    await box.read()
    with box.cache.using(box.inode) as content:
        for _ in range(3):
            await content.read(0, len(BYTES))
    assert box.cache.statistics().compared_cells == len(BYTES) // CELL


@pytest.mark.parametrize(("every", "compared"), [(0, 0), (16, 2)])
async def test_fewer_cells_are_compared_where_that_is_wanted(tmp_path, monkeypatch, every, compared):
    monkeypatch.setattr(Checked, "every", every)
    box = Checked(tmp_path / "cache")
    box.make_remote(BYTES)
    await box.read()
    await box.read()
    assert box.cache.statistics().compared_cells == compared
    box.close()


async def test_changed_bytes_are_nobodys_damage(box):
    box.make_remote(BYTES)
    await box.read()
    with box.cache.using(box.inode) as content:
        await content.write(20, b"new")
        await content.persist()
    box.crash()
    assert await box.read(16, 8) == BYTES[16:20] + b"new" + BYTES[23:24]
    assert box.damaged == 0


@pytest.mark.semantics("damaged-cache")
async def test_a_damaged_small_file_is_fetched_again(box):
    box.make_remote(b"small")
    assert await box.read() == b"small"
    box.flip(2)
    assert "damaged" in wrong_with(box.inode, box.cache.packs, box.cache.folder)
    assert await box.read() == b"small"
    assert box.damaged == 1
    assert wrong_with(box.inode, box.cache.packs, box.cache.folder) == ""


@pytest.mark.semantics("damaged-cache")
async def test_a_damaged_small_file_that_is_only_here_is_refused_and_kept(box):
    box.make()
    with box.cache.using(box.inode) as content:
        await content.write(0, b"only here")
        await content.persist()
    placement = box.inode.placement
    box.flip(2)
    with pytest.raises(CorruptRecord):
        await box.read()
    with pytest.raises(CorruptRecord):
        await box.cache.snapshot(2, CELL)
    assert box.inode.placement == placement
    assert box.damaged == 0
