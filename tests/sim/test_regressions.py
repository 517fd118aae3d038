"""Programs that once failed, shrunk and named for what they proved wrong. Add, never remove."""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from gatewayfs.errors import StaleInode, Unavailable
from tests.sim.posixmodel import DIRECTORY
from tests.sim.program import Step, perform
from tests.sim.steps import (
    Close,
    Create,
    Disconnect,
    Drain,
    Evict,
    ForeignPut,
    Make,
    Open,
    Read,
    Refresh,
    Remove,
    Rename,
    Restart,
    SetAttributes,
    StartDrain,
    Sync,
    Trouble,
    Truncate,
    Wait,
    Write,
    WriteWhileRead,
    Xattr,
)
from tests.sim.world import PART_BYTES, ROOT_INO, SMALL_FILE_BYTES, World

A, B = b"a", b"b"
BIG = SMALL_FILE_BYTES + 1

SCHEDULES = 4
"""Each program runs under so many: some of them fail only when the right task comes first."""

PROGRAMS: dict[str, list[Step]] = {
    "closing_a_file_leaves_the_time_of_its_last_write": [Create(0, A), Write(0, 0, 1), Close(0)],
    "a_truncated_file_does_not_meet_its_old_bytes": [
        Create(0, A),
        Write(0, 0, 3 * BIG),
        Truncate(0, 0),
        Write(0, 2 * BIG, 1, 66),
        Close(0),
    ],
    "a_truncated_file_keeps_its_new_bytes_when_the_old_cache_file_goes": [
        Create(0, A),
        Write(0, 0, 3 * BIG),
        Sync(0),
        Truncate(0, 0),
        Sync(0),
        Write(0, 0, 2 * BIG, 66),
        Wait(3.0),
        Drain(),
    ],
    "an_evicted_file_that_is_read_again_at_once_keeps_its_cache_file": [
        Create(0, A),
        Write(0, 0, BIG),
        Close(0),
        Evict(0),
        WriteWhileRead(0, 8, 0, 1),
        Wait(3.0),
        Restart(crash=True),
    ],
    "a_cut_of_bytes_that_were_never_here_leaves_no_empty_cache_file": [ForeignPut(0, B, BIG), Truncate(0, 40)],
    "an_unrecorded_cache_file_goes_when_the_file_starts_over": [
        Create(0, A),
        Truncate(0, BIG),
        Open(0, 1, truncate=True),
    ],
    "a_fetch_that_failed_leaves_no_empty_cache_file": [
        ForeignPut(0, A, 10),
        Disconnect(),
        Truncate(0, 1),
        Create(0, A),
        Wait(100.0),
    ],
    "a_drain_while_a_small_file_is_open_finds_its_bytes": [Create(0, A), Write(0, 0, 10), Drain(), Write(0, 5, 10)],
    "renames_in_a_circle_are_drained": [
        Create(0, A),
        Close(0),
        Create(0, B),
        Write(0, 0, 3),
        Close(0),
        Drain(),
        Rename(0, 0, b"c"),
        Rename(0, 0, A),
        Rename(1, 0, B),
    ],
    "an_exchange_with_an_object_that_carries_no_attributes": [
        Create(0, A),
        ForeignPut(0, B, 1),
        Rename(0, 0, B, exchange=True),
    ],
    "a_tail_a_crash_left_does_not_come_back_in_a_hole": [
        Create(0, A),
        Write(0, 0, 300),
        Sync(0),
        Write(0, 300, 200),
        Restart(crash=True),
        Open(0),
        Write(0, 600, 10),
        Close(0),
    ],
    "an_explicit_time_is_not_overtaken_by_the_writes_before_it": [
        Create(0, A),
        Write(0, 0, BIG),
        SetAttributes(0, mtime_ns=1),
        Close(0),
    ],
    "an_upload_in_parts_whose_beginning_was_not_answered_is_found_and_aborted": [
        Create(0, A),
        Write(0, PART_BYTES, 1),
        Trouble("create_multipart", after=True),
        StartDrain(turns=6),
    ],
    "a_stop_keeps_what_was_fetched_for_a_file_that_is_open": [
        ForeignPut(0, A, BIG),
        Open(0),
        Read(0, 0, 1),
        Restart(crash=False),
    ],
    "a_rename_keeps_the_time_of_an_object_that_replaced_one_of_ours": [
        Create(0, A),
        SetAttributes(0, mtime_ns=1),
        Close(0),
        ForeignPut(0, A, 1),
        Rename(0, 0, B),
    ],
    "a_cut_that_leaves_no_byte_here_leaves_the_cache_file_that_goes_with_it_alone": [
        ForeignPut(0, A, 3 * BIG),
        Open(0),
        Write(0, 2 * BIG, 1),
        Sync(0),
        Truncate(0, BIG + 1),
        Write(0, 0, 1, 66),
        Close(0),
        Wait(100.0),
        Restart(crash=False),
    ],
    "a_fetch_after_such_a_cut_is_there_after_a_stop": [
        ForeignPut(0, A, 10),
        Create(0, A, append=True),
        Write(0, 0, 1),
        Drain(),
        Truncate(0, 1),
        Drain(),
        Restart(crash=False),
    ],
    "a_renamed_directory_takes_its_objects_along": [
        Make(DIRECTORY, 0, A),
        Create(1, B),
        Write(0, 0, BIG),
        Close(0),
        Drain(),
        Rename(0, 0, b"c"),
    ],
    "xattrs_are_named_in_full": [Make(DIRECTORY, 0, A), Xattr(0, b"user.a", b"\xff"), Xattr(0, b"user.b", b"")],
    "an_unlinked_open_file_leaves_nothing": [Create(0, A), Write(0, 0, BIG), Drain(), Remove(0), Write(0, 0, 1)],
    # The fsync falls into a commit: its marker was in no commit when the daemon stopped.
    "a_sync_beside_a_commit_leaves_no_gap_in_the_journal": [
        Make(DIRECTORY, 0, B),
        Wait(3.0),
        Create(0, A),
        Write(0, 0, 1),
        Sync(0, True),
        Restart(crash=False),
        Drain(),
        Restart(crash=True),
    ],
    "a_refresh_leaves_a_directory_the_time_its_entries_gave_it": [
        Make(DIRECTORY, 0, B),
        Drain(),
        Create(1, A),
        Close(0),
        Drain(),
        Refresh(0, recursive=False),
        Restart(crash=False),
        SetAttributes(1, 0o700, None, None),
        Drain(),
        Create(1, B),
        Refresh(0, recursive=False),
        Rename(0, 0, A),
        Drain(),
        Refresh(0, recursive=False),
    ],
}

UNLISTED: dict[str, tuple[list[str], list[Step]]] = {
    "looking_at_a_marker_that_is_being_moved_does_not_leave_it_behind": (
        ["b/b/"],
        [Rename(0, 0, A), Rename(0, 2, A, exchange=True)],
    ),
    "a_marker_waits_for_the_one_that_is_to_be_taken_away_from_its_key": (
        ["c/a/b/", "b/b/"],
        [Rename(0, 0, A), Rename(0, 1, A, exchange=True), Rename(0, 2, A, exchange=True)],
    ),
    "a_file_waits_for_the_unlisted_one_that_is_to_be_taken_away_from_its_key": (
        ["a/a"],
        [Rename(0, 0, B), Make(DIRECTORY, 0, A), Create(1, A), Write(0, 0, 1), Close(0)],
    ),
    "a_marker_that_goes_up_below_a_renamed_directory_does_not_strand_what_is_not_listed_yet": (
        ["a/b/c"],
        [SetAttributes(1, mtime_ns=1), Wait(1.0), Rename(0, 0, B), Wait(3.0)],
    ),
    # "b/b" comes to the place of "a", and its "b" to that of "a/b", before anybody has looked into the latter.
    "a_directory_does_not_claim_the_place_it_moves_to_before_the_one_whose_place_it_was": (
        ["a/b/b/", "b/a/", "a/a/b/c", "a", "a/", "b/b/b/c"],
        [WriteWhileRead(0, 0, 0, 1), Wait(0.5), Rename(5, 0, A, exchange=True), Open(0)],
    ),
}
"""Keys that were there before, and what was done to them before anybody looked."""


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_stays_fixed(name: str) -> None:
    for schedule in range(SCHEDULES):
        perform(PROGRAMS[name], schedule=schedule)


@pytest.mark.parametrize("name", UNLISTED)
@pytest.mark.semantics("existing-bucket")
def test_nothing_that_nobody_looked_at_gets_lost(name: str) -> None:
    existing, program = UNLISTED[name]
    for schedule in range(SCHEDULES):
        perform(program, existing=existing, schedule=schedule)


@pytest.mark.parametrize("turns", range(9))
def test_a_small_cold_file_read_and_written_at_once_keeps_the_write(turns: int) -> None:
    perform([ForeignPut(0, A, 10, 0o600), WriteWhileRead(0, turns, 0, 1)])


def in_a_world(tmp_path: Path, body: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        world = World(tmp_path)
        async with trio.open_nursery() as nursery:
            await world.start(nursery)
            await body(world)
            await world.stop()
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))


@pytest.mark.semantics("foreign-change-open")
@pytest.mark.parametrize("size", [20, 10 * BIG])
def test_open_files_follow_an_object_that_was_replaced_and_keep_what_is_written(tmp_path: Path, size: int) -> None:
    async def body(world: World) -> None:
        files = world.fs.files
        world.bucket.foreign_put("f", b"1" * size)
        ino = (await world.entries(ROOT_INO))[b"f"].ino
        reader, writer = await files.open(ino, os.O_RDONLY), await files.open(ino, os.O_RDWR)
        assert await files.read(reader, 0, 5) == b"11111"
        world.bucket.foreign_put("f", b"2" * (size + 1))
        await world.refresh.refresh(["/"], recursive=True)
        # The kernel has one page cache for both: old bytes read now would be shown to whoever opens the file next.
        assert await files.read(reader, 0, 5) == b"22222"
        await files.write(writer, 1, b"MINE")
        await files.flush(writer)
        assert await files.read(reader, 0, 6) == b"2MINE2"
        for number in (reader, writer):
            await files.release(number)
        await world.drain()
        assert world.bucket.raw["f"].data == b"2MINE" + b"2" * (size - 4)

    in_a_world(tmp_path, body)


@pytest.mark.semantics("foreign-change-open")
def test_a_write_to_a_file_deleted_by_others_is_not_acknowledged_into_nowhere(tmp_path: Path) -> None:
    async def body(world: World) -> None:
        files = world.fs.files
        world.bucket.foreign_put("f", b"1" * 10)
        ino = (await world.entries(ROOT_INO))[b"f"].ino
        writer = await files.open(ino, os.O_RDWR)
        world.bucket.foreign_delete("f")
        await world.refresh.refresh(["/"], recursive=True)
        assert await world.entries(ROOT_INO) == {}
        try:
            await files.write(writer, 0, b"MINE")
        except StaleInode:
            pass  # told so; or it goes on as a file without a name, as after unlink(2)
        await files.release(writer)
        await world.drain()
        assert world.bucket.raw == {}
        assert world.meta.orphan_count == 0

    in_a_world(tmp_path, body)


@pytest.mark.semantics("foreign-change-open")
@pytest.mark.parametrize("size", [20, 10 * BIG])
def test_a_replaced_object_costs_a_reader_one_error_and_nobody_else_anything(tmp_path: Path, size: int) -> None:
    async def body(world: World) -> None:
        files = world.fs.files
        world.bucket.foreign_put("f", b"1" * size)
        ino = (await world.entries(ROOT_INO))[b"f"].ino
        early, reader = await files.open(ino, os.O_RDONLY), await files.open(ino, os.O_RDONLY)
        assert await files.read(reader, 0, 5) == b"11111"
        world.cache.live(ino).sparse.extents.remove(5, size)  # as if only the first bytes had been fetched
        world.bucket.foreign_put("f", b"2" * (size + 1))
        if size > SMALL_FILE_BYTES:
            with pytest.raises(Unavailable):
                await files.read(reader, 5, 5)
        else:
            assert await files.read(reader, 5, 5) == b"11111"  # all of it was here
            await world.refresh.refresh(["/"], recursive=True)
        late = await files.open(ino, os.O_RDONLY)
        for number in (early, late, reader):
            assert await files.read(number, 0, 5) == b"22222"
            await files.release(number)

    in_a_world(tmp_path, body)


@pytest.mark.semantics("unlink-open")
def test_what_others_put_at_the_key_of_a_removed_open_file_appears(tmp_path: Path) -> None:
    async def body(world: World) -> None:
        files = world.fs.files
        world.bucket.foreign_put("f", b"1" * BIG)
        ino = (await world.entries(ROOT_INO))[b"f"].ino
        reader = await files.open(ino, os.O_RDONLY)
        await world.fs.names.unlink(ROOT_INO, b"f")
        await world.drain()
        await world.refresh.refresh(["/"], recursive=True)
        assert await world.entries(ROOT_INO) == {}, "the object is there for the reader only"
        world.bucket.foreign_put("f", b"2" * 5)
        await world.refresh.refresh(["/"], recursive=True)
        found = (await world.entries(ROOT_INO))[b"f"]
        assert (found.ino != ino, found.size) == (True, 5)
        with pytest.raises(Unavailable):
            await files.read(reader, 0, 5)
        await files.release(reader)
        await world.drain()
        assert world.bucket.raw["f"].data == b"2" * 5
        late = await files.open(found.ino, os.O_RDONLY)
        assert await files.read(late, 0, 5) == b"2" * 5
        await files.release(late)

    in_a_world(tmp_path, body)


@pytest.mark.semantics("rename-directory")
def test_a_tree_nobody_has_listed_moves_with_its_markers_and_their_data(tmp_path: Path) -> None:
    async def body(world: World) -> None:
        directory = {"file-permissions": "0040700", "file-owner": "7", "colour": "blue"}
        objects = {
            "top/": b"",
            "top/empty/": b"",
            "top/x/": b"",
            "top/x/y/": b"data",
            "top/x/y/f": b"f",
            "top/i/g": b"g",
        }
        for key, data in objects.items():
            world.bucket.foreign_put(key, data, directory if key.endswith("/") else {})
        await world.fs.renaming.rename(ROOT_INO, b"top", ROOT_INO, b"new", no_replace=False, exchange=False)
        await world.drain()
        stored = world.bucket.raw
        assert {key: found.data for key, found in stored.items()} == {
            key.replace("top/", "new/", 1): data for key, data in objects.items()
        }
        for key in ("new/", "new/empty/", "new/x/", "new/x/y/"):
            assert directory.items() <= stored[key].metadata.items(), key
        await world.refresh.refresh(["/"], recursive=True)
        assert list(await world.entries(ROOT_INO)) == [b"new"]
        inode = await world.fs.names.lookup((await world.entries(ROOT_INO))[b"new"].ino, b"empty")
        assert (oct(inode.mode), inode.uid) == ("0o40700", 7)

    in_a_world(tmp_path, body)


def test_a_refresh_beside_an_open_removed_file_shows_no_directory_for_its_object() -> None:
    """The object stays in the bucket while the file is open; its prefix was not taken for one in motion."""
    steps = [Open(0), Remove(2, False), Rename(0, 0, b"b"), Drain(), Refresh(0, False)]
    perform(steps, existing=["a/a", "b/"])
