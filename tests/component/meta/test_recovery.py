"""After the LMDB environment is deleted every dirty file comes back; and the log that makes it possible stays small."""

import shutil
from pathlib import Path

import msgspec
import pytest

from gatewayfs.errors import CorruptRecord, UserError
from gatewayfs.meta import codec, recovery_log
from gatewayfs.meta.check import check
from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.recovery import read_recovery, rebuild
from gatewayfs.meta.schema import Doomed, Parked, Placement, UploadState
from gatewayfs.runtime.failpoints import arm
from tests.component.meta.stores import (
    crashed_copy,
    file_inode,
    make_directory,
    make_file,
    new_store,
    open_store,
)

replace = msgspec.structs.replace


@pytest.fixture(autouse=True)
def _disarmed():  # type: ignore[no-untyped-def]
    yield
    arm("")


def lose_environment(store: MetaStore, to: Path) -> Path:
    copy = crashed_copy(store, to)
    shutil.rmtree(copy / "meta")
    return copy


def set_clean(store: MetaStore, ino: int) -> None:
    with store.transaction() as tx:
        tx.put(replace(tx.require(ino), dirty_since_ns=0))


@pytest.mark.parametrize("committed", ["all", "half", "nothing"])
async def test_every_dirty_file_comes_back_with_path_and_place(tmp_path: Path, committed: str) -> None:
    store = new_store(tmp_path / "a")
    with store.transaction() as tx:
        tx.put_setting("bucket", b"name")
    # A directory that came from a listing and was never dirty itself, and one made here.
    listed = make_directory(store, 1, b"listed", source="p/listed/")
    below = make_directory(store, listed, b"below", source="p/listed/below/")
    if committed != "nothing":
        await store.checkpoint()
    made = make_directory(store, below, b"made", dirty=3)
    placement = Placement(1, 7, 4096, 5, 99)
    with store.transaction() as tx:
        first = tx.new_ino()
        tx.put(replace(file_inode(first, made, b"first", dirty=5, size=5), placement=placement, foreign={"a": "b"}))
    clean = make_file(store, listed, b"clean", key="p/listed/clean")
    if committed == "all":
        await store.checkpoint()
    second = make_file(store, below, b"second", dirty=6, size=7, key="p/listed/old name")
    with store.transaction() as tx:
        tx.put_upload(second, UploadState("k", "u", 1, 1, 8))
        tx.put_parked(second, Parked(1, "denied"))
        tx.doom(Doomed("p/deleted", "etag", 4))
    if committed == "all":
        await store.checkpoint()
    cache = lose_environment(store, tmp_path / "b")
    report = rebuild(cache)
    assert (report.dirty_files, report.doomed, report.moved_to_root) == (2, 1, ())
    again = open_store(cache)
    assert check(again) == []
    assert again.path_of(first) == (b"listed", b"below", b"made", b"first")
    assert again.require(first) == store.require(first)
    assert again.require(second) == store.require(second)
    assert again.holder("p/listed/old name") == again.require(second)
    assert list(again.iter_dirty()) == [(3, made), (5, first), (6, second)]
    assert again.doomed("p/deleted") == Doomed("p/deleted", "etag", 4)
    assert again.upload_state(second) == store.upload_state(second)
    assert again.parked(second) == store.parked(second)
    assert again.setting("bucket") == b"name"
    # What the bucket has is listed again; directories made here have nothing to be listed.
    assert again.inode(clean) is None
    directories = {ino: again.require(ino).directory for ino in (listed, below, made)}
    assert [(each.complete, each.listed_ns) for each in directories.values() if each] == [
        (False, 0), (False, 0), (True, 0),
    ]  # fmt: skip
    with again.transaction() as tx:
        assert tx.new_ino() > max(first, second, clean)


async def test_what_was_uploaded_removed_or_undoomed_does_not_come_back(tmp_path: Path) -> None:
    store = new_store(tmp_path / "a")
    uploaded, removed, unlinked = (make_file(store, 1, name, dirty=1) for name in (b"up", b"rm", b"un"))
    kept = make_file(store, 1, b"kept", dirty=9)
    with store.transaction() as tx:
        tx.doom(Doomed("p/gone", "", 1))
    await store.checkpoint()
    set_clean(store, uploaded)
    with store.transaction() as tx:
        tx.remove(removed)
        tx.put(replace(tx.require(unlinked), parent=0, name=b""))
        tx.undoom("p/gone")
    await store.checkpoint()
    assert set(read_recovery(lose_environment(store, tmp_path / "b")).inodes) == {1, kept}
    assert read_recovery(tmp_path / "b").doomed == []


async def test_a_renamed_ancestor_is_known_by_its_new_name(tmp_path: Path) -> None:
    store = new_store(tmp_path / "a")
    upper = make_directory(store, 1, b"upper", source="p/upper/")
    lower = make_directory(store, upper, b"lower", source="p/upper/lower/")
    other = make_directory(store, 1, b"other", source="p/other/")
    ino = make_file(store, lower, b"a", dirty=1)
    await store.checkpoint()
    with store.transaction() as tx:
        tx.put(replace(tx.require(lower), parent=other, name=b"moved"))
    for number, commit in enumerate((False, True)):
        if commit:
            await store.checkpoint()
        cache = lose_environment(store, tmp_path / f"b{number}")
        rebuild(cache)
        again = open_store(cache)
        assert again.path_of(ino) == (b"other", b"moved", b"a")
        again.abandon()


async def test_a_damaged_environment_is_moved_aside_not_deleted(tmp_path: Path) -> None:
    store = new_store(tmp_path / "a")
    ino = make_file(store, 1, b"a", dirty=1)
    store.close()
    (tmp_path / "a" / "meta" / "data.mdb").write_bytes(b"garbage" * 1000)
    report = rebuild(tmp_path / "a")
    assert report.old_environment is not None
    assert (report.old_environment / "data.mdb").read_bytes().startswith(b"garbage")
    assert open_store(tmp_path / "a").require(ino).name == b"a"


def test_a_running_daemon_keeps_recover_out(tmp_path: Path) -> None:
    store = new_store(tmp_path / "a")
    with pytest.raises(UserError, match="in use"):
        rebuild(tmp_path / "a")
    store.close()


def test_without_a_log_there_is_nothing_to_rebuild_and_nothing_is_touched(tmp_path: Path) -> None:
    new_store(tmp_path / "a").close()
    shutil.rmtree(tmp_path / "a" / "recovery")
    with pytest.raises(CorruptRecord):
        rebuild(tmp_path / "a")
    assert open_store(tmp_path / "a").inode(1) is not None


async def test_a_torn_log_and_a_damaged_journal_still_give_what_they_have(tmp_path: Path) -> None:
    store = new_store(tmp_path / "a")
    first = make_file(store, 1, b"first", dirty=1)
    await store.checkpoint()
    second = make_file(store, 1, b"second", dirty=2)
    await store.checkpoint()
    third = make_file(store, 1, b"third", dirty=3)
    fourth = make_file(store, 1, b"fourth", dirty=4)
    await store.sync()
    make_file(store, 1, b"fifth", dirty=5)
    cache = lose_environment(store, tmp_path / "b")
    log = cache / "recovery" / "log"
    log.write_bytes(log.read_bytes()[:-20])
    for segment in (cache / "journal").glob("*.log"):
        data = segment.read_bytes()
        place = data.find(b"third")
        segment.write_bytes(data[:place] + b"THIRD" + data[place + 5 :])
    found = read_recovery(cache)
    assert {first, second, fourth} <= set(found.inodes)
    assert third not in found.inodes
    rebuild(cache)
    again = open_store(cache)
    assert check(again) == []
    assert again.lookup(1, b"fourth") is not None


async def test_a_file_whose_directory_is_lost_goes_into_the_root(tmp_path: Path) -> None:
    store = new_store(tmp_path / "a")
    directory = make_directory(store, 1, b"d", dirty=1)
    ino = make_file(store, directory, b"a", dirty=2)
    twin = make_file(store, 1, b"a", dirty=3)
    found = read_recovery(crashed_copy(store, tmp_path / "b"))
    found.inodes[ino] = replace(found.inodes[ino], parent=4711)
    found.inodes[directory] = replace(found.inodes[directory], name=b"a")
    from gatewayfs.meta import recovery

    report = recovery._build(tmp_path / "work", "p/", found)
    assert report.moved_to_root == ((ino, b"recovered-%d-a" % ino),)
    assert report.renamed == ((twin, b"duplicate-%d-a" % twin),)
    again = open_store(tmp_path / "work")
    assert again.lookup(1, b"recovered-%d-a" % ino) == again.require(ino)
    assert check(again) == []


async def test_an_unreadable_record_costs_itself_only(tmp_path: Path) -> None:
    store = new_store(tmp_path / "a")
    first, second = make_file(store, 1, b"first", dirty=1), make_file(store, 1, b"second", dirty=2)
    store.flush()
    with store._env.begin(write=True) as txn:
        txn.put(codec.inode_key(first), b"\xc1")
    store.abandon()
    open_store(tmp_path / "a").close()
    shutil.rmtree(tmp_path / "a" / "meta")
    assert rebuild(tmp_path / "a").dirty_files == 1
    assert open_store(tmp_path / "a").children(1) == [second]


async def test_a_rebuild_may_be_repeated_and_killed_in_between(tmp_path: Path) -> None:
    store = new_store(tmp_path / "a")
    ino = make_file(store, 1, b"a", dirty=1)
    cache = lose_environment(store, tmp_path / "b")
    (cache / "meta.new").mkdir()
    (cache / "meta.new" / "rubbish").write_text("from a killed attempt")
    rebuild(cache)
    rebuild(cache)
    assert not (cache / "meta.new").exists()
    again = open_store(cache)
    assert again.require(ino).name == b"a"
    make_file(again, 1, b"b", dirty=2)
    assert sorted(read_recovery(crashed_copy(again, tmp_path / "c")).inodes) == [1, ino, again.children(1)[-1]]


async def test_the_log_does_not_grow_without_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery_log, "COMPACT_ABOVE_BYTES", 10_000)
    store = new_store(tmp_path / "a")
    directory = make_directory(store, 1, b"d", source="p/d/")
    kept = make_file(store, directory, b"kept", dirty=1)
    largest = 0
    for number in range(60):
        for each in range(20):
            ino = make_file(store, 1, b"%d-%d" % (number, each), dirty=2)
            set_clean(store, ino)
        await store.checkpoint()
        largest = max(largest, store.statistics().recovery_log_bytes)
    assert largest < 20_000
    assert (store.directory / "recovery" / "log").stat().st_size == store.statistics().recovery_log_bytes
    found = read_recovery(lose_environment(store, tmp_path / "b"))
    assert set(found.inodes) == {1, directory, kept}


async def test_trouble_with_the_log_is_shown_and_mended_and_fails_no_commit(tmp_path: Path) -> None:
    store = new_store(tmp_path / "a")
    ino = make_file(store, 1, b"a", dirty=1)
    arm("meta.recovery.before=full,meta.compact.before=full")
    await store.checkpoint()
    assert store.statistics().recovery_log_stale
    assert store.statistics().commit_error == ""
    other = make_file(store, 1, b"b", dirty=2)
    await store.checkpoint()
    assert store.statistics().recovery_log_stale == ""
    assert set(read_recovery(lose_environment(store, tmp_path / "b")).inodes) == {1, ino, other}
