"""No gap in the journal's numbers: of a frame without changes LMDB must know the number, and no number counts twice.

A start that misses a number which a later frame calls synced takes it for damage and refuses.
"""

from pathlib import Path

import msgspec
import pytest
import trio

from gatewayfs.meta.check import check
from gatewayfs.meta.env import MetaStore
from gatewayfs.runtime.failpoints import arm
from tests.component.meta.stores import HeldOffload, crashed_copy, make_file, new_store, open_store

replace = msgspec.structs.replace


@pytest.fixture(autouse=True)
def _disarmed():  # type: ignore[no-untyped-def]
    yield
    arm("")


def names(store: MetaStore) -> list[bytes]:
    return sorted(store.require(ino).name for ino in store.children(1))


async def sync_beside_commit(store: MetaStore, offload: HeldOffload) -> None:
    """Leave a marker in the journal that is in no commit: it was appended while one was under way."""
    with store.transaction() as tx:
        tx.put_setting("x", b"1")
        tx.needs_data_sync(str(store.directory / "packs" / "1"))
    async with trio.open_nursery() as nursery:
        offload.hold("commit")
        nursery.start_soon(store.checkpoint)
        await offload.reached("commit")
        before = store.statistics().sequence
        offload.hold("sync_segments")
        nursery.start_soon(store.sync)
        await offload.reached("sync_segments")
        offload.release("commit")
        while store.statistics().applied_sequence < before:
            await trio.lowlevel.checkpoint()
        offload.release("sync_segments")
    assert store.statistics().sequence == before + 1


async def test_a_marker_no_commit_took_leaves_no_gap_for_the_start_after_next(tmp_path: Path) -> None:
    offload = HeldOffload()
    store = new_store(tmp_path / "a", offload=offload)
    await sync_beside_commit(store, offload)
    assert store.statistics().applied_sequence == store.statistics().sequence - 1
    first = open_store(crashed_copy(store, tmp_path / "b"))
    assert first.statistics().replayed == 1
    assert first.statistics().applied_sequence == first.statistics().sequence
    make_file(first, 1, b"acknowledged")
    for boot in ("first boot", "second boot"):
        assert names(open_store(crashed_copy(first, tmp_path / boot), boot=boot)) == [b"acknowledged"]


async def test_a_marker_lmdb_has_no_room_for_keeps_its_segment(tmp_path: Path) -> None:
    offload = HeldOffload()
    store = new_store(tmp_path / "a", offload=offload)
    await sync_beside_commit(store, offload)
    arm("meta.commit.before=full")
    first = open_store(crashed_copy(store, tmp_path / "b"))
    assert first.statistics().applied_sequence == first.statistics().sequence - 1
    make_file(first, 1, b"acknowledged")
    assert names(open_store(crashed_copy(first, tmp_path / "c"))) == [b"acknowledged"]
    await first.checkpoint()
    assert first.statistics().applied_sequence == first.statistics().sequence
    first.close()
    assert open_store(tmp_path / "b").statistics().replayed == 0


async def test_an_orderly_stop_leaves_nothing_to_replay_not_even_a_marker(tmp_path: Path) -> None:
    offload = HeldOffload()
    store = new_store(tmp_path / "a", offload=offload)
    await sync_beside_commit(store, offload)
    store.close()
    assert open_store(tmp_path / "a").statistics().replayed == 0


async def test_a_sync_that_must_wait_for_lmdb_does_not_wait_for_a_marker_for_ever(tmp_path: Path) -> None:
    offload = HeldOffload()
    store = new_store(tmp_path / "a", offload=offload)
    await sync_beside_commit(store, offload)
    store._committer.journal.synced = 0  # as if the fdatasync of the marker had failed
    store._committer.syncing.suspect = True
    with trio.fail_after(10):
        await store.sync()
    assert store.statistics().applied_sequence == store.statistics().sequence
    assert not store._committer.syncing.suspect


async def test_a_start_with_lmdb_full_after_power_loss_drops_what_it_dropped_for_good(tmp_path: Path) -> None:
    store = new_store(tmp_path / "a")
    make_file(store, 1, b"synced")
    await store.sync()
    lost = make_file(store, 1, b"named")
    with store.transaction() as tx:
        tx.put(replace(tx.require(lost), size=5))
        tx.needs_data_sync(str(store.directory / "data" / "1"))
    make_file(store, 1, b"lost")
    arm("meta.commit.before=full")
    second = open_store(crashed_copy(store, tmp_path / "b"), boot="second boot")
    assert (second.statistics().dropped, second.statistics().applied_sequence) == (2, 0)
    with second.transaction() as tx:
        tx.put_setting("x", b"1")
        tx.needs_data_sync(str(second.directory / "data" / "1"))
    make_file(second, 1, b"new")
    for number in range(2):
        # Killed: all of it is there. Power lost, once it was synced: the same.
        for boot in ("second boot", "third boot")[: number + 1]:
            again = open_store(crashed_copy(second, tmp_path / f"{number} {boot}"), boot=boot)
            assert names(again) == [b"named", b"new", b"synced"], (number, boot)
            assert (again.require(lost).size, again.setting("x")) == (0, b"1")
            assert check(again) == []
        await second.sync()
