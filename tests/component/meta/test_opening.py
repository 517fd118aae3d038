"""Opening: one process, one prefix, no newer schema; migrations run after the journal and all or nothing."""

import os
from pathlib import Path

import lmdb
import msgspec
import pytest

from gatewayfs.errors import CorruptRecord, SchemaTooNew, UserError
from gatewayfs.meta import codec
from gatewayfs.meta.check import check
from gatewayfs.meta.migrate import VERSION_KEY, migrate, stored_version
from gatewayfs.meta.opening import Limits, open_directory
from gatewayfs.meta.schema import SCHEMA_VERSION
from gatewayfs.runtime.failpoints import arm
from tests.component.meta.stores import BOOT, SMALL, crashed_copy, make_file, new_store, newest_segment, open_store


@pytest.fixture(autouse=True)
def _disarmed():  # type: ignore[no-untyped-def]
    yield
    arm("")


def test_a_second_process_is_kept_out(tmp_path: Path) -> None:
    store = new_store(tmp_path / "a")
    with pytest.raises(UserError, match="in use"):
        open_store(tmp_path / "a")
    store.close()
    open_store(tmp_path / "a").close()


def test_a_cache_belongs_to_one_prefix(tmp_path: Path) -> None:
    new_store(tmp_path / "a", prefix="one/").close()
    with pytest.raises(UserError, match="one/"):
        open_store(tmp_path / "a", prefix="two/")
    open_store(tmp_path / "a", prefix="one/").close()


def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    store = new_store(tmp_path / "a")
    store.flush()
    with store._env.begin(write=True) as txn:
        txn.put(VERSION_KEY, b"%d" % (SCHEMA_VERSION + 1))
    store.abandon()
    with pytest.raises(SchemaTooNew):
        open_store(tmp_path / "a")
    with pytest.raises(SchemaTooNew):
        open_store(tmp_path / "a")


@pytest.mark.parametrize("value", [b"", b"x", b"-1"])
def test_a_version_that_is_no_number_is_corruption(value: bytes) -> None:
    with pytest.raises(CorruptRecord):
        stored_version(value)


def rename_all(txn: lmdb.Transaction) -> None:
    """A migration: every file's name gets a tail."""
    for key, value in list(txn.cursor()):
        if key[:1] == codec.INODE:
            inode = codec.decode_inode(key, value)
            if inode.parent:
                txn.delete(codec.dentry_key(inode.parent, inode.name))
                moved = msgspec.structs.replace(inode, name=inode.name + b"!", size=inode.size + 1)
                txn.put(codec.dentry_key(moved.parent, moved.name), inode.ino.to_bytes(8, "big"))
                txn.put(key, codec.encode(moved))


def test_migrations_see_the_replayed_journal_and_run_once_each_in_order(tmp_path: Path) -> None:
    store = new_store(tmp_path / "a")
    make_file(store, 1, b"in lmdb", dirty=1, size=10)
    store.flush()
    make_file(store, 1, b"in the journal", dirty=2, size=10)
    cache = crashed_copy(store, tmp_path / "b")
    order: list[int] = []

    def first(txn: lmdb.Transaction) -> None:
        order.append(1)
        rename_all(txn)

    def second(txn: lmdb.Transaction) -> None:
        order.append(2)
        rename_all(txn)

    migrations = {SCHEMA_VERSION: first, SCHEMA_VERSION + 1: second}
    opened = open_directory(cache, "p/", BOOT, SMALL, migrations, SCHEMA_VERSION + 2)
    assert order == [1, 2]
    assert (opened.counters.dirty, opened.counters.dirty_bytes) == (2, 24)
    with opened.writer.env.begin() as txn:
        assert txn.get(codec.dentry_key(1, b"in lmdb!!")) is not None
        assert txn.get(codec.dentry_key(1, b"in the journal!!")) is not None
        assert txn.get(VERSION_KEY) == b"%d" % (SCHEMA_VERSION + 2)
    opened.writer.close()
    opened.journal.close()
    os.close(opened.lock_fd)


def test_a_failing_migration_changes_nothing(tmp_path: Path) -> None:
    new_store(tmp_path / "a").close()

    def broken(txn: lmdb.Transaction) -> None:
        rename_all(txn)
        raise CorruptRecord("no way")

    with pytest.raises(CorruptRecord):
        open_directory(tmp_path / "a", "p/", BOOT, SMALL, {SCHEMA_VERSION: broken}, SCHEMA_VERSION + 1)
    store = open_store(tmp_path / "a")
    assert check(store) == []


def test_migrating_an_empty_store_only_notes_the_version() -> None:
    written: dict[bytes, bytes] = {}

    class Txn:
        def put(self, key: bytes, value: bytes) -> None:
            written[key] = value

    migrate(Txn(), 0, 5, {})
    assert written == {VERSION_KEY: b"5"}


def test_damage_to_synced_changes_is_refused_and_the_lock_released(tmp_path: Path) -> None:
    store = new_store(tmp_path / "a")
    for number in range(5):
        make_file(store, 1, b"%d" % number)
    store._committer.journal.synced = store.statistics().sequence
    make_file(store, 1, b"later")
    cache = crashed_copy(store, tmp_path / "b")
    segment = newest_segment(cache)
    data = bytearray(segment.read_bytes())
    data[600] ^= 0xFF
    segment.write_bytes(data)
    for _ in range(2):
        with pytest.raises(CorruptRecord, match="gatewayfs recover"):
            open_store(cache)


def test_after_a_restart_of_the_machine_inode_numbers_jump(tmp_path: Path) -> None:
    store = new_store(tmp_path / "a", boot="one")
    ino = make_file(store, 1, b"a")
    store.close()
    same = open_store(tmp_path / "a", boot="one")
    assert make_file(same, 1, b"b") < ino + 10_000
    same.close()
    # What was created and lost by a power cut may still be in some NFS client's handle.
    other = open_store(tmp_path / "a", boot="two")
    assert make_file(other, 1, b"c") > ino + (1 << 20)
    other.close()
    unknown = open_store(tmp_path / "a", boot="")
    last = make_file(unknown, 1, b"d")
    unknown.close()
    assert make_file(open_store(tmp_path / "a", boot=""), 1, b"e") > last + (1 << 20)


def test_a_long_journal_is_replayed_in_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gatewayfs.meta import opening

    monkeypatch.setattr(opening, "REPLAY_SLICE_KEYS", 20)
    store = new_store(tmp_path / "a", limits=Limits(1 << 30, 32 << 10, 8))
    for number in range(200):
        make_file(store, 1, b"%d" % number, dirty=1 + number, size=2)
    again = open_store(crashed_copy(store, tmp_path / "b"))
    assert (again.inode_count, again.dirty_count, again.dirty_bytes) == (201, 200, 400)
    assert check(again) == []
    # A full disk in the middle is only a pause.
    arm("meta.commit.before:3=full")
    third = open_store(crashed_copy(store, tmp_path / "c"))
    assert (third.inode_count, third.dirty_count, third.dirty_bytes) == (201, 200, 400)
    assert check(third) == []
