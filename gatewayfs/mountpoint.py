"""The directory we mount on: fit for it, freed from a crashed predecessor, given back at the end.

What is mounted where is read from the kernel's mount table, never by asking the mount: a crashed daemon's mount answers
every call with ENOTCONN, a hanging one does not answer at all. Where the mount itself must be asked, a thread does it
and may be left behind.
"""

import ctypes
import errno
import logging
import os
import re
import shutil
import stat
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

from gatewayfs.config import nested
from gatewayfs.errors import UserError

logger = logging.getLogger(__name__)

OUR_TYPE = "fuse.gatewayfs"
ANSWER_S_MAX = 5.0
_MNT_DETACH = 2


@dataclass(frozen=True, slots=True)
class Mounted:
    """One line of the mount table."""

    path: str
    type: str
    source: str


def mount_table(table: Path = Path("/proc/self/mountinfo")) -> list[Mounted]:
    """What is mounted, in order; of two on one directory the later covers the earlier."""
    mounts = []
    for line in table.read_bytes().splitlines():
        left, _, right = line.partition(b" - ")
        kind, source = right.split(b" ")[:2]
        mounts.append(Mounted(_unescape(left.split(b" ")[4]), _unescape(kind), _unescape(source)))
    return mounts


def mounted_at(path: Path) -> Mounted | None:
    """The mount that covers this very directory, or None."""
    return next((mount for mount in reversed(mount_table()) if mount.path == str(path)), None)


def resolve(path: Path) -> Path:
    """The directory's real path; its last component is not followed into what is mounted there."""
    absolute = Path(os.path.abspath(path))
    if absolute == Path("/"):
        return absolute
    place = Path(os.path.realpath(absolute.parent)) / absolute.name
    return place if mounted_at(place) is not None or not place.is_symlink() else Path(os.path.realpath(place))


def prepare_mountpoint(path: Path, *, cache_directory: Path, allow_nonempty: bool = False) -> Path:
    """Make sure that we can mount here; returns the real path.

    A dead mount of ours, left by a crash, stays until ``uncover``: as long as it is there, a program that goes on
    writing gets errors instead of filling the bare directory, where the next mount would hide what it wrote.

    Args:
        path: the directory to mount on.
        cache_directory: may lie neither in nor around it.
        allow_nonempty: whether entries of the directory may be covered.

    Raises:
        UserError: what is wrong with the directory, and the cure.
    """
    place = resolve(path)
    for clash in nested(Path(os.path.realpath(cache_directory)), place):
        raise UserError(clash, exit_code=2)
    if (mount := mounted_at(place)) is not None and mount.type.startswith("fuse"):
        _refuse_unless_dead(place, mount)
    else:
        _check_directory(place, allow_nonempty)
    return place


def uncover(place: Path, *, allow_nonempty: bool = False) -> None:
    """Detach what a crash left mounted here; the very next thing should be to mount.

    Args:
        place: as ``prepare_mountpoint`` returned it.
        allow_nonempty: whether entries of the directory may be covered.

    Raises:
        UserError: what is wrong with the directory, and the cure.
    """
    covered = False
    while (mount := mounted_at(place)) is not None and mount.type.startswith("fuse"):
        _refuse_unless_dead(place, mount)
        logger.warning("detaching the dead mount of %s on %s, left by a crash", mount.source, place)
        unmount(place, detach=True)
        covered = True
    if covered:
        _check_directory(place, allow_nonempty)


def _check_directory(place: Path, allow_nonempty: bool) -> None:
    try:
        mode = place.stat().st_mode
    except FileNotFoundError:
        raise UserError(f"the mount directory {place} does not exist", f"mkdir -p {place}") from None
    except OSError as error:
        raise UserError(f"the mount directory {place} cannot be used: {error.strerror}") from error
    if not stat.S_ISDIR(mode):
        raise UserError(f"{place} is not a directory", "name an empty directory")
    if not allow_nonempty:
        _refuse_entries(place)


def unmount(path: Path, *, detach: bool = False) -> None:
    """Unmount the directory; the daemon behind it then ends by itself.

    Args:
        path: a mount directory, as ``resolve`` gives it.
        detach: take it out of sight even while it is in use, or dead.

    Raises:
        UserError: it is in use (EBUSY), or may not be unmounted by this user.
    """
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        failed = libc.umount2(os.fsencode(path), _MNT_DETACH if detach else 0)
        code, reason = ctypes.get_errno(), os.strerror(ctypes.get_errno())
    else:
        code, reason = _fusermount(path, detach)
        failed = code
    if failed and code == errno.EBUSY:
        raise UserError(f"{path} is in use by {_users_of(path)}", "leave the directory, close its files, and try again")
    if failed:
        raise UserError(f"{path} cannot be unmounted: {reason}")


def answers(path: Path) -> int:
    """Ask a mount whether it is alive: 0, its errno, or ETIMEDOUT when it does not answer in ANSWER_S_MAX.

    ``stat`` alone will not do: the kernel answers it from its cache for an hour after the daemon's death.
    """
    outcome: list[int] = []

    def ask() -> None:
        try:
            os.statvfs(path)
            os.stat(path)
            outcome.append(0)
        except OSError as error:
            outcome.append(error.errno or errno.EIO)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(ANSWER_S_MAX)
    return outcome[0] if outcome else errno.ETIMEDOUT


def _refuse_unless_dead(place: Path, mount: Mounted) -> None:
    outcome = answers(place)
    if outcome != errno.ENOTCONN:
        state = "does not answer" if outcome == errno.ETIMEDOUT else "is in use"
        raise UserError(
            f"{mount.source} is mounted on {place} already and {state}", f"unmount it first: gatewayfs umount {place}"
        )
    if mount.type != OUR_TYPE:
        raise UserError(f"a dead mount of {mount.type} is on {place}", f"umount -l {place}")


def _refuse_entries(place: Path) -> None:
    try:
        with os.scandir(place) as entries:
            entry = next(entries, None)
    except OSError as error:
        raise UserError(f"the mount directory {place} cannot be read: {error.strerror}") from error
    if entry is not None:
        raise UserError(
            f"the mount directory {place} is not empty (it has {entry.name!r}), and mounting would hide that",
            "name an empty directory, or add --set mount.options=nonempty",
        )


def _fusermount(path: Path, detach: bool) -> tuple[int, str]:
    program = shutil.which("fusermount3")
    if program is None:
        raise UserError("fusermount3 is not installed", "install the package fuse3")
    command = [program, "-u", *(["-z"] if detach else []), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return 0, ""
    reason = done.stderr.strip().rpartition(": ")[2] or f"fusermount3 ended with {done.returncode}"
    return (errno.EBUSY if "busy" in reason.lower() else errno.EPERM), reason


def _users_of(path: Path) -> str:
    """The processes that keep the mount busy, as far as we may see. Reading their links does not ask the mount."""
    inside = re.compile(re.escape(str(path)) + r"(/.*)?( \(deleted\))?")
    users = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            links = [process / "cwd", process / "root", *(process / "fd").iterdir()]
            if any(inside.fullmatch(os.readlink(link)) for link in links):
                users.append(f"{(process / 'comm').read_text().strip()} (pid {process.name})")
        except OSError:
            continue  # it ended meanwhile, or is another user's
    shown = ", ".join(sorted(users)[:5])
    return f"{shown} and {len(users) - 5} more" if len(users) > 5 else shown or "somebody"


def _unescape(text: bytes) -> str:
    """The table writes space, tab, newline and backslash in octal."""
    return os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), text))
