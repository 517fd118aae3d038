"""Reading directories on a real mount while they change: every entry that was there all the time, exactly once."""

import os
from pathlib import Path

import pytest

from tests.support.gateway import Gateway
from tests.support.syscalls import getdents, write_file


def fill(directory: Path, count: int) -> set[str]:
    names = {f"file-{number:05}" for number in range(count)}
    for name in names:
        os.close(os.open(directory / name, os.O_CREAT | os.O_WRONLY))
    return names


@pytest.mark.semantics("readdir")
def test_a_directory_lists_itself_its_parent_and_its_entries_once(work: Path) -> None:
    write_file(work / "f")
    (work / "d").mkdir()
    fd = os.open(work, os.O_RDONLY | os.O_DIRECTORY)
    entries = getdents(fd)
    assert getdents(fd) == []
    os.close(fd)
    assert sorted(entry.name for entry in entries) == [b".", b"..", b"d", b"f"]
    inos = {entry.name: entry.ino for entry in entries}
    assert inos[b"."] == work.stat().st_ino
    assert inos[b".."] == work.parent.stat().st_ino
    assert inos[b"f"] == (work / "f").stat().st_ino


@pytest.mark.semantics("readdir-types")
def test_entries_tell_their_types(work: Path) -> None:
    write_file(work / "file")
    (work / "dir").mkdir()
    os.symlink("x", work / "link")
    os.mkfifo(work / "fifo")
    with os.scandir(work) as entries:
        found = {entry.name: (entry.is_file(), entry.is_dir(), entry.is_symlink()) for entry in entries}
    assert found == {
        "file": (True, False, False),
        "dir": (False, True, False),
        "link": (False, False, True),
        "fifo": (False, False, False),
    }


@pytest.mark.semantics("readdir-changes")
def test_two_thousand_entries_can_be_deleted_while_they_are_listed(work: Path) -> None:
    names = fill(work, 2000)
    seen = []
    with os.scandir(work) as entries:
        for entry in entries:
            seen.append(entry.name)
            os.unlink(entry.path)
    assert len(seen) == len(set(seen))
    assert set(seen) == names
    assert os.listdir(work) == []


@pytest.mark.semantics("readdir-changes")
def test_what_stays_is_seen_once_while_others_come_and_go(work: Path) -> None:
    names = sorted(fill(work, 1500))
    goes, stays = set(names[::2]), set(names[1::2])
    seen: list[str] = []
    with os.scandir(work) as entries:
        for number, entry in enumerate(entries):
            seen.append(entry.name)
            if number % 5 == 0 and goes:
                os.unlink(work / goes.pop())
                os.close(os.open(work / f"new-{number}", os.O_CREAT | os.O_WRONLY))
            assert number < 10_000, "a listing that feeds on what it adds never ends"
    assert len(seen) == len(set(seen))
    assert stays <= set(seen)


@pytest.mark.semantics("readdir-offsets")
def test_a_position_stays_valid_while_entries_around_it_go(work: Path) -> None:
    fill(work, 300)
    fd = os.open(work, os.O_RDONLY | os.O_DIRECTORY)
    try:
        everything = []
        while batch := getdents(fd, 1024):
            everything += batch
        files = [entry for entry in everything if entry.name not in (b".", b"..")]
        assert len(files) == 300
        assert len({entry.offset for entry in everything}) == 302
        middle = files[150]
        for entry in files[100:200]:
            os.unlink(work / os.fsdecode(entry.name))
        os.lseek(fd, middle.offset, os.SEEK_SET)
        rest = []
        while batch := getdents(fd, 1024):
            rest += batch
        assert [entry.name for entry in rest] == [entry.name for entry in files[200:]]
        os.lseek(fd, 0, os.SEEK_SET)
        assert getdents(fd, 1024)[0].name == b"."
    finally:
        os.close(fd)


@pytest.mark.semantics("readdir-offsets")
def test_positions_survive_a_restart_of_the_daemon(work: Path, mounted: Gateway) -> None:
    fill(work, 200)
    before = listing(work)
    mounted.umount(drain=False)
    mounted.start()
    assert listing(work) == before


def listing(directory: Path) -> list[tuple[bytes, int, int]]:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        found = []
        while batch := getdents(fd):
            found += [(entry.name, entry.ino, entry.offset) for entry in batch]
        return found
    finally:
        os.close(fd)
