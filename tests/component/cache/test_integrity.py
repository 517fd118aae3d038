"""Seals, fences and the scrub: what the disk changes behind everybody's back is found, and never goes further."""

import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayfs.cache import damage as damaging
from gatewayfs.cache.scrub import Scrub
from gatewayfs.cache.scrubmarks import SETTING, Marks, ScrubSettings
from gatewayfs.cache.snapshot import NO_TURN
from gatewayfs.cache.verify import wrong_with
from gatewayfs.errors import CorruptRecord
from gatewayfs.meta.check import check
from gatewayfs.meta.schema import Inode, Remote
from tests.component.cache.test_checking import BYTES, CELL, Checked


class Box(Checked):
    """Reads compare nothing: only seals, fences and the scrub can notice."""

    every = 0

    async def write(self, data, offset=0):
        """As a program does: open, write, close."""
        with self.cache.using(self.inode) as content:
            await content.write(offset, data)
            await content.persist()

    async def scrub(self):
        return await self.cache.integrity.scrub.whole(lambda *_: None)

    def mark_uploaded(self):
        """The bucket has the bytes now."""
        inode = self.inode
        remote = Remote("f", self.store.foreign_put("f", BYTES), inode.size, 1, inode.content_revision, 0)
        with self.meta.transaction() as tx:
            tx.put(msgspec.structs.replace(inode, remote=remote, dirty_since_ns=0))

    @property
    def fenced(self):
        return {each.key: each.size_bytes for each in self.cache.statistics().fenced}


def wrong(box):
    """What ``check`` finds, but for what is the matter with inode numbers that a test chose."""
    return [problem for problem in check(box.meta) if "above the next inode number" not in problem]


@pytest.fixture
def box(tmp_path):
    made = Box(tmp_path / "cache")
    yield made
    assert wrong(made) == []
    made.close()


@pytest.fixture
async def sealed(box):
    """A file of 512 bytes that is only here, and sealed."""
    box.make()
    await box.write(BYTES)
    assert await box.cache.integrity.sealing.seal(2)
    return box


# --------------------------------------------------------------------------- bytes that are only here


@pytest.mark.semantics("damaged-dirty")
@pytest.mark.parametrize("offset", [0, 100, len(BYTES) - 1], ids=["first", "middle", "last"])
async def test_damage_of_the_only_copy_is_fenced_and_never_uploaded(sealed, offset, caplog):
    sealed.flip(offset)
    with pytest.raises(CorruptRecord, match="damaged on the cache disk"):
        await sealed.cache.snapshot(2, CELL)
    cell = offset // CELL * CELL
    assert sealed.fenced == {"f": CELL}
    for again in ("now", "after a crash"):
        with pytest.raises(CorruptRecord):
            await sealed.read(cell, 4)
        assert await sealed.read((cell + CELL) % len(BYTES), CELL) == BYTES[(cell + CELL) % len(BYTES) :][:CELL], again
        with pytest.raises(CorruptRecord):
            await sealed.cache.snapshot(2, CELL)
        sealed.crash()
    assert sum("of f, which are not in the bucket" in record.message for record in caplog.records) == 1


@pytest.mark.semantics("damaged-dirty")
async def test_the_scrub_fences_it_too(sealed):
    sealed.flip(100)
    tally = await sealed.scrub()
    assert (tally.fenced, tally.dropped, tally.checked_bytes) == (1, 0, len(BYTES))
    assert sealed.fenced == {"f": CELL}
    assert (await sealed.scrub()).fenced == 1, "it is still there, and told of once more"
    with pytest.raises(CorruptRecord):
        await sealed.read(96, 4)


@pytest.mark.semantics("damaged-dirty")
async def test_a_fence_ends_where_its_bytes_are_written_anew(sealed):
    sealed.flip(100)
    await sealed.scrub()
    await sealed.write(b"x" * 6, 96)
    with pytest.raises(CorruptRecord):
        await sealed.read(96, CELL)
    assert await sealed.read(96, 6) == b"x" * 6
    await sealed.write(b"y" * 10, 102)
    assert sealed.fenced == {}
    assert await sealed.read() == BYTES[:96] + b"x" * 6 + b"y" * 10 + BYTES[112:]
    await sealed.cache.snapshot(2, CELL)
    sealed.crash()
    assert sealed.fenced == {}


@pytest.mark.parametrize("how", ["cut", "emptied", "removed"])
async def test_a_fence_ends_with_its_bytes(sealed, how):
    sealed.flip(len(BYTES) - 1)
    await sealed.scrub()
    if how == "removed":
        with sealed.meta.transaction() as tx:
            tx.remove(2)
    else:
        with sealed.cache.using(sealed.inode) as content:
            await content.truncate(0 if how == "emptied" else 100)
            await content.persist()
    assert sealed.fenced == {}
    sealed.crash()
    assert sealed.fenced == {}


async def test_a_change_elsewhere_keeps_the_fence(sealed):
    sealed.flip(100)
    await sealed.scrub()
    await sealed.write(b"elsewhere", 300)
    with pytest.raises(CorruptRecord):
        await sealed.cache.snapshot(2, CELL)
    sealed.crash()
    assert sealed.fenced == {"f": CELL}


@pytest.mark.semantics("damaged-dirty")
async def test_the_first_snapshot_is_the_seal(box):
    box.make()
    await box.write(BYTES)
    await box.cache.snapshot(2, CELL)
    box.crash()
    box.flip(7)
    with pytest.raises(CorruptRecord):
        await box.cache.snapshot(2, CELL)


async def test_reads_compare_with_the_seal_where_that_is_wanted(tmp_path, monkeypatch):
    monkeypatch.setattr(Box, "every", 1)
    box = Box(tmp_path / "cache")
    box.make()
    await box.write(BYTES)
    await box.cache.integrity.sealing.seal(2)
    box.crash()
    box.flip(100)
    with pytest.raises(CorruptRecord):
        await box.read(98, 1)
    assert box.fenced == {"f": CELL}
    assert await box.read(0, 96) == BYTES[:96]
    box.close()


async def test_a_changed_file_is_never_compared_with_its_old_seal(sealed):
    await sealed.write(b"changed", 100)
    assert sealed.meta.seal(2) is None
    assert (await sealed.scrub()).fenced == 0
    await sealed.cache.snapshot(2, CELL)
    sealed.crash()
    assert (await sealed.scrub()).checked_bytes == len(BYTES), "the snapshot sealed what is there now"
    assert await sealed.read() == BYTES[:100] + b"changed" + BYTES[107:]


async def test_what_vouches_for_bytes_is_gone_from_the_disk_before_they_change(sealed):
    """Power loss must not keep new bytes and the seal of the old ones."""
    before = sealed.meta.statistics().synced_sequence
    with sealed.cache.using(sealed.inode) as content:
        await content.write(0, b"new")
        assert sealed.meta.statistics().synced_sequence > before


async def test_an_upload_takes_the_seal_away(sealed):
    sealed.mark_uploaded()
    assert sealed.meta.seal(2) is None


async def test_a_damaged_cell_that_the_object_has_too_is_fetched(box):
    """An edit of a large file: most of it is in the bucket, although the file is not."""
    box.make_remote(BYTES)
    await box.read()
    await box.write(b"edit", 200)
    await box.cache.integrity.sealing.seal(2)
    box.flip(100)
    assert (await box.scrub()).dropped == 1
    assert box.fenced == {}
    assert await box.read() == BYTES[:200] + b"edit" + BYTES[204:]
    box.flip(201)
    assert (await box.scrub()).fenced == 1


async def test_nothing_is_sealed_while_somebody_may_write(box):
    box.make()
    await box.write(BYTES)
    with box.cache.using(box.inode) as content:
        content.writers += 1
        assert not await box.cache.integrity.sealing.seal(2)
        content.writers -= 1
    assert await box.cache.integrity.sealing.seal(2)


async def test_a_closed_file_is_sealed_by_itself(box, autojump_clock):
    box.make()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(box.cache.integrity.sealing.run)
        await box.write(BYTES)
        await trio.sleep(9)
        assert box.meta.seal(2) is None
        await trio.sleep(2)
        assert box.meta.seal(2) is not None
        nursery.cancel_scope.cancel()


@pytest.mark.semantics("damaged-dirty")
async def test_a_small_file_that_is_only_here_is_fenced(box):
    box.make()
    await box.write(b"only here")
    box.flip(2)
    assert (await box.scrub()).fenced == 1
    assert box.fenced == {"f": 9}
    for offset, length in ((0, 100), (5, 2)):
        with pytest.raises(CorruptRecord):
            await box.read(offset, length)
    with pytest.raises(CorruptRecord):
        await box.cache.snapshot(2, CELL)
    box.crash()
    assert box.fenced == {"f": 9}
    with box.cache.using(box.inode) as content:
        await content.truncate(0)
        await content.persist()
    await box.write(b"new")
    assert (await box.read(), box.fenced) == (b"new", {})


# --------------------------------------------------------------------------- bytes that the bucket has, too


@pytest.mark.semantics("scrub")
async def test_the_scrub_drops_damaged_clean_cells(box):
    box.make_remote(BYTES)
    await box.read()
    box.flip(3)
    box.flip(len(BYTES) - 1)
    tally = await box.scrub()
    assert (tally.dropped, tally.fenced, tally.checked_bytes) == (2, 0, len(BYTES))
    fetched = box.cache.statistics().fetched_bytes
    assert await box.read() == BYTES
    assert box.cache.statistics().fetched_bytes - fetched == 2 * CELL
    assert (await box.scrub()).dropped == 0


@pytest.mark.semantics("scrub")
async def test_the_scrub_drops_damaged_clean_small_files(box):
    box.make_remote(b"small")
    await box.read()
    box.flip(2)
    assert (await box.scrub()).dropped == 1
    assert wrong_with(box.inode, box.cache.packs, box.cache.folder) == ""
    assert await box.read() == b"small"


async def test_bytes_nobody_vouches_for_are_counted(box):
    box.make_remote(BYTES)
    await box.read(3, 5)
    await box.write(b"x", 300)
    assert (await box.scrub()).unvouched_bytes > 0


@pytest.mark.semantics("scrub")
async def test_the_scrub_touches_nothing_and_opens_nothing(box):
    box.make_remote(BYTES)
    await box.read()
    room, before = box.cache.room, list(box.cache.room.entries.check() or ())
    touched = []
    room.touch = lambda *args: touched.append(args)
    await box.scrub()
    assert (touched, box.cache.statistics().live_files) == ([], 0)
    assert before == list(room.entries.check() or ())


async def test_what_memory_has_right_is_written_again(sealed, monkeypatch):
    honest, lies = damaging.fingerprint_on_disk, [True, True]

    def lying(*args):
        return b"?" * 16 if lies and lies.pop() else honest(*args)

    monkeypatch.setattr("gatewayfs.cache.scrub.fingerprint_on_disk", lying)
    monkeypatch.setattr(damaging, "fingerprint_on_disk", lying)
    tally = await sealed.scrub()
    assert (tally.rewritten, tally.fenced) == (1, 0)
    assert sealed.cache.statistics().rewritten == 1
    assert await sealed.read() == BYTES
    assert (await sealed.scrub()).rewritten == 0


async def test_one_wrong_look_is_no_damage(sealed, monkeypatch):
    honest, lies = damaging.fingerprint_on_disk, [True]
    lying = lambda *args: b"?" * 16 if lies and lies.pop() else honest(*args)  # noqa: E731
    monkeypatch.setattr("gatewayfs.cache.scrub.fingerprint_on_disk", lying)
    tally = await sealed.scrub()
    assert (tally.rewritten, tally.fenced, tally.checked_bytes) == (0, 0, len(BYTES))


# --------------------------------------------------------------------------- the walk


def fill(box, count):
    """Small files 2 to ``count`` + 1, all only here."""
    box.make()
    with box.meta.transaction() as tx:
        for ino in range(2, count + 2):
            data = b"%d " % ino * 8
            placement = box.cache.packs.append(ino, 1, data)
            tx.put(
                Inode(ino, 1, b"n%d" % ino, 0o100644, 0, 0, len(data), 1, 1, 1, dirty_since_ns=1, placement=placement)
            )
            tx.needs_data_sync(str(box.cache.packs.path(placement.pack)))


def scrubber(box, rate=1 << 20):
    cache, parts = box.cache, box.cache.integrity
    files = (box.meta, cache.packs, cache.folder, cache._offload, box.clock)
    settings = ScrubSettings(rate, 3600.0)
    parts.scrub = Scrub(*files, parts.damage, parts.sealing, cache.using, settings, NO_TURN)
    return parts.scrub


@pytest.mark.semantics("scrub")
async def test_it_keeps_to_its_rate(box, autojump_clock):
    fill(box, 500)
    began = trio.current_time()
    await scrubber(box, rate=1000).go_on(1000)
    total = sum(inode.size for inode in box.meta.inodes_after(1, 1000))
    # The headers between the entries are read along.
    assert total / 1000 <= trio.current_time() - began <= 3 * total / 1000


@pytest.mark.semantics("scrub")
async def test_it_goes_on_where_it_was(box, autojump_clock):
    fill(box, 500)
    with trio.move_on_after(120):
        await scrubber(box, rate=100).go_on(100)
    marks = msgspec.json.decode(box.meta.setting(SETTING), type=Marks)
    assert 0 < marks.after < 500
    box.crash()
    await scrubber(box).go_on(1 << 30)
    done = msgspec.json.decode(box.meta.setting(SETTING), type=Marks).now
    assert done.ended_ns
    assert done.started_ns == marks.now.started_ns
    assert 500 <= done.files <= 600, "what was read since the position was recorded is read again, no more"


async def test_it_begins_anew_after_its_interval(box, autojump_clock):
    fill(box, 3)
    scrub = scrubber(box)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scrub.run)
        await trio.sleep(59)
        assert scrub.status()["last_pass"]["ended_ns"] == 0
        await trio.sleep(2)
        first = scrub.status()["last_pass"]["ended_ns"]
        assert first
        await trio.sleep(3500)
        assert scrub.status()["last_pass"]["ended_ns"] == first
        box.clock.advance(3600)
        await trio.sleep(3700)
        assert scrub.status()["last_pass"]["ended_ns"] > first
        nursery.cancel_scope.cancel()


steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 400), st.binary(min_size=1, max_size=180)),
        st.tuples(st.just("truncate"), st.integers(0, 400), st.just(b"")),
        st.tuples(st.sampled_from(["seal", "scrub", "snapshot", "crash"]), st.just(0), st.just(b"")),
    ),
    max_size=25,
)


@settings(max_examples=100, deadline=None)
@given(steps, st.sampled_from([b"", BYTES]))
@pytest.mark.semantics("damaged-dirty")
def test_a_sound_disk_never_raises_an_alarm(tmp_path_factory, program, original):
    async def follow():
        box = Box(tmp_path_factory.mktemp("sound"))
        box.make_remote(original)
        model = bytearray(original)
        for name, offset, data in program:
            if name == "write":
                await box.write(data, offset)
                model.extend(bytes(max(0, offset + len(data) - len(model))))
                model[offset : offset + len(data)] = data
            elif name == "truncate":
                with box.cache.using(box.inode) as content:
                    await content.truncate(offset)
                    await content.persist()
                model = model[:offset] + bytes(max(0, offset - len(model)))
            elif name == "seal":
                await box.cache.integrity.sealing.seal(2)
            elif name == "scrub":
                tally = await box.scrub()
                assert (tally.dropped, tally.fenced, tally.rewritten, tally.unreadable) == (0, 0, 0, 0)
            elif name == "snapshot":
                await box.cache.snapshot(2, CELL)
            else:
                box.crash()
            assert await box.read() == model
            assert wrong(box) == []
        box.close()

    trio.run(follow)


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=101, max_size=600), st.data())
def test_a_flipped_byte_of_a_sealed_file_is_always_found(tmp_path_factory, content, data):
    async def follow():
        box = Box(tmp_path_factory.mktemp("flipped"))
        box.make()
        await box.write(content)
        await box.cache.integrity.sealing.seal(2)
        offset = data.draw(st.integers(0, len(content) - 1))
        box.flip(offset)
        assert (await box.scrub()).fenced == 1
        with pytest.raises(CorruptRecord):
            await box.read(offset, 1)
        box.close()

    trio.run(follow)
