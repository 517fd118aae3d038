"""rename(2) on a real mount: every flag, every pair of types, open files and moved directories."""

import errno
import os
from pathlib import Path

import pytest

from tests.support.gateway import Gateway
from tests.support.s3server import Bucket
from tests.support.syscalls import (
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    RENAME_WHITEOUT,
    fails,
    renameat2,
    write_file,
)


def make(path: Path, kind: str) -> Path:
    if kind == "file":
        write_file(path, os.fsencode(path.name))
    elif kind == "link":
        os.symlink(path.name, path)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind in ("dir", "full"):
        path.mkdir()
        if kind == "full":
            write_file(path / "inside")
    return path


@pytest.mark.semantics("rename")
@pytest.mark.parametrize("old", ["file", "link", "fifo", "dir", "full"])
@pytest.mark.parametrize("new", ["nothing", "file", "link", "fifo", "dir", "full"])
def test_rename_replaces_what_posix_says_and_nothing_else(work: Path, old: str, new: str) -> None:
    source, target = make(work / "a", old), make(work / "b", new)
    ino = source.lstat().st_ino
    directory = old in ("dir", "full")
    wrong = {
        (False, "dir"): errno.EISDIR,
        (False, "full"): errno.EISDIR,
        (True, "file"): errno.ENOTDIR,
        (True, "link"): errno.ENOTDIR,
        (True, "fifo"): errno.ENOTDIR,
        (True, "full"): errno.ENOTEMPTY,
    }.get((directory, new))
    if wrong:
        with fails(wrong):
            os.rename(source, target)
        assert sorted(os.listdir(work)) == ["a", "b"]
        return
    os.rename(source, target)
    assert os.listdir(work) == ["b"]
    assert target.lstat().st_ino == ino
    if old == "full":
        assert os.listdir(target) == ["inside"]


@pytest.mark.semantics("rename")
def test_renaming_onto_itself_changes_nothing(work: Path) -> None:
    write_file(work / "a", b"content")
    os.rename(work / "a", work / "a")
    assert (work / "a").read_bytes() == b"content"


@pytest.mark.semantics("rename")
def test_a_directory_cannot_move_into_itself(work: Path) -> None:
    (work / "a" / "b").mkdir(parents=True)
    with fails(errno.EINVAL):
        os.rename(work / "a", work / "a" / "b" / "c")
    with fails(errno.ENOTEMPTY):
        os.rename(work / "a" / "b", work / "a")


@pytest.mark.semantics("rename")
def test_missing_names_are_enoent(work: Path) -> None:
    write_file(work / "a")
    for old, new in ((work / "none", work / "b"), (work / "a", work / "none" / "b")):
        with fails(errno.ENOENT):
            os.rename(old, new)
    assert os.listdir(work) == ["a"]


@pytest.mark.semantics("rename-noreplace")
def test_noreplace_moves_but_never_replaces(work: Path) -> None:
    write_file(work / "a", b"a")
    write_file(work / "b", b"b")
    with fails(errno.EEXIST):
        renameat2(work / "a", work / "b", RENAME_NOREPLACE)
    renameat2(work / "a", work / "c", RENAME_NOREPLACE)
    assert {name: (work / name).read_bytes() for name in os.listdir(work)} == {"b": b"b", "c": b"a"}


@pytest.mark.semantics("rename-exchange")
def test_exchange_swaps_files_directories_and_both(work: Path) -> None:
    write_file(work / "file", b"content")
    make(work / "dir", "full")
    (work / "sub").mkdir()
    write_file(work / "sub" / "other", b"other")
    renameat2(work / "file", work / "sub" / "other", RENAME_EXCHANGE)
    assert ((work / "file").read_bytes(), (work / "sub" / "other").read_bytes()) == (b"other", b"content")
    renameat2(work / "file", work / "dir", RENAME_EXCHANGE)
    assert (work / "dir").read_bytes() == b"other"
    assert os.listdir(work / "file") == ["inside"]
    renameat2(work / "file", work / "sub", RENAME_EXCHANGE)
    assert (os.listdir(work / "file"), os.listdir(work / "sub")) == (["other"], ["inside"])
    with fails(errno.ENOENT):
        renameat2(work / "file", work / "none", RENAME_EXCHANGE)
    with fails(errno.EINVAL):
        renameat2(work / "file", work / "file" / "other", RENAME_EXCHANGE)


@pytest.mark.semantics("rename-exchange")
def test_exchange_counts_links_of_both_directories(work: Path) -> None:
    (work / "one" / "dir").mkdir(parents=True)
    (work / "two").mkdir()
    write_file(work / "two" / "file")
    renameat2(work / "one" / "dir", work / "two" / "file", RENAME_EXCHANGE)
    assert ((work / "one").stat().st_nlink, (work / "two").stat().st_nlink) == (2, 3)


@pytest.mark.semantics("rename-flags")
def test_unknown_flags_are_refused(work: Path) -> None:
    write_file(work / "a", b"a")
    with fails(errno.EINVAL):
        renameat2(work / "a", work / "b", RENAME_WHITEOUT)
    with fails(errno.EINVAL):
        renameat2(work / "a", work / "b", RENAME_EXCHANGE | RENAME_NOREPLACE)
    assert os.listdir(work) == ["a"]


@pytest.mark.semantics("rename-open")
def test_a_replaced_file_lives_on_for_those_who_have_it_open(work: Path) -> None:
    write_file(work / "new", b"new")
    write_file(work / "old", b"old content")
    fd = os.open(work / "old", os.O_RDWR)
    os.rename(work / "new", work / "old")
    assert (work / "old").read_bytes() == b"new"
    assert os.fstat(fd).st_nlink == 0
    assert os.pread(fd, 100, 0) == b"old content"
    os.pwrite(fd, b"OLD", 0)
    assert os.pread(fd, 100, 0) == b"OLD content"
    os.close(fd)
    assert (work / "old").read_bytes() == b"new"


@pytest.mark.semantics("rename-open")
def test_an_open_file_can_be_renamed_and_written(work: Path) -> None:
    fd = os.open(work / "a", os.O_CREAT | os.O_RDWR)
    os.write(fd, b"before ")
    os.rename(work / "a", work / "b")
    os.write(fd, b"after")
    os.close(fd)
    assert (work / "b").read_bytes() == b"before after"
    assert os.listdir(work) == ["b"]


@pytest.mark.semantics("rename-directory")
def test_a_directory_moves_with_everything_below(work: Path) -> None:
    for name in ("top/x/y/z", "top/empty"):
        (work / name).mkdir(parents=True)
    write_file(work / "top" / "x" / "y" / "file", b"deep")
    fd = os.open(work / "top" / "x" / "y" / "file", os.O_RDWR)
    (work / "elsewhere").mkdir()
    os.rename(work / "top", work / "elsewhere" / "moved")
    write_file(work / "elsewhere" / "moved" / "x" / "late", b"late")
    os.pwrite(fd, b"DEEP", 0)
    os.close(fd)
    found = sorted(str(path.relative_to(work)) for path in work.rglob("*"))
    assert found == [
        "elsewhere",
        *(f"elsewhere/moved{tail}" for tail in ("", "/empty", "/x", "/x/late", "/x/y", "/x/y/file", "/x/y/z")),
    ]
    assert (work / "elsewhere/moved/x/y/file").read_bytes() == b"DEEP"


@pytest.mark.semantics("rename-directory", "object-per-file")
def test_the_bucket_follows_renames_swaps_and_cycles(work: Path, mounted: Gateway) -> None:
    for name in ("a", "b", "c"):
        write_file(work / name, name.encode() * 100_000)
        make(work / f"dir-{name}", "dir")
        write_file(work / f"dir-{name}" / "inside", name.encode())
    mounted.drain()
    for names in (("a", "b", "c"), ("dir-a", "dir-b", "dir-c")):
        os.rename(work / names[0], work / "t")
        os.rename(work / names[1], work / names[0])
        os.rename(work / names[2], work / names[1])
        os.rename(work / "t", work / names[2])
    renameat2(work / "dir-a" / "inside", work / "a", RENAME_EXCHANGE)
    mounted.drain()
    bucket: Bucket = mounted.bucket
    prefix = f"{work.name}/"
    assert bucket.keys(prefix) == [
        f"{prefix}{name}"
        for name in ("", "a", "b", "c", "dir-a/", "dir-a/inside", "dir-b/", "dir-b/inside", "dir-c/", "dir-c/inside")
    ]
    expected = {
        "a": b"b",
        "b": b"c" * 100_000,
        "c": b"a" * 100_000,
        "dir-a/inside": b"b" * 100_000,
        "dir-b/inside": b"c",
        "dir-c/inside": b"a",
    }
    assert {name: bucket.body(prefix + name) for name in expected} == expected
    assert {name: (work / name).read_bytes() for name in expected} == expected
