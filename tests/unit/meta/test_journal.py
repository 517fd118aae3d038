"""The journal's promises: what is there after a crash, after power loss, after damage, and on a full disk."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayfs.errors import CacheDiskFailed, CorruptRecord, NoSpace
from gatewayfs.meta import frames, journal
from gatewayfs.meta.frames import FRAME_HEADER_BYTES, SEGMENT_HEADER_BYTES, boot_digest
from gatewayfs.meta.journal import Journal, delete_segments, prepare_segment, segment_paths
from gatewayfs.meta.replay import Replay, erase_frames_after

HERE, THERE = boot_digest("this boot"), boot_digest("another boot")
PAYLOAD = b"x" * 40
FRAME = FRAME_HEADER_BYTES + len(PAYLOAD)


def make(
    directory: Path, *, segment_bytes: int = 4096, segments_max: int = 8, sequence: int = 0, boot: bytes = HERE
) -> Journal:
    number = 1 + max((int(path.stem, 16) for path in segment_paths(directory)), default=0)
    return Journal(directory, boot, sequence, number, segment_bytes, segments_max)


def fill(target: Journal, count: int, *, needs_data: bool = False) -> None:
    for _ in range(count):
        target.append(b"%016d" % (target.sequence + 1) + PAYLOAD[16:], needs_data)


def replay(directory: Path, applied: int = 0, boot: bytes = HERE) -> tuple[list[int], Replay]:
    reader = Replay(directory, applied, boot)
    found = []
    for frame in reader:
        assert not frame.payload or int(frame.payload[:16]) == frame.sequence
        found.append(frame.sequence)
    return found, reader


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def place(number: int) -> int:
    """Offset of the n-th frame of a segment."""
    return SEGMENT_HEADER_BYTES + (number - 1) * FRAME


def test_everything_appended_is_read_across_segments(tmp_path: Path) -> None:
    target = make(tmp_path)
    fill(target, 100)
    assert len(target.segments) > 2
    found, reader = replay(tmp_path)
    assert found == list(range(1, 101))
    assert (reader.last_sequence, reader.dropped) == (100, 0)
    assert replay(tmp_path, applied=97)[0] == [98, 99, 100]
    assert replay(tmp_path, applied=100)[0] == []


def test_a_torn_tail_is_the_end(tmp_path: Path) -> None:
    target = make(tmp_path)
    fill(target, 10)
    overwrite(target.segments[-1].path, place(10) + 60, b"torn")
    assert replay(tmp_path)[0] == list(range(1, 10))


def test_unsynced_pages_that_came_out_of_order_end_the_journal(tmp_path: Path) -> None:
    target = make(tmp_path)
    fill(target, 4)
    target.synced = 4
    fill(target, 6)
    overwrite(target.segments[-1].path, place(6), bytes(FRAME))
    found, reader = replay(tmp_path)
    assert found == [1, 2, 3, 4, 5]
    assert reader.dropped == 4


def test_damage_to_what_was_synced_is_refused_with_the_cure(tmp_path: Path) -> None:
    target = make(tmp_path)
    fill(target, 4)
    target.synced = 4
    fill(target, 6)
    overwrite(target.segments[-1].path, place(3), bytes(FRAME))
    with pytest.raises(CorruptRecord, match="gatewayfs recover"):
        replay(tmp_path)
    # Unless LMDB has it all the same: then nothing is lost.
    assert replay(tmp_path, applied=3)[0] == [4, 5, 6, 7, 8, 9, 10]


def test_a_lost_segment_is_refused_when_it_had_been_synced(tmp_path: Path) -> None:
    target = make(tmp_path)
    fill(target, 50)
    target.synced = target.sequence
    fill(target, 50)
    target.segments[0].path.unlink()
    with pytest.raises(CorruptRecord):
        replay(tmp_path)


def test_dropped_frames_stay_dropped_when_new_ones_take_their_numbers(tmp_path: Path) -> None:
    target = make(tmp_path)
    fill(target, 10)
    overwrite(target.segments[-1].path, place(6), bytes(FRAME))
    # A start that could not empty the journal goes on behind it, from 6.
    later = make(tmp_path, sequence=5)
    later.append(b"%016d new" % 6, False)
    later.append(b"%016d new" % 7, False)
    payloads = [frame.payload for frame in Replay(tmp_path, 0, HERE)]
    assert [int(payload[:16]) for payload in payloads] == [1, 2, 3, 4, 5, 6, 7]
    assert all(payload.endswith(b" new") for payload in payloads[5:])


def test_after_power_loss_the_journal_ends_before_data_that_may_be_missing(tmp_path: Path) -> None:
    target = make(tmp_path)
    fill(target, 3, needs_data=True)
    target.ordered = 3
    fill(target, 2)
    fill(target, 1, needs_data=True)
    fill(target, 1)
    assert replay(tmp_path, boot=HERE)[0] == [1, 2, 3, 4, 5, 6, 7]
    assert replay(tmp_path, boot=THERE)[0] == [1, 2, 3, 4, 5]
    assert replay(tmp_path, boot=boot_digest(""))[0] == [1, 2, 3, 4, 5]


def test_a_run_over_old_segments_vouches_for_its_own_frames_only(tmp_path: Path) -> None:
    target = make(tmp_path)
    fill(target, 3)
    fill(target, 1, needs_data=True)
    fill(target, 1)
    assert replay(tmp_path, boot=THERE)[0] == [1, 2, 3]
    erase_frames_after(tmp_path, 3)
    assert replay(tmp_path)[0] == [1, 2, 3]
    later = make(tmp_path, sequence=3, boot=THERE)
    later.append(b"%016d new" % 4, True)
    later.ordered = 4
    later.append(b"%016d new" % 5, False)
    for boot in (THERE, boot_digest("a third boot")):
        payloads = [frame.payload for frame in Replay(tmp_path, 3, boot)]
        assert payloads == [b"%016d new" % 4, b"%016d new" % 5]


def test_what_a_run_said_was_on_disk_stays_said_when_the_next_one_knows_less(tmp_path: Path) -> None:
    target = make(tmp_path)
    fill(target, 3, needs_data=True)
    target.ordered = 3
    fill(target, 1)
    # LMDB was full at the start: what the next run knows to be on disk is what LMDB holds.
    later = make(tmp_path, sequence=4)
    later.synced = 4
    fill(later, 1)
    assert replay(tmp_path, boot=THERE)[0] == [1, 2, 3, 4, 5]


def test_a_full_disk_leaves_the_journal_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = make(tmp_path)
    fill(target, 40)

    def full(fd: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(NoSpace):
        fill(target, 100)
    before = target.sequence
    files = segment_paths(tmp_path)
    with pytest.raises(NoSpace):
        fill(target, 1)
    assert target.sequence == before
    assert segment_paths(tmp_path) == files
    monkeypatch.undo()
    fill(target, 1)
    assert replay(tmp_path)[0] == list(range(1, before + 2))


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, NoSpace), (errno.EIO, CacheDiskFailed)])
def test_a_failed_append_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception]
) -> None:
    target = make(tmp_path)
    fill(target, 3)
    real = os.pwrite
    calls = []

    def half(fd: int, data: bytes, offset: int) -> int:
        calls.append(offset)
        if len(calls) == 1:
            real(fd, data[: len(data) - 4], offset)
            raise OSError(number, os.strerror(number))
        return real(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", half)
    with pytest.raises(kind):
        target.append(b"%016d" % 4 + PAYLOAD[16:] + b"1", False)  # 7 bytes of padding: what was written is whole
    assert replay(tmp_path)[0] == [1, 2, 3]
    fill(target, 1)
    assert replay(tmp_path)[0] == [1, 2, 3, 4]


def test_the_journal_is_bounded(tmp_path: Path) -> None:
    target = make(tmp_path, segments_max=3)
    with pytest.raises(NoSpace, match="journal is full"):
        fill(target, 1000)
    last = target.sequence
    delete_segments(tmp_path, target.take_droppable(last, set()))
    fill(target, 1)
    assert replay(tmp_path, applied=last)[0] == [last + 1]


def test_only_what_is_committed_can_be_dropped(tmp_path: Path) -> None:
    target = make(tmp_path)
    fill(target, 100)
    second_ends = target.segments[1].last_sequence
    delete_segments(tmp_path, target.take_droppable(second_ends - 1, set()))
    assert replay(tmp_path, applied=second_ends - 1)[0] == list(range(second_ends, 101))
    assert target.take_droppable(100, {segment.fd for segment in target.segments}) == []


def test_a_prepared_segment_is_used_and_an_outdated_one_refused(tmp_path: Path) -> None:
    target = make(tmp_path)
    fill(target, 12)
    assert target.wants_spare
    early = prepare_segment(tmp_path, target.take_number(), HERE, 4096)
    assert target.accept_spare(early)
    assert not target.wants_spare
    fill(target, 60)
    assert early in target.segments
    slow = prepare_segment(tmp_path, target.take_number(), HERE, 4096)
    fill(target, 60)
    assert not target.accept_spare(slow)
    assert replay(tmp_path)[0] == list(range(1, 133))


def test_a_transaction_larger_than_a_segment_gets_one_of_its_own(tmp_path: Path) -> None:
    target = make(tmp_path)
    fill(target, 1)
    target.spare = prepare_segment(tmp_path, target.take_number(), HERE, 4096)
    target.append(b"%016d" % 2 + bytes(100_000), False)
    fill(target, 60)
    assert replay(tmp_path)[0] == list(range(1, 63))


def test_the_limit_on_forgotten_inode_numbers_holds() -> None:
    # An inode's creation is an I, a D and a C entry at least; see SEGMENTS_MAX and opening.INO_GAP.
    from gatewayfs.meta import codec, opening
    from tests.component.meta.stores import file_inode

    inode = file_inode(2, 1, b"a")
    changes = [
        (codec.inode_key(2), codec.encode(inode)),
        (codec.dentry_key(1, b"a"), bytes(8)),
        (codec.child_key(1, 2), b""),
    ]
    smallest = frames.frame_bytes(len(codec.encode(changes)))
    assert journal.SEGMENT_BYTES * journal.SEGMENTS_MAX / smallest < opening.INO_GAP


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.sampled_from(["append", "append data", "sync"]), max_size=40),
    damage=st.lists(st.integers(0, 60), max_size=4),
    other_boot=st.booleans(),
)
def test_after_any_power_loss_a_prefix_with_everything_synced_remains(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], damage: list[int], other_boot: bool
) -> None:
    directory = tmp_path_factory.mktemp("journal")
    target = make(directory, segment_bytes=1024)
    where: list[tuple[Path, int, int]] = []
    for step in steps:
        if step == "sync":
            # As the committer does: cache files, a frame that says so, then the journal.
            target.ordered = target.sequence
            target.append(b"", False)
            target.synced = target.sequence
        else:
            fill(target, 1, needs_data=step == "append data")
            where.append((target.segments[-1].path, target.segments[-1].end - FRAME, target.sequence))
    target.close()
    for path, offset, sequence in (where[number] for number in damage if number < len(where)):
        if sequence > target.synced:
            overwrite(path, offset, bytes(FRAME))
    found, _ = replay(directory, boot=THERE if other_boot else HERE)
    assert found == list(range(1, len(found) + 1))
    assert len(found) >= target.synced
    if not other_boot and not damage:
        assert len(found) == target.sequence
