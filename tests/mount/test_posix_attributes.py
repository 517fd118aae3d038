"""Attributes on a real mount: modes, owners, times, who may change them, and what changes by itself."""

import errno
import os
import stat
import time
from pathlib import Path

import pytest

from tests.support.syscalls import UTIME_NOW, UTIME_OMIT, acting_as, fails, utimensat, write_file

USER, GROUP, OTHER_GROUP = 1001, 2001, 2002
STRANGER = (1777, 2777)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def owned(path: Path, permissions: int = 0o644) -> Path:
    """A file that belongs to USER and GROUP."""
    write_file(path, b"content")
    os.chown(path, USER, GROUP)
    path.chmod(permissions)
    return path


@pytest.mark.semantics("attr-mode")
def test_chmod_keeps_all_twelve_bits_and_the_type(work: Path) -> None:
    file, directory = write_file(work / "f"), work / "d"
    directory.mkdir()
    for bits in (0o7777, 0o1777, 0o4755, 0o2755, 0o000, 0o644):
        file.chmod(bits)
        directory.chmod(bits)
        assert (mode(file), mode(directory)) == (bits, bits)
    assert stat.S_ISREG(file.stat().st_mode)
    assert stat.S_ISDIR(directory.stat().st_mode)


@pytest.mark.semantics("attr-mode", "permissions")
def test_only_owner_and_root_may_chmod(work: Path) -> None:
    file = owned(work / "f")
    with acting_as(USER, GROUP):
        file.chmod(0o600)
    with acting_as(*STRANGER), fails(errno.EPERM):
        file.chmod(0o666)
    assert mode(file) == 0o600


@pytest.mark.semantics("attr-owner")
def test_only_root_gives_files_away_and_owners_choose_among_their_groups(work: Path) -> None:
    file = owned(work / "f")
    with acting_as(USER, GROUP), fails(errno.EPERM):
        os.chown(file, STRANGER[0], -1)
    with acting_as(USER, GROUP), fails(errno.EPERM):
        os.chown(file, -1, OTHER_GROUP)
    with acting_as(USER, GROUP, [OTHER_GROUP]):
        os.chown(file, -1, OTHER_GROUP)
    with acting_as(*STRANGER), fails(errno.EPERM):
        os.chown(file, -1, STRANGER[1])
    assert (file.stat().st_uid, file.stat().st_gid) == (USER, OTHER_GROUP)
    os.chown(file, 0xFFFFFFFE - 1, -1)
    assert (file.stat().st_uid, file.stat().st_gid) == (0xFFFFFFFE - 1, OTHER_GROUP)


@pytest.mark.semantics("attr-setuid")
def test_chown_by_a_user_takes_setuid_and_setgid_away(work: Path) -> None:
    file = owned(work / "f", 0o6755)
    with acting_as(USER, GROUP, [OTHER_GROUP]):
        os.chown(file, -1, OTHER_GROUP)
    assert mode(file) == 0o755


@pytest.mark.semantics("attr-setuid")
def test_writing_takes_setuid_and_setgid_away(work: Path) -> None:
    file = owned(work / "f", 0o6777)
    with acting_as(*STRANGER):
        fd = os.open(file, os.O_WRONLY)
        os.write(fd, b"x")
        os.close(fd)
    assert mode(file) == 0o777


@pytest.mark.semantics("attr-setuid")
def test_truncating_takes_setuid_and_setgid_away(work: Path) -> None:
    for number, shorten in enumerate((lambda path: os.truncate(path, 1), lambda path: path.write_bytes(b""))):
        file = owned(work / f"f{number}", 0o6777)
        with acting_as(*STRANGER):
            shorten(file)
        assert mode(file) == 0o777


@pytest.mark.semantics("attr-setuid")
def test_setgid_cannot_be_set_by_somebody_outside_the_group(work: Path) -> None:
    file = owned(work / "f")
    os.chown(file, USER, OTHER_GROUP)
    with acting_as(USER, GROUP):
        file.chmod(0o2755)
    assert mode(file) == 0o755


@pytest.mark.semantics("permissions")
def test_the_mode_decides_who_reads_writes_and_searches(work: Path) -> None:
    file = owned(work / "f", 0o640)
    cases = [
        (USER, GROUP, [], True, True),
        (1500, GROUP, [], True, False),
        (1500, 1500, [GROUP], True, False),
        (*STRANGER, [], False, False),
    ]
    for uid, gid, groups, reads, writes in cases:
        with acting_as(uid, gid, groups):
            assert may(file, os.O_RDONLY) is reads, (uid, gid, groups)
            assert may(file, os.O_WRONLY) is writes, (uid, gid, groups)
    closed = work / "closed"
    closed.mkdir()
    write_file(closed / "inside")
    closed.chmod(0o700)
    with acting_as(*STRANGER):
        with fails(errno.EACCES):
            os.stat(closed / "inside")
        with fails(errno.EACCES):
            os.listdir(closed)
    closed.chmod(0o711)
    with acting_as(*STRANGER):
        os.stat(closed / "inside")
        with fails(errno.EACCES):
            os.listdir(closed)
        with fails(errno.EACCES):
            write_file(closed / "mine")
        with fails(errno.EACCES):
            os.unlink(closed / "inside")


def may(path: Path, flags: int) -> bool:
    try:
        os.close(os.open(path, flags))
    except PermissionError:
        return False
    return True


@pytest.mark.semantics("permissions")
def test_in_a_sticky_directory_only_the_owner_removes(work: Path) -> None:
    work.chmod(0o1777)
    owned(work / "f", 0o666)
    with acting_as(*STRANGER):
        with fails(errno.EPERM):
            os.unlink(work / "f")
        with fails(errno.EPERM):
            os.rename(work / "f", work / "g")
        write_file(work / "mine")
        with fails(errno.EPERM):
            os.rename(work / "mine", work / "f")
    with acting_as(USER, GROUP):
        os.unlink(work / "f")
    assert os.listdir(work) == ["mine"]


@pytest.mark.semantics("attr-times")
def test_times_keep_their_nanoseconds(work: Path) -> None:
    file = write_file(work / "f", b"x")
    for ns in (1, 999_999_999, 1_234_567_890_123_456_789, (2**33 + 5) * 10**9 + 7):
        os.utime(file, ns=(ns, ns + 1))
        assert (file.stat().st_atime_ns, file.stat().st_mtime_ns) == (ns, ns + 1)


@pytest.mark.semantics("attr-times")
def test_times_before_1970_are_kept(work: Path) -> None:
    file = write_file(work / "f", b"x")
    os.utime(file, ns=(-1_500_000_000, -86_400 * 10**9 * 365))
    assert (file.stat().st_atime_ns, file.stat().st_mtime_ns) == (-1_500_000_000, -86_400 * 10**9 * 365)


@pytest.mark.semantics("attr-times")
def test_utime_now_and_omit(work: Path) -> None:
    file = write_file(work / "f", b"x")
    os.utime(file, ns=(5, 6))
    utimensat(file, (0, UTIME_OMIT), (70, 7))
    assert (file.stat().st_atime_ns, file.stat().st_mtime_ns) == (5, 70 * 10**9 + 7)
    start = time.time_ns()
    utimensat(file, (0, UTIME_NOW), (0, UTIME_OMIT))
    assert start - 10**9 < file.stat().st_atime_ns < time.time_ns() + 10**9
    assert file.stat().st_mtime_ns == 70 * 10**9 + 7
    utimensat(file, (0, UTIME_NOW), (0, UTIME_NOW))
    assert file.stat().st_mtime_ns > start - 10**9


@pytest.mark.semantics("attr-times", "permissions")
def test_who_may_set_times(work: Path) -> None:
    file = owned(work / "f", 0o646)
    with acting_as(*STRANGER):
        os.utime(file)  # "now" is for everybody who may write
        with fails(errno.EPERM):
            os.utime(file, ns=(1, 1))
    file.chmod(0o644)
    with acting_as(*STRANGER), fails(errno.EACCES):
        os.utime(file)
    with acting_as(USER, GROUP):
        os.utime(file, ns=(1, 1))


@pytest.mark.semantics("attr-ctime")
@pytest.mark.parametrize(
    "change", ["chmod", "chown", "utime", "write", "truncate", "setxattr", "removexattr", "rename"]
)
def test_every_change_of_a_file_moves_its_ctime(work: Path, change: str) -> None:
    file = write_file(work / "f", b"content")
    os.setxattr(file, "user.old", b"1")
    before = file.stat()
    {
        "chmod": lambda: file.chmod(0o600),
        "chown": lambda: os.chown(file, 1, 1),
        "utime": lambda: os.utime(file, ns=(1, 1)),
        "write": lambda: write_file(file, b"other"),
        "truncate": lambda: os.truncate(file, 2),
        "setxattr": lambda: os.setxattr(file, "user.new", b"2"),
        "removexattr": lambda: os.removexattr(file, "user.old"),
        "rename": lambda: os.rename(file, work / "g"),
    }[change]()
    after = (work / "g" if change == "rename" else file).stat()
    assert after.st_ctime_ns > before.st_ctime_ns
    moved = change in ("write", "truncate", "utime")
    assert (after.st_mtime_ns != before.st_mtime_ns) is moved


@pytest.mark.semantics("attr-ctime")
def test_ctime_and_mtime_stand_still_when_nothing_changes(work: Path, mounted_drain) -> None:
    file = write_file(work / "f", b"content")
    before = file.stat()
    file.read_bytes()
    os.listdir(work)
    with pytest.raises(OSError):
        os.link(file, work / "g")
    mounted_drain()
    after = file.stat()
    assert (after.st_mtime_ns, after.st_ctime_ns) == (before.st_mtime_ns, before.st_ctime_ns)


@pytest.mark.semantics("attr-times")
def test_an_explicit_time_is_not_overtaken_by_a_write_before_it(work: Path) -> None:
    fd = os.open(work / "f", os.O_CREAT | os.O_WRONLY)
    os.write(fd, b"x")
    os.utime(fd, ns=(1, 2))
    assert os.fstat(fd).st_mtime_ns == 2
    os.close(fd)
    assert (work / "f").stat().st_mtime_ns == 2


@pytest.mark.semantics("attr-times")
def test_a_write_after_an_explicit_time_moves_it(work: Path) -> None:
    fd = os.open(work / "f", os.O_CREAT | os.O_WRONLY)
    os.utime(fd, ns=(1, 2))
    os.write(fd, b"x")
    assert os.fstat(fd).st_mtime_ns > 2
    os.close(fd)
    assert (work / "f").stat().st_mtime_ns > 2


@pytest.mark.semantics("attr-atime")
def test_reading_leaves_the_access_time_alone(work: Path) -> None:
    file = write_file(work / "f", b"content")
    os.utime(file, ns=(5, 6))
    assert file.read_bytes() == b"content"
    assert file.stat().st_atime_ns == 5


@pytest.mark.semantics("attr-blocks")
def test_blocks_and_sizes_add_up(work: Path) -> None:
    file = write_file(work / "f", b"x" * 5000)
    status = file.stat()
    assert status.st_size == 5000
    assert status.st_blocks * 512 >= 5000
    assert write_file(work / "empty").stat().st_blocks == 0
    assert status.st_blksize >= 4096


@pytest.mark.semantics("attr-inode-number")
def test_inode_numbers_stay_and_are_never_used_again(work: Path) -> None:
    seen = set()
    for number in range(20):
        file = write_file(work / "f", str(number).encode())
        assert file.stat().st_ino not in seen
        seen.add(file.stat().st_ino)
        os.rename(file, work / "g")
        assert (work / "g").stat().st_ino in seen
        os.unlink(work / "g")


@pytest.mark.semantics("statfs")
def test_statfs_has_blocks_and_a_name_maximum(work: Path) -> None:
    answer = os.statvfs(work)
    assert answer.f_namemax == 255
    assert min(answer.f_blocks, answer.f_bfree, answer.f_bavail, answer.f_files, answer.f_ffree) > 0
    assert answer.f_bsize >= 512


@pytest.mark.semantics("xattr-user")
def test_user_xattrs_hold_any_bytes(work: Path) -> None:
    directory = work / "d"
    directory.mkdir()
    for path in (write_file(work / "f"), directory):
        assert os.listxattr(path) == []
        values = {"user.text": b"value", "user.empty": b"", "user.binary": bytes(range(256)), "user.ünï code": b"\n"}
        for name, value in values.items():
            os.setxattr(path, name, value)
        assert {name: os.getxattr(path, name) for name in os.listxattr(path)} == values
        os.setxattr(path, "user.text", b"longer than before")
        assert os.getxattr(path, "user.text") == b"longer than before"
        os.removexattr(path, "user.text")
        assert "user.text" not in os.listxattr(path)
        for call in (os.getxattr, os.removexattr):
            with fails(errno.ENODATA):
                call(path, "user.text")


@pytest.mark.semantics("xattr-user")
def test_xattr_create_and_replace_say_what_they_miss(work: Path) -> None:
    file = write_file(work / "f")
    os.setxattr(file, "user.a", b"1", os.XATTR_CREATE)
    with fails(errno.EEXIST):
        os.setxattr(file, "user.a", b"2", os.XATTR_CREATE)
    with fails(errno.ENODATA):
        os.setxattr(file, "user.b", b"2", os.XATTR_REPLACE)
    os.setxattr(file, "user.a", b"3", os.XATTR_REPLACE)
    assert os.getxattr(file, "user.a") == b"3"


@pytest.mark.semantics("xattr-limit")
def test_xattrs_beyond_two_kilobytes_are_refused_and_the_old_ones_stay(work: Path) -> None:
    file = write_file(work / "f")
    os.setxattr(file, "user.small", b"v" * 500)
    with fails(errno.ENOSPC):
        os.setxattr(file, "user.large", b"v" * 2048)
    with fails(errno.ENOSPC):
        os.setxattr(file, "user.small", b"v" * 2048)
    assert os.listxattr(file) == ["user.small"]
    assert os.getxattr(file, "user.small") == b"v" * 500


@pytest.mark.semantics("xattr-namespaces")
def test_other_xattr_namespaces_are_not_supported(work: Path) -> None:
    file = write_file(work / "f")
    for name in ("trusted.a", "security.a"):
        with fails(errno.EOPNOTSUPP):
            os.setxattr(file, name, b"v")
    assert os.listxattr(file) == []
