"""Acknowledged is kept, synced survives power loss, and a broken disk ends promises instead of breaking them."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from gatewayfs.errors import CacheDiskFailed, CacheDiskFull, NoSpace
from gatewayfs.meta import committer, syncing, writer
from gatewayfs.meta.check import check, check_online
from gatewayfs.meta.env import Limits, MetaStore
from gatewayfs.meta.journal import segment_paths
from gatewayfs.runtime.failpoints import FAILPOINTS, arm
from gatewayfs.runtime.offload import Offload
from tests.component.meta.stores import (
    HeldOffload,
    crashed_copy,
    make_directory,
    make_file,
    new_store,
    newest_segment,
    open_store,
)

replace = msgspec.structs.replace


@pytest.fixture(autouse=True)
def _disarmed():  # type: ignore[no-untyped-def]
    yield
    arm("")


def names(store: MetaStore, parent: int = 1) -> list[bytes]:
    return sorted(store.require(ino).name for ino in store.children(parent, limit=100_000))


def test_killed_at_once_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    store = new_store(tmp_path / "a")
    for number in range(50):
        make_file(store, 1, b"%02d" % number, dirty=number + 1, size=number)
    before = store.statistics()
    again = open_store(crashed_copy(store, tmp_path / "b"))
    assert names(again) == names(store)
    assert list(again.iter_dirty()) == list(store.iter_dirty())
    after = again.statistics()
    assert (after.inode_count, after.dirty_count, after.dirty_bytes) == (
        before.inode_count, before.dirty_count, before.dirty_bytes,
    )  # fmt: skip
    assert after.replayed == before.sequence
    assert check(again) == []


async def test_killed_in_the_middle_of_a_commit_nothing_is_lost(tmp_path: Path) -> None:
    offload = HeldOffload()
    store = new_store(tmp_path / "a", offload=offload)
    make_file(store, 1, b"first")
    async with trio.open_nursery() as nursery:
        offload.hold("commit")
        nursery.start_soon(store.checkpoint)
        await offload.reached("commit")
        make_file(store, 1, b"during")
        assert names(store) == [b"during", b"first"]
        assert names(open_store(crashed_copy(store, tmp_path / "before"))) == [b"during", b"first"]
        offload.release("commit")
    assert names(store) == [b"during", b"first"]
    again = open_store(crashed_copy(store, tmp_path / "after"))
    assert names(again) == [b"during", b"first"]
    assert again.statistics().replayed == 1
    assert check(again) == []


async def test_a_deletion_over_a_committed_entry_stays_deleted_in_every_layer(tmp_path: Path) -> None:
    offload = HeldOffload()
    store = new_store(tmp_path / "a", offload=offload)
    first, second = make_file(store, 1, b"first"), make_file(store, 1, b"second")
    await store.checkpoint()
    with store.transaction() as tx:
        tx.remove(first)
    async with trio.open_nursery() as nursery:
        offload.hold("commit")
        nursery.start_soon(store.checkpoint)
        await offload.reached("commit")
        assert store.children(1) == [second]
        with store.transaction() as tx:
            tx.remove(second)
        assert store.children(1) == []
        assert not store.has_children(1)
        offload.release("commit")
    assert store.children(1) == []
    assert check(store) == []


async def test_what_was_synced_survives_power_loss(tmp_path: Path) -> None:
    store = new_store(tmp_path / "a")
    make_file(store, 1, b"synced")
    await store.sync()
    end = newest_segment(store.directory).read_bytes().rstrip(b"\0")
    make_file(store, 1, b"not synced")
    copy = crashed_copy(store, tmp_path / "b")
    segment = newest_segment(copy)
    size = segment.stat().st_size
    kept = (len(end) + 7) // 8 * 8
    segment.write_bytes(segment.read_bytes()[:kept] + bytes(size - kept))
    again = open_store(copy, boot="second boot")
    assert names(again) == [b"synced"]
    assert check(again) == []


async def test_sync_takes_the_cache_files_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = new_store(tmp_path / "a")
    data = store.directory / "pack"
    data.write_bytes(b"bytes")
    synced: list[str] = []
    monkeypatch.setattr(syncing, "datasync_path", lambda path: synced.append(path) is None)
    ino = make_file(store, 1, b"a")
    with store.transaction() as tx:
        tx.put(replace(tx.require(ino), size=5))
        tx.needs_data_sync(str(data))
    # A power cut now may have taken the bytes: the change is not believed.
    cut = open_store(crashed_copy(store, tmp_path / "cut"), boot="second boot")
    assert cut.require(ino).size == 0
    killed = open_store(crashed_copy(store, tmp_path / "killed"))
    assert killed.require(ino).size == 5
    await store.sync()
    assert synced == [str(data)]
    later = open_store(crashed_copy(store, tmp_path / "later"), boot="second boot")
    assert later.require(ino).size == 5
    await store.sync()
    assert synced == [str(data)]


async def test_a_commit_syncs_cache_files_first_and_missing_ones_do_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = new_store(tmp_path / "a")
    seen: list[tuple[str, int]] = []
    real = writer.datasync_path

    def watched(path: str) -> bool:
        seen.append((path, writer_sequence(store)))
        return real(path)

    monkeypatch.setattr(writer, "datasync_path", watched)
    with store.transaction() as tx:
        tx.put_setting("x", b"1")
        tx.needs_data_sync(str(tmp_path / "unlinked meanwhile"))
    await store.checkpoint()
    assert seen == [(str(tmp_path / "unlinked meanwhile"), 0)]
    assert store.statistics().failed_data_paths == ()


def writer_sequence(store: MetaStore) -> int:
    """What LMDB says it holds."""
    with store._env.begin() as txn:
        return int(txn.get(writer.APPLIED_KEY) or 0)


@pytest.mark.parametrize("changes", [0, 1])
async def test_replay_after_a_kill_syncs_the_cache_files_of_what_it_commits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: int
) -> None:
    store = new_store(tmp_path / "a")
    await store.checkpoint()
    with store.transaction() as tx:
        for number in range(changes):
            tx.put_setting("x", b"%d" % number)
        tx.needs_data_sync(str(store.directory / "packs" / "1"))
    copy = crashed_copy(store, tmp_path / "b")
    synced: list[str] = []
    monkeypatch.setattr(writer, "datasync_path", lambda path: synced.append(path) is None)
    open_store(copy)
    assert synced == [str(copy / "packs" / "1")]


async def test_callbacks_come_once_lmdb_has_it_and_not_before(tmp_path: Path) -> None:
    offload = HeldOffload()
    store = new_store(tmp_path / "a", offload=offload)
    told: list[int] = []
    with store.transaction() as tx:
        tx.put_setting("x", b"1")
        tx.after_durable(lambda: told.append(writer_sequence(store)))
    with store.transaction() as tx:
        tx.after_durable(lambda: told.append(-1))
    await store.sync()
    assert told == []
    async with trio.open_nursery() as nursery:
        offload.hold("commit")
        nursery.start_soon(store.checkpoint)
        await offload.reached("commit")
        with store.transaction() as tx:
            tx.after_durable(lambda: told.append(-2))
        offload.release("commit")
    assert told == [store.statistics().applied_sequence, -1]
    await store.checkpoint()
    assert told[-1] == -2


async def test_concurrent_syncs_share_one_fdatasync_and_latecomers_the_next(tmp_path: Path) -> None:
    offload = HeldOffload()
    store = new_store(tmp_path / "a", offload=offload)
    offload.hold("sync_segments")
    done: list[int] = []

    async def one(number: int) -> None:
        await store.sync()
        done.append(number)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one, 0)
        await offload.reached("sync_segments")
        make_file(store, 1, b"late")
        for number in range(1, 20):
            nursery.start_soon(one, number)
        await trio.testing.wait_all_tasks_blocked()
        assert done == []
        offload.release("sync_segments")
    assert sorted(done) == list(range(20))
    assert offload.calls.count("sync_segments") == 2
    await store.sync()
    assert offload.calls.count("sync_segments") == 2


async def test_a_cancelled_sync_leaves_the_others_their_promise(tmp_path: Path) -> None:
    offload = HeldOffload()
    store = new_store(tmp_path / "a", offload=offload)
    offload.hold("sync_segments")
    scope = trio.CancelScope()
    done = []

    async def leader() -> None:
        with scope:
            await store.sync()

    async def follower() -> None:
        await store.sync()
        done.append(store.statistics().synced_sequence)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(leader)
        await offload.reached("sync_segments")
        nursery.start_soon(follower)
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        offload.release("sync_segments")
    assert done == [store.statistics().sequence]
    assert offload.calls.count("sync_segments") == 2


async def test_a_failed_fdatasync_is_never_asked_again_and_lmdb_keeps_the_promise(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = new_store(tmp_path / "a")
    make_file(store, 1, b"a")
    arm("meta.sync.before=error")
    await store.sync()
    statistics = store.statistics()
    assert statistics.applied_sequence == statistics.sequence
    assert "fdatasync of the journal failed" in caplog.text
    make_file(store, 1, b"b")
    await store.sync()
    assert store.statistics().applied_sequence < store.statistics().sequence, "the journal is trusted again"


async def test_when_neither_journal_nor_lmdb_can_promise_sync_says_so(tmp_path: Path) -> None:
    store = new_store(tmp_path / "a")
    make_file(store, 1, b"a")
    arm("meta.sync.before=error,meta.commit.before=error")
    with pytest.raises(CacheDiskFailed):
        await store.sync()
    assert store.statistics().applied_sequence == 0
    # fdatasync would report success now: it must not be believed, only a commit.
    await store.sync()
    assert store.statistics().applied_sequence == store.statistics().sequence
    assert names(open_store(crashed_copy(store, tmp_path / "b"))) == [b"a"]


async def test_a_commit_begun_before_the_fdatasync_failed_settles_nothing(tmp_path: Path) -> None:
    offload = HeldOffload()
    store = new_store(tmp_path / "a", offload=offload)
    offload.hold("commit")
    refused = []

    async def sync() -> None:
        try:
            await store.sync()
        except CacheDiskFailed as problem:
            refused.append(problem)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.checkpoint)
        await offload.reached("commit")
        make_file(store, 1, b"after the freeze")
        arm("meta.sync.before=error,meta.commit.before:2=error")
        nursery.start_soon(sync)
        await somebody_waits(store)
        offload.release("commit")
    assert refused
    await store.sync()
    assert store.statistics().applied_sequence == store.statistics().sequence


async def somebody_waits(store: MetaStore) -> None:
    """Until somebody waits for the commit under way to end."""
    while not store._committer._committing.statistics().tasks_waiting:
        await trio.lowlevel.checkpoint()


async def test_bytes_the_disk_lost_end_all_promises_until_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = new_store(tmp_path / "a")

    def broken(path: str) -> bool:
        raise OSError(errno.EIO, "Input/output error")

    with store.transaction() as tx:
        tx.put_setting("x", b"1")
        tx.needs_data_sync("/cache/file")
    with monkeypatch.context() as patch:
        patch.setattr(writer, "datasync_path", broken)
        await store.checkpoint()
    assert store.statistics().failed_data_paths == ("/cache/file",)
    with pytest.raises(CacheDiskFailed, match="/cache/file"):
        await store.sync()
    make_file(store, 1, b"still works")


async def test_a_commit_that_fails_loses_nothing_and_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    store = new_store(tmp_path / "a")
    make_file(store, 1, b"first")
    for _ in range(2):
        arm("meta.commit.before=full")
        with pytest.raises(CacheDiskFull):
            await store.checkpoint()
    assert store.statistics().commit_error
    assert caplog.text.count("LMDB cannot take them") == 1, "logged once, not at every attempt"
    make_file(store, 1, b"second")
    assert names(store) == [b"first", b"second"]
    assert names(open_store(crashed_copy(store, tmp_path / "b"))) == [b"first", b"second"]
    await store.checkpoint()
    assert store.statistics().commit_error == ""
    assert store.statistics().waiting_keys == 0
    assert "work again" in caplog.text
    assert names(store) == [b"first", b"second"]
    assert check(store) == []


async def test_the_committer_commits_after_a_second_and_backs_off_while_it_fails(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    store = new_store(tmp_path / "a")
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        await trio.sleep(1.5)
        assert store.statistics().commit_count == 1
        await trio.sleep(1000)
        assert store.statistics().commit_count == 1, "no work, no commit"
        arm("meta.commit.before:1=full")
        make_file(store, 1, b"a")
        await trio.sleep(1.5)
        assert store.statistics().commit_error
        await trio.sleep(1)
        assert store.statistics().commit_error
        await trio.sleep(1)
        assert not store.statistics().commit_error
        assert store.statistics().commit_count == 2
        nursery.cancel_scope.cancel()
    store.close()


async def test_many_changes_are_committed_before_the_second_is_over(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer, "COMMIT_KEYS", 30)
    store = new_store(tmp_path / "a")
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        for number in range(20):
            make_file(store, 1, b"%d" % number)
        await trio.testing.wait_all_tasks_blocked()
        assert store.statistics().commit_count == 1
        assert trio.current_time() < 0.1
        nursery.cancel_scope.cancel()


async def test_segments_are_prepared_ahead_and_dropped_behind(tmp_path: Path) -> None:
    store = new_store(tmp_path / "a", limits=Limits(1 << 30, 16 << 10, 8), offload=Offload(2))
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        for number in range(400):
            make_file(store, 1, b"%d" % number)
            if number % 40 == 0:
                await store.checkpoint()
                await store._committer._prepare_spare()
        await store.checkpoint()
        nursery.cancel_scope.cancel()
    statistics = store.statistics()
    assert statistics.sequence * 300 > 6 * (16 << 10), "the test must cross several segments"
    assert statistics.journal_segments == 1
    assert len(segment_paths(store.directory / "journal")) <= 2
    assert check(store) == []


async def test_a_full_journal_refuses_cleanly_and_recovers(tmp_path: Path) -> None:
    store = new_store(tmp_path / "a", limits=Limits(1 << 30, 8 << 10, 2))
    arm("meta.commit.before=full")
    with pytest.raises(CacheDiskFull):
        await store.checkpoint()
    made = 0
    with pytest.raises(NoSpace):  # noqa: PT012
        for number in range(1000):
            make_file(store, 1, b"%d" % number)
            made += 1
    assert made > 10
    assert len(store.children(1)) == made
    assert store.inode_count == made + 1
    assert check(store) == []
    await store.checkpoint()
    make_file(store, 1, b"again")
    assert len(open_store(crashed_copy(store, tmp_path / "b")).children(1)) == made + 1


async def test_a_store_opens_on_a_full_disk_and_keeps_what_lmdb_cannot_take(tmp_path: Path) -> None:
    store = new_store(tmp_path / "a")
    await store.checkpoint()
    ino = make_file(store, 1, b"a", dirty=5, size=3)
    copy = crashed_copy(store, tmp_path / "b")
    arm("meta.commit.before=full")
    again = open_store(copy)
    assert again.statistics().commit_error
    assert names(again) == [b"a"]
    assert check(again) == []
    assert list(again.iter_dirty()) == [(5, ino)]
    make_file(again, 1, b"b")
    # Killed once more before LMDB had room: the old segments and the new one both count.
    third = open_store(crashed_copy(again, tmp_path / "c"))
    assert names(third) == [b"a", b"b"]
    assert check(third) == []
    await again.checkpoint()
    assert names(again) == [b"a", b"b"]
    assert check(again) == []


def test_closing_and_opening_leaves_an_empty_journal(tmp_path: Path) -> None:
    store = new_store(tmp_path / "a")
    make_file(store, 1, b"a")
    store.close()
    again = open_store(tmp_path / "a")
    assert again.statistics().replayed == 0
    assert len(segment_paths(tmp_path / "a" / "journal")) == 1
    assert names(again) == [b"a"]
    again.close()


async def test_a_check_beside_running_changes_finds_nothing(tmp_path: Path) -> None:
    store = new_store(tmp_path / "a")
    directories = [make_directory(store, 1, b"d%d" % number) for number in range(10)]
    finished = trio.Event()

    async def busy() -> None:
        number = 0
        while not finished.is_set():
            number += 1
            ino = make_file(store, directories[number % 10], b"%d" % number, dirty=number)
            if number % 3 == 0:
                with store.transaction() as tx:
                    tx.put(replace(tx.require(ino), parent=directories[0], name=b"moved %d" % number))
            if number % 5 == 0:
                with store.transaction() as tx:
                    tx.remove(ino)
            if number % 50 == 0:
                await store.checkpoint()
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(busy)
        for _ in range(200):
            await trio.lowlevel.checkpoint()
        assert await check_online(store) == []
        finished.set()
    assert check(store) == []


VICTIM = """
import sys, trio
from pathlib import Path
from gatewayfs.meta.env import Limits
from gatewayfs.runtime.offload import Offload
from tests.component.meta.stores import *

async def main():
    store = new_store(Path(sys.argv[1]), offload=Offload(2), limits=Limits(1 << 30, 8 << 10, 8))
    for number in range(200):
        make_file(store, 1, b"%d" % number, dirty=number + 1)
        print(number, flush=True)
        if number % 7 == 0:
            await store.sync()
        if number % 20 == 0:
            await store.checkpoint()
            store._committer.committed = store._committer.writer.rewrite_recovery_log(number)
trio.run(main)
"""


@pytest.mark.parametrize("name", sorted(name for name in FAILPOINTS if name.startswith("meta.")))
@pytest.mark.parametrize("hit", [1, 2])
def test_killed_at_any_failpoint_everything_acknowledged_is_there(tmp_path: Path, name: str, hit: int) -> None:
    directory = tmp_path / "cache"
    environment = {**os.environ, "GATEWAYFS_FAILPOINTS": f"{name}:{hit}=kill"}
    result = subprocess.run(
        [sys.executable, "-c", VICTIM, str(directory)], env=environment, capture_output=True, check=False, timeout=60
    )
    assert result.returncode == -9, f"never got there: {result.stderr.decode()}"
    acknowledged = {line for line in result.stdout.split()}
    store = open_store(directory, boot="second boot")
    store_names = set(names(store))
    assert acknowledged <= store_names
    assert len(store_names - acknowledged) <= 1
    assert check(store) == []
    store.close()


def full_disk(tmp_path: Path, size: str) -> Path:
    """A small file system of its own."""
    target = tmp_path / "disk"
    target.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(target)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    return target


@pytest.fixture
def small_disk(tmp_path: Path):  # type: ignore[no-untyped-def]
    target = full_disk(tmp_path, "8m")
    yield target
    subprocess.run(["umount", "-l", str(target)], check=True)


async def test_a_disk_that_fills_up_stops_changes_not_reads_and_recovers(small_disk: Path, tmp_path: Path) -> None:
    cache = small_disk / "cache"
    store = new_store(cache, limits=Limits(64 << 20, 512 << 10, 8))
    ballast = small_disk / "ballast"
    for number in range(100):
        make_file(store, 1, b"%04d" % number, dirty=number + 1)
    await store.checkpoint()
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):  # noqa: PT012
        while True:
            file.write(bytes(4096))
    made = 100
    with pytest.raises(NoSpace):  # noqa: PT012
        for number in range(100, 100_000):
            make_file(store, 1, b"%04d" % number, dirty=number + 1)
            made += 1
            if number % 500 == 0:
                try:
                    await store.checkpoint()
                except CacheDiskFull:
                    pass
    assert store.statistics().commit_error
    assert made > 500
    assert len(store.children(1, limit=100_000)) == made
    copy = tmp_path / "copy"
    shutil.copytree(cache, copy)
    assert len(open_store(copy).children(1, limit=100_000)) == made
    # Killed and started again while the disk is still full.
    store.abandon()
    store = open_store(cache, limits=Limits(64 << 20, 512 << 10, 8))
    assert len(store.children(1, limit=100_000)) == made
    ballast.unlink()
    await store.checkpoint()
    assert store.statistics().commit_error == ""
    make_file(store, 1, b"again")
    assert check(store) == []
    store.close()
