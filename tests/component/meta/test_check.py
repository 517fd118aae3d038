"""Whatever contradiction is planted, check names it; a sound store has none."""

import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import lmdb
import msgspec
import pytest

from gatewayfs.meta import check as check_module
from gatewayfs.meta import codec
from gatewayfs.meta.check import check, check_online
from gatewayfs.meta.schema import Directory, Doomed, Fingerprints, Inode, Parked, Placement, Remote, UploadState
from tests.component.meta.stores import make_directory, make_file, new_store, open_store

replace = msgspec.structs.replace
Plant = Callable[[lmdb.Transaction], object]

DIRECTORY, FILE, ORPHAN = 2, 3, 4

KNOWN = Fingerprints("p/d/f", "etag", 3, 2, b"x" * 32)
"""What is known of the bytes of FILE's object: three, in two cells."""


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed store: root / d / f (dirty, held at p/d/f), an orphan, a doomed key, an upload, a parked entry."""
    directory = tmp_path_factory.mktemp("sound") / "cache"
    store = new_store(directory)
    parent = make_directory(store, 1, b"d")
    ino = make_file(store, parent, b"f", dirty=5, size=3, key="p/d/f")
    orphan = make_file(store, 1, b"o")
    assert (parent, ino, orphan) == (DIRECTORY, FILE, ORPHAN)
    with store.transaction() as tx:
        tx.put(replace(tx.require(orphan), parent=0, name=b""))
        tx.doom(Doomed("p/gone", "", 1))
        tx.put_upload(ino, UploadState("p/d/f", "u", 1, 1, 8))
        tx.put_parked(ino, Parked(1, "denied"))
        tx.put_fingerprints(ino, KNOWN)
    assert check(store) == []
    store.close()
    return directory


def change(ino: int, /, **fields: object) -> Plant:
    """Write a changed inode record past the transaction."""

    def plant(txn: lmdb.Transaction) -> None:
        key = codec.inode_key(ino)
        inode: Inode = codec.decode_inode(key, txn.get(key))
        txn.put(key, codec.encode(replace(inode, **fields)))

    return plant


def delete(key: bytes) -> Plant:
    return lambda txn: txn.delete(key)


def add(key: bytes, value: bytes = b"") -> Plant:
    return lambda txn: txn.put(key, value)


def number(value: int) -> bytes:
    return value.to_bytes(8, "big")


PLANTS: dict[str, tuple[Plant, str]] = {
    "record gone": (delete(codec.inode_key(FILE)), "leads to inode 3, which is not there"),
    "record unreadable": (add(codec.inode_key(FILE), b"\xc1"), "does not decode"),
    "record of another": (change(FILE, ino=77), "the record says it is inode 77"),
    "dentry gone": (delete(codec.dentry_key(DIRECTORY, b"f")), "does not lead to it"),
    "dentry too many": (add(codec.dentry_key(1, b"ghost"), number(FILE)), "name b'ghost' leads to inode 3"),
    "child gone": (delete(codec.child_key(DIRECTORY, FILE)), "not among the children"),
    "child too many": (add(codec.child_key(1, FILE)), "lists inode 3"),
    "key entry gone": (delete(codec.object_key("p/d/f")), "does not hold its object"),
    "key entry too many": (add(codec.object_key("p/x"), number(FILE)), "does not hold that object"),
    "key of a doomed one": (add(codec.doomed_key("p/d/f"), codec.encode(Doomed("p/d/f", "", 1))), "is doomed"),
    "queue entry gone": (delete(codec.dirty_key(5, FILE)), "dirty but not in the queue"),
    "queue entry too many": (add(codec.dirty_key(9, FILE)), "is not in that state"),
    "orphan entry gone": (delete(codec.orphan_key(ORPHAN)), "is no orphan"),
    "orphan entry too many": (add(codec.orphan_key(FILE)), "is an orphan"),
    "orphan missing": (add(codec.orphan_key(99)), "inode 99 is missing"),
    "doomed misplaced": (add(codec.doomed_key("p/y"), codec.encode(Doomed("p/z", "", 1))), "wrong place"),
    "doomed unreadable": (add(codec.doomed_key("p/y"), b"\xc1"), "does not decode"),
    "upload of nobody": (add(codec.upload_key(99), codec.encode(UploadState("k", "u", 1, 1, 8))), "inode 99"),
    "fingerprints of nobody": (add(codec.fingerprints_key(99), codec.encode(KNOWN)), "inode 99"),
    "fingerprints of another object": (
        add(codec.fingerprints_key(FILE), codec.encode(replace(KNOWN, etag="another"))),
        "is not its object",
    ),
    "fingerprints of a wrong number": (
        add(codec.fingerprints_key(FILE), codec.encode(replace(KNOWN, digests=b"x" * 16))),
        "16 bytes for 3 in cells of 2",
    ),
    "fingerprints unreadable": (add(codec.fingerprints_key(FILE), b"\xc1"), "does not decode"),
    "parked nobody": (add(codec.parked_key(99), codec.encode(Parked(1, "x"))), "parked inode 99"),
    "parent is a file": (change(FILE, parent=FILE), "is no directory"),
    "parent missing": (change(FILE, parent=99), "parent 99 is missing"),
    "root below something": (change(1, parent=DIRECTORY), "the root has a parent"),
    "bad name": (change(FILE, name=b"a/b"), "is no name"),
    "unlinked with a name": (change(ORPHAN, name=b"x"), "in no directory"),
    "directory without its part": (change(DIRECTORY, directory=None), "disagree"),
    "subdirectories of an empty directory": (
        change(ORPHAN, mode=stat.S_IFDIR | 0o755, directory=Directory(subdirectories=1)),
        "subdirectories, it is empty",
    ),
    "wrong number of subdirectories": (change(1, directory=Directory(deepest_bytes=9)), "has 0 subdirectories"),
    "file with a target": (change(FILE, target=b"x"), "no symlink"),
    "symlink of another size": (change(ORPHAN, mode=stat.S_IFLNK | 0o777, target=b"abc"), "target of 3 bytes"),
    "negative size": (change(FILE, size=-1), "size -1"),
    "directory with bytes": (change(DIRECTORY, placement=Placement(1)), "only regular files"),
    "unknown placement": (change(FILE, placement=Placement(9)), "kind 9"),
    "touching extents": (change(FILE, placement=Placement(2, extents=(0, 5, 5, 9))), "not sorted"),
    "half an extent": (change(FILE, placement=Placement(2, extents=(0, 5, 7))), "not sorted"),
    "deeper than known": (change(FILE, name=b"longer"), "reaches deeper"),
    "number to be given again": (add(codec.setting_key("next_ino"), b"3"), "given out again"),
    "object moved": (change(FILE, remote=Remote("p/q", "", 1, 0, 1, 1)), "does not hold its object 'p/q'"),
}


@pytest.mark.parametrize("name", PLANTS)
async def test_a_planted_contradiction_is_named(name: str, sound: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(sound, cache)
    plant, words = PLANTS[name]
    env = lmdb.open(str(cache / "meta"), map_size=1 << 30)
    with env.begin(write=True) as txn:
        plant(txn)
    env.close()
    store = open_store(cache)
    problems = check(store)
    assert any(words in problem for problem in problems), problems
    assert await check_online(store) == problems


def test_wrong_counters_are_named(sound: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(sound, cache)
    store = open_store(cache)
    for name in ("inodes", "dirty", "dirty_bytes", "doomed", "orphans", "parked"):
        value = getattr(store.counters, name)
        setattr(store.counters, name, value + 1)
        assert [problem.split()[1] for problem in check(store)] == [name]
        setattr(store.counters, name, value)
    assert check(store) == []


def test_a_wreck_is_not_described_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_module, "PROBLEMS_MAX", 10)
    store = new_store(tmp_path / "a")
    for each in range(40):
        make_file(store, 1, b"%d" % each)
    store.flush()
    with store._env.begin(write=True) as txn:
        for ino in store.children(1):
            txn.delete(codec.inode_key(ino))
    store.renew()
    assert len(check(store)) == 10
