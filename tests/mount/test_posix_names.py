"""Names on a real mount: what may be one, how long, and what creating and removing them does to the neighbourhood."""

import errno
import os
import shutil
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.gateway import Gateway
from tests.support.syscalls import acting_as, fails, write_file


@pytest.mark.semantics("names-length")
def test_a_name_has_255_bytes_and_not_one_more(work: Path) -> None:
    longest = work / ("n" * 255)
    write_file(longest, b"x")
    assert os.listdir(work) == ["n" * 255]
    for make in (lambda path: write_file(path), os.mkdir, lambda path: os.symlink("t", path), os.stat, os.mkfifo):
        with fails(errno.ENAMETOOLONG):
            make(work / ("n" * 256))
    with fails(errno.ENAMETOOLONG):
        os.rename(longest, work / ("n" * 256))
    assert longest.read_bytes() == b"x"


@pytest.mark.semantics("names-length")
def test_bytes_count_and_not_characters(work: Path) -> None:
    write_file(work / ("ü" * 127))
    with fails(errno.ENAMETOOLONG):
        write_file(work / ("ü" * 128))


@pytest.mark.semantics("names-key-length")
def test_a_path_ends_where_an_object_key_does(work: Path, mount_root: Path) -> None:
    deep = work
    while len(os.fsencode(deep.relative_to(mount_root))) < 800:
        deep = deep / ("d" * 100)
        deep.mkdir()
    used = len(os.fsencode(deep.relative_to(mount_root))) + 1
    room = 1024 - used - 1  # one byte is kept for the "/" of a directory marker
    assert room <= 255
    write_file(deep / ("f" * room), b"fits")
    os.mkdir(deep / ("d" * room))
    for make in (write_file, os.mkdir, os.mkfifo, lambda path: os.symlink("t", path)):
        with fails(errno.ENAMETOOLONG):
            make(deep / ("x" * (room + 1)))
    assert sorted(os.listdir(deep)) == ["d" * room, "f" * room]


@pytest.mark.semantics("names-key-length")
def test_renaming_a_directory_refuses_before_anything_when_a_child_would_not_fit(work: Path, mount_root: Path) -> None:
    top = work / "top"
    deep = top
    deep.mkdir()
    while len(os.fsencode(deep.relative_to(mount_root))) < 950:
        deep = deep / ("d" * min(200, 950 - len(os.fsencode(deep.relative_to(mount_root)))))
        deep.mkdir()
    leaf = write_file(deep / "leaf", b"safe")
    with fails(errno.ENAMETOOLONG):
        os.rename(top, work / ("t" * 200))
    assert leaf.read_bytes() == b"safe"
    assert os.listdir(work) == ["top"]
    os.rename(top, work / "t")  # shorter always fits
    assert (work / "t" / leaf.relative_to(top)).read_bytes() == b"safe"


@pytest.mark.semantics("names-utf8")
def test_a_name_that_is_no_utf8_is_refused_with_eilseq(work: Path) -> None:
    bad = os.fsencode(work) + b"/caf\xe9"
    for make in (lambda path: os.close(os.open(path, os.O_CREAT | os.O_WRONLY)), os.mkdir, os.mkfifo):
        with fails(errno.EILSEQ):
            make(bad)
    with fails(errno.EILSEQ):
        os.symlink(b"target", bad)
    good = write_file(work / "café")
    with fails(errno.EILSEQ):
        os.rename(os.fsencode(good), bad)
    assert os.listdir(work) == ["café"]


@pytest.mark.semantics("names-bytes")
def test_names_are_compared_byte_by_byte(work: Path) -> None:
    names = ["a", "A", "ä", "a\u0308", "a b", "a+b", "a%2Fb", "a\nb", "-", "*", "\\", "\x7f", "日本", "😀", "...", ".a"]
    for name in names:
        write_file(work / name, name.encode())
    assert sorted(os.listdir(work)) == sorted(names)
    for name in names:
        assert (work / name).read_bytes() == name.encode()


def test_a_missing_name_and_a_file_as_directory_have_their_errors(work: Path) -> None:
    file = write_file(work / "file")
    with fails(errno.ENOENT):
        os.stat(work / "none")
    with fails(errno.ENOENT):
        os.stat(work / "none" / "below")
    for call in (os.stat, os.listdir, os.mkdir, os.unlink, os.rmdir, lambda path: write_file(path)):
        with fails(errno.ENOTDIR):
            call(file / "below")
    with fails(errno.ENOTDIR):
        os.rmdir(file)
    with fails(errno.ENOTDIR):
        os.listdir(file)


@pytest.mark.semantics("unlink")
def test_unlink_refuses_directories_and_missing_names(work: Path) -> None:
    (work / "d").mkdir()
    with fails(errno.EISDIR):
        os.unlink(work / "d")
    with fails(errno.ENOENT):
        os.unlink(work / "none")


@pytest.mark.semantics("mkdir-rmdir")
def test_rmdir_takes_empty_directories_only(work: Path) -> None:
    (work / "d" / "e").mkdir(parents=True)
    with fails(errno.ENOTEMPTY):
        os.rmdir(work / "d")
    with fails(errno.EEXIST):
        os.mkdir(work / "d")
    with fails(errno.EINVAL):
        os.rmdir(f"{work}/d/.")
    os.rmdir(work / "d" / "e")
    write_file(work / "d" / "f")
    with fails(errno.ENOTEMPTY):
        os.rmdir(work / "d")
    os.unlink(work / "d" / "f")
    os.rmdir(work / "d")
    assert os.listdir(work) == []


@pytest.mark.semantics("mkdir-rmdir")
def test_nothing_can_be_made_in_a_removed_directory(work: Path) -> None:
    (work / "d").mkdir()
    fd = os.open(work / "d", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.rmdir(work / "d")
        with fails(errno.ENOENT):
            os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
        assert os.fstat(fd).st_nlink == 0
    finally:
        os.close(fd)


@pytest.mark.semantics("attr-nlink")
def test_a_directory_counts_its_subdirectories(work: Path) -> None:
    assert work.stat().st_nlink == 2
    for name in ("a", "b", "c"):
        (work / name).mkdir()
    write_file(work / "file")
    assert work.stat().st_nlink == 5
    (work / "a").rmdir()
    assert work.stat().st_nlink == 4
    os.rename(work / "b", work / "c" / "b")
    assert (work.stat().st_nlink, (work / "c").stat().st_nlink) == (3, 3)
    assert (work / "file").stat().st_nlink == 1


@pytest.mark.semantics("attr-parent-times")
@pytest.mark.parametrize("change", ["create", "mkdir", "symlink", "mkfifo", "unlink", "rmdir", "rename", "rename-away"])
def test_a_change_of_entries_moves_the_directory_times(work: Path, change: str) -> None:
    write_file(work / "old")
    (work / "olddir").mkdir()
    os.utime(work, ns=(10**18, 10**18))
    before = work.stat()
    assert before.st_mtime_ns == 10**18
    {
        "create": lambda: write_file(work / "new"),
        "mkdir": lambda: os.mkdir(work / "new"),
        "symlink": lambda: os.symlink("t", work / "new"),
        "mkfifo": lambda: os.mkfifo(work / "new"),
        "unlink": lambda: os.unlink(work / "old"),
        "rmdir": lambda: os.rmdir(work / "olddir"),
        "rename": lambda: os.rename(work / "old", work / "new"),
        "rename-away": lambda: os.rename(work / "old", work / "olddir" / "new"),
    }[change]()
    after = work.stat()
    assert after.st_mtime_ns > 10**18
    assert after.st_ctime_ns > before.st_ctime_ns


@pytest.mark.semantics("hard-links")
def test_hard_links_are_refused_with_eperm(work: Path) -> None:
    write_file(work / "a")
    with fails(errno.EPERM):
        os.link(work / "a", work / "b")
    assert os.listdir(work) == ["a"]
    assert (work / "a").stat().st_nlink == 1


@pytest.mark.semantics("symlinks")
def test_a_symlink_says_exactly_what_was_put_in(work: Path) -> None:
    for target in ("t", "../up/and/away", "/absolute", "dangling ünïcode", "x" * 4080):
        link = work / "link"
        os.symlink(target, link)
        assert os.readlink(link) == target
        status = link.lstat()
        assert status.st_size == len(os.fsencode(target))
        assert stat.S_ISLNK(status.st_mode)
        assert stat.S_IMODE(status.st_mode) == 0o777
        os.unlink(link)


@pytest.mark.semantics("symlinks")
def test_a_symlink_target_ends_at_4080_bytes(work: Path) -> None:
    with fails(errno.ENAMETOOLONG):
        os.symlink("x" * 4081, work / "link")
    assert os.listdir(work) == []


@pytest.mark.semantics("symlinks")
def test_symlinks_are_followed_and_loops_end_in_eloop(work: Path) -> None:
    write_file(work / "file", b"content")
    os.symlink("file", work / "link")
    assert (work / "link").read_bytes() == b"content"
    os.symlink("loop-b", work / "loop-a")
    os.symlink("loop-a", work / "loop-b")
    with fails(errno.ELOOP):
        os.stat(work / "loop-a")
    with fails(errno.ELOOP):
        os.open(work / "link", os.O_RDONLY | os.O_NOFOLLOW)
    os.unlink(work / "link")
    assert (work / "file").read_bytes() == b"content"


@pytest.mark.semantics("symlinks")
def test_a_symlink_has_its_own_owner_and_times(work: Path) -> None:
    write_file(work / "file")
    os.symlink("file", work / "link")
    os.lchown(work / "link", 1001, 1002)
    os.utime(work / "link", ns=(1, 1_500_000_000_123_456_789), follow_symlinks=False)
    status = (work / "link").lstat()
    assert (status.st_uid, status.st_gid, status.st_mtime_ns) == (1001, 1002, 1_500_000_000_123_456_789)
    assert (work / "file").stat().st_uid == 0


@pytest.mark.semantics("special-files")
def test_fifos_and_sockets_work(work: Path) -> None:
    os.mkfifo(work / "fifo", 0o640)
    status = (work / "fifo").stat()
    assert stat.S_ISFIFO(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == 0o640
    reader = os.open(work / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(work / "fifo", os.O_WRONLY)
    os.write(writer, b"through the kernel")
    assert os.read(reader, 100) == b"through the kernel"
    os.close(writer)
    os.close(reader)
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as calling:
        here = os.getcwd()
        os.chdir(work)  # a socket's path has 108 bytes at most
        try:
            listening.bind("sock")
            listening.listen()
            calling.connect("sock")
        finally:
            os.chdir(here)
    assert stat.S_ISSOCK((work / "sock").stat().st_mode)


@pytest.mark.semantics("special-files")
def test_device_nodes_are_kept_but_have_no_power(gateway: Callable[..., Gateway]) -> None:
    served = gateway()
    work = served.mount_dir
    os.mknod(work / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(work / "disk", stat.S_IFBLK | 0o600, os.makedev(259, 70_000))
    with fails(errno.EACCES):
        os.open(work / "null", os.O_RDONLY)
    served.drain()
    assert served.bucket.metadata("disk")["file-rdev"] == "259:70000"
    served.umount()
    shutil.rmtree(served.cache_dir)
    served.start()
    found = {name: (work / name).lstat() for name in ("null", "disk")}
    assert (found["null"].st_mode, found["null"].st_rdev) == (stat.S_IFCHR | 0o644, os.makedev(1, 3))
    assert (found["disk"].st_mode, found["disk"].st_rdev) == (stat.S_IFBLK | 0o600, os.makedev(259, 70_000))


def test_mknod_makes_regular_files(work: Path) -> None:
    os.mknod(work / "plain", stat.S_IFREG | 0o600)
    assert (work / "plain").read_bytes() == b""


@pytest.mark.semantics("attr-umask")
def test_new_files_and_directories_obey_the_umask(work: Path) -> None:
    before = os.umask(0o027)
    try:
        write_file(work / "f", mode=0o666)
        os.mkdir(work / "d", 0o777)
        os.mkfifo(work / "p", 0o666)
    finally:
        os.umask(before)
    assert [stat.S_IMODE((work / name).stat().st_mode) for name in "fdp"] == [0o640, 0o750, 0o640]


@pytest.mark.semantics("attr-owner")
def test_new_files_belong_to_their_maker(work: Path) -> None:
    with acting_as(1001, 1002):
        write_file(work / "f")
        os.mkdir(work / "d")
        os.symlink("t", work / "l")
        os.mkfifo(work / "p")
    for name in "fdlp":
        status = (work / name).lstat()
        assert (status.st_uid, status.st_gid) == (1001, 1002), name


@pytest.mark.semantics("attr-setgid-directory")
def test_a_setgid_directory_hands_its_group_down(work: Path) -> None:
    shared = work / "shared"
    shared.mkdir()
    os.chown(shared, 0, 4242)
    shared.chmod(0o2777)
    with acting_as(1001, 1002):
        write_file(shared / "f")
        os.mkdir(shared / "d", 0o755)
        os.mkdir(shared / "d" / "e")
        os.symlink("t", shared / "l")
    for name in ("f", "d", "d/e", "l"):
        assert (shared / name).lstat().st_gid == 4242, name
    assert stat.S_IMODE((shared / "d").stat().st_mode) & stat.S_ISGID
    assert stat.S_IMODE((shared / "d" / "e").stat().st_mode) & stat.S_ISGID
    assert not (shared / "f").stat().st_mode & stat.S_ISGID
