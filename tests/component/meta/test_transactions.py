"""What a transaction changes, all at once or not at all, and what it keeps consistent by itself."""

from pathlib import Path

import msgspec
import pytest

from gatewayfs.errors import CorruptRecord, DirectoryNotEmpty, NotADirectory, StaleInode
from gatewayfs.meta.check import check
from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.schema import Doomed, Parked, Remote, UploadState
from tests.component.meta.stores import (
    crashed_copy,
    file_inode,
    make_directory,
    make_file,
    new_store,
    open_store,
)

replace = msgspec.structs.replace


@pytest.fixture
def store(tmp_path: Path) -> MetaStore:
    return new_store(tmp_path / "cache")


def deepest(store: MetaStore, ino: int) -> int:
    directory = store.require(ino).directory
    assert directory is not None
    return directory.deepest_bytes


def test_a_created_file_is_found_by_every_way(store: MetaStore) -> None:
    directory = make_directory(store, 1, b"docs")
    ino = make_file(store, directory, b"a.txt", dirty=7, size=5, key="p/docs/a.txt")
    inode = store.require(ino)
    assert store.lookup(directory, b"a.txt") == inode
    assert store.children(directory) == [ino]
    assert store.path_of(ino) == (b"docs", b"a.txt")
    assert store.key_of(inode) == "p/docs/a.txt"
    assert store.key_of(store.require(directory)) == "p/docs/"
    assert store.key_of(store.require(1)) == "p/"
    assert store.holder("p/docs/a.txt") == inode
    assert list(store.iter_dirty()) == [(7, ino)]
    assert (store.inode_count, store.dirty_count, store.dirty_bytes) == (3, 1, 5)
    assert check(store) == []


def test_a_rename_moves_the_name_and_keeps_the_object(store: MetaStore) -> None:
    old, new = make_directory(store, 1, b"old"), make_directory(store, 1, b"new")
    ino = make_file(store, old, b"a", key="p/old/a")
    with store.transaction() as tx:
        tx.put(replace(tx.require(ino), parent=new, name=b"b", dirty_since_ns=9))
    assert store.lookup(old, b"a") is None
    assert not store.has_children(old)
    assert store.lookup(new, b"b") == store.require(ino)
    assert store.key_of(store.require(ino)) == "p/new/b"
    moved = store.holder("p/old/a")
    assert moved is not None
    assert moved.ino == ino
    assert check(store) == []


def test_renaming_over_a_file_leaves_one_name(store: MetaStore) -> None:
    first, second = make_file(store, 1, b"a"), make_file(store, 1, b"b")
    with store.transaction() as tx:
        tx.put(replace(tx.require(second), parent=0, name=b""))
        tx.put(replace(tx.require(first), name=b"b"))
    assert store.lookup(1, b"a") is None
    assert store.lookup(1, b"b") == store.require(first)
    assert list(store.iter_orphans()) == [second]
    assert store.children(1) == [first]
    with pytest.raises(StaleInode):
        store.path_of(second)
    assert check(store) == []


def test_exchanging_two_names_in_one_transaction_works(store: MetaStore) -> None:
    first, second = make_file(store, 1, b"a", key="p/a"), make_file(store, 1, b"b", key="p/b")
    with store.transaction() as tx:
        one, two = tx.require(first), tx.require(second)
        tx.put(replace(one, name=b"b", remote=two.remote))
        tx.put(replace(two, name=b"a", remote=one.remote))
    assert store.lookup(1, b"b") == store.require(first)
    assert store.holder("p/a") == store.require(second)
    assert check(store) == []


def test_two_inodes_at_one_name_are_refused(store: MetaStore) -> None:
    make_file(store, 1, b"a")
    with pytest.raises(CorruptRecord), store.transaction() as tx:
        tx.put(file_inode(tx.new_ino(), 1, b"a"))
    assert len(store.children(1)) == 1
    assert check(store) == []


def test_two_holders_of_one_object_are_refused(store: MetaStore) -> None:
    make_file(store, 1, b"a", key="p/a")
    with pytest.raises(CorruptRecord), store.transaction() as tx:
        tx.put(file_inode(tx.new_ino(), 1, b"b", key="p/a"))
    assert check(store) == []


def test_an_object_in_use_cannot_be_doomed(store: MetaStore) -> None:
    ino = make_file(store, 1, b"a", key="p/a")
    with pytest.raises(CorruptRecord), store.transaction() as tx:
        tx.doom(Doomed("p/a", "etag", 1))
    with store.transaction() as tx:
        tx.doom(Doomed("p/a", "etag", 1))
        tx.put(replace(tx.require(ino), remote=None))
    assert store.doomed("p/a") == Doomed("p/a", "etag", 1)
    with pytest.raises(CorruptRecord), store.transaction() as tx:
        tx.put(replace(tx.require(ino), remote=Remote("p/a", "e2", 1, 0, 1, 1)))
    with store.transaction() as tx:
        tx.put(replace(tx.require(ino), remote=Remote("p/a", "e2", 1, 0, 1, 1)))
        tx.undoom("p/a")
        tx.undoom("p/never")
    assert (store.doomed("p/a"), store.doomed_count, list(store.iter_doomed())) == (None, 0, [])
    assert check(store) == []


def test_a_failing_body_changes_nothing(store: MetaStore) -> None:
    ino = make_file(store, 1, b"a")
    before = store.statistics()
    with pytest.raises(ZeroDivisionError), store.transaction() as tx:  # noqa: PT012
        tx.put(replace(tx.require(ino), name=b"b"))
        tx.put(file_inode(tx.new_ino(), 1, b"c", dirty=1, size=100))
        tx.doom(Doomed("p/x", "", 1))
        raise ZeroDivisionError
    assert store.statistics() == before
    assert store.lookup(1, b"a") is not None
    assert store.children(1) == [ino]
    assert check(store) == []


def test_a_transaction_sees_its_own_changes_and_nobody_else_does(store: MetaStore) -> None:
    stays, goes = make_file(store, 1, b"stays"), make_file(store, 1, b"goes", dirty=4)
    with store.transaction() as tx:
        new = tx.new_ino()
        tx.put(file_inode(new, 1, b"new", dirty=3))
        tx.remove(goes)
        assert tx.children(1) == [stays, new]
        assert tx.children(1, after=stays, limit=1) == [new]
        assert list(tx.iter_dirty()) == [(3, new)]
        assert tx.lookup(1, b"goes") is None
        assert tx.inode(goes) is None
        assert store.children(1) == [stays, goes]
        assert list(store.iter_dirty()) == [(4, goes)]
    assert store.children(1) == [stays, new]


def test_a_long_transaction_finds_its_own_entries_in_order(store: MetaStore) -> None:
    with store.transaction() as tx:
        inos = []
        for number in range(300):
            inos.append(tx.new_ino())
            tx.put(file_inode(inos[-1], 1, b"%d" % number))
            assert tx.children(1, after=inos[-1] - 1) == [inos[-1]]
        tx.remove(inos[5])
        assert tx.children(1, limit=1000) == inos[:5] + inos[6:]
    assert store.children(1, after=inos[297]) == inos[298:]


def test_transactions_do_not_nest(store: MetaStore) -> None:
    with store.transaction(), pytest.raises(RuntimeError, match="open already"), store.transaction():
        pass
    make_file(store, 1, b"afterwards")


def test_removing_takes_everything_along(store: MetaStore) -> None:
    ino = make_file(store, 1, b"a", dirty=3, size=9, key="p/a")
    with store.transaction() as tx:
        tx.put_upload(ino, UploadState("p/a", "upload", 1, 1, 8))
        tx.put_parked(ino, Parked(1, "denied"))
    assert (store.parked_count, list(store.iter_parked())) == (1, [(ino, Parked(1, "denied"))])
    assert [state.upload_id for _, state in store.iter_uploads()] == ["upload"]
    with store.transaction() as tx:
        tx.remove(ino)
    assert store.inode(ino) is None
    assert store.upload_state(ino) is None
    assert store.parked(ino) is None
    assert store.holder("p/a") is None
    statistics = store.statistics()
    assert (statistics.inode_count, statistics.dirty_count, statistics.dirty_bytes) == (1, 0, 0)
    assert statistics.parked_count == 0
    assert check(store) == []
    with pytest.raises(StaleInode), store.transaction() as tx:
        tx.remove(ino)


def test_an_orphan_is_counted_until_it_is_removed(store: MetaStore) -> None:
    ino = make_file(store, 1, b"a")
    with store.transaction() as tx:
        tx.put(replace(tx.require(ino), parent=0, name=b""))
    assert (store.orphan_count, list(store.iter_orphans())) == (1, [ino])
    with store.transaction() as tx:
        tx.remove(ino)
    assert (store.orphan_count, list(store.iter_orphans())) == (0, [])
    assert check(store) == []


def test_a_directory_with_children_is_not_removed(store: MetaStore) -> None:
    directory = make_directory(store, 1, b"d")
    child = make_file(store, directory, b"a")
    with pytest.raises(DirectoryNotEmpty), store.transaction() as tx:
        tx.remove(directory)
    with store.transaction() as tx:
        tx.remove(child)
        tx.remove(directory)
    assert check(store) == []


def test_a_parent_must_be_a_directory_that_exists(store: MetaStore) -> None:
    ino = make_file(store, 1, b"a")
    with pytest.raises(NotADirectory), store.transaction() as tx:
        tx.put(file_inode(tx.new_ino(), ino, b"b"))
    with pytest.raises(StaleInode), store.transaction() as tx:
        tx.put(file_inode(tx.new_ino(), 999, b"b"))
    assert check(store) == []


def test_every_ancestor_knows_how_deep_it_reaches(store: MetaStore) -> None:
    a = make_directory(store, 1, b"a")
    b = make_directory(store, a, b"bb")
    stale = store.require(a)
    make_file(store, b, b"file")
    assert (deepest(store, b), deepest(store, a), deepest(store, 1)) == (4, 7, 9)
    # Whoever still has the old record at hand must not shrink it.
    with store.transaction() as tx:
        tx.put(replace(stale, mtime_ns=99))
    assert deepest(store, a) == 7
    other = make_directory(store, 1, b"elsewhere")
    with store.transaction() as tx:
        tx.put(replace(tx.require(b), parent=other))
    assert (deepest(store, other), deepest(store, 1)) == (7, 17)
    assert check(store) == []


def test_inode_numbers_are_never_used_twice(tmp_path: Path) -> None:
    store = new_store(tmp_path / "0")
    seen: set[int] = set()
    for life in range(4):
        with store.transaction() as tx:
            for _ in range(3):
                ino = tx.new_ino()
                tx.put(file_inode(ino, 1, b"%d" % ino))
                seen.add(ino)
        with pytest.raises(ZeroDivisionError), store.transaction() as tx:  # noqa: PT012
            seen.update(lost := {tx.new_ino() for _ in range(1500)})
            assert len(lost) == 1500
            raise ZeroDivisionError
        made = make_file(store, 1, b"made %d" % life)
        assert made not in seen
        seen.add(made)
        with store.transaction() as tx:
            tx.remove(made)
        highest = max(seen)
        # Killed, or after a power cut (another boot), or stopped.
        if life == 2:
            store.close()
            store = open_store(store.directory)
        else:
            store = open_store(crashed_copy(store, tmp_path / str(life + 1)), boot=f"boot {life // 2}")
        with store.transaction() as tx:
            fresh = tx.new_ino()
            tx.put(file_inode(fresh, 1, b"fresh %d" % life))
        assert fresh > made
        assert fresh not in seen
        assert highest - fresh < 1500  # a failed transaction's numbers may come again only if nobody saw them
        seen.add(fresh)
        assert check(store) == []


def test_walks_may_change_the_store_under_their_feet(store: MetaStore) -> None:
    inos = [make_file(store, 1, b"%d" % number, dirty=10 + number) for number in range(700)]
    seen = []
    for _, ino in store.iter_dirty():
        seen.append(ino)
        with store.transaction() as tx:
            tx.put(replace(tx.require(ino), dirty_since_ns=0))
    assert seen == inos
    assert store.dirty_count == 0


def test_settings_come_and_go(store: MetaStore) -> None:
    with store.transaction() as tx:
        tx.put_setting("bucket", b"name")
        assert tx.setting("bucket") == b"name"
    assert store.setting("bucket") == b"name"
    with store.transaction() as tx:
        tx.put_setting("bucket", None)
    assert store.setting("bucket") is None


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_directory_cannot_go_below_itself(store: MetaStore, depth: int) -> None:
    chain = [make_directory(store, 1, b"0")]
    for number in range(2):
        chain.append(make_directory(store, chain[-1], b"%d" % (number + 1)))
    with pytest.raises(CorruptRecord, match="below itself"), store.transaction() as tx:
        tx.put(replace(tx.require(chain[0]), parent=chain[depth]))
    assert check(store) == []
