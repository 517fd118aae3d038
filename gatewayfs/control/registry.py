"""Which gateways run on this host, where, and how to reach them.

Each running gateway keeps ``<share>.json`` beside its socket ``<share>.sock`` in the runtime directory. The directory
is volatile (a tmpfs on any ordinary host): entries do not survive a reboot, but they do survive a crash of the
gateway. So an entry counts as running only while a process with its pid *and* that process's start time exists;
otherwise it is reported as "not running (crashed?)" and replaced by the next start.

Nothing here touches a mount: asking a dead or hanging one could hang the asker.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from gatewayfs.control.client import GatewayGone
from gatewayfs.errors import UserError

RUNTIME_DIR_VARIABLE = "GATEWAYFS_RUNTIME_DIR"


class Registration(msgspec.Struct, frozen=True):
    """One gateway, as it registered itself."""

    share: str
    mountpoint: str
    pid: int
    socket: str
    cache_directory: str
    bucket: str
    prefix: str
    started: str
    """UTC, ISO 8601."""
    process_started: int = 0
    """Clock ticks after boot, from /proc: tells a gateway from a later process with the same pid."""

    @property
    def running(self) -> bool:
        """Whether that very process still exists."""
        ticks = process_start_ticks(self.pid)
        return ticks is not None and self.process_started in (0, ticks)


def runtime_directory(env: Mapping[str, str] = os.environ, euid: int | None = None) -> Path:
    """Where gateways of this user register. Raises UserError when a user other than root has no place for it."""
    if env.get(RUNTIME_DIR_VARIABLE):
        return Path(env[RUNTIME_DIR_VARIABLE])
    if (os.geteuid() if euid is None else euid) == 0:
        return Path("/run/gatewayfs")
    if env.get("XDG_RUNTIME_DIR"):
        return Path(env["XDG_RUNTIME_DIR"]) / "gatewayfs"
    raise UserError("there is no runtime directory", f"set {RUNTIME_DIR_VARIABLE} to a directory of your own")


def process_start_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks after boot; None when there is none, or only its zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, ticks = fields[0], int(fields[19])
    return None if state in "ZX" else ticks


class Registry:
    """The runtime directory.

    Args:
        directory: see ``runtime_directory``; made (mode 0700) by the first registration.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def socket_path(self, share: str) -> Path:
        """Where the control socket of that share goes."""
        return self.directory / f"{share}.sock"

    def prepare(self) -> None:
        """Make the directory. Raises UserError when it cannot be made or others may write to it."""
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = self.directory.stat()
        except OSError as error:
            raise UserError(f"the runtime directory {self.directory} cannot be made: {error.strerror}") from error
        if not stat.S_ISDIR(status.st_mode) or status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
            raise UserError(
                f"the runtime directory {self.directory} may be written by others",
                f"chmod 700 {self.directory}, or set {RUNTIME_DIR_VARIABLE} to a directory of your own",
            )

    def register(self, entry: Registration) -> Registration:
        """Note the gateway (this process, when ``entry.pid`` is ours); returns it as noted.

        Raises:
            UserError: a gateway of that name, or on that mount directory, is running.
        """
        self.prepare()
        for other in self.entries():
            if other.running and other.pid != entry.pid:
                self._refuse_clash(entry, other)
        noted = msgspec.structs.replace(entry, process_started=process_start_ticks(entry.pid) or 0)
        target = self._file(entry.share)
        draft = target.with_suffix(f".{os.getpid()}.tmp")
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(noted), indent=2))
        draft.replace(target)
        return noted

    def unregister(self, entry: Registration) -> None:
        """Forget the gateway, unless a successor has taken its place."""
        if self._read(self._file(entry.share)) == entry:
            self._file(entry.share).unlink(missing_ok=True)

    def entries(self) -> list[Registration]:
        """Every gateway noted here, running or not, by name."""
        return list(self._entries())

    def find(self, target: str) -> Registration:
        """The running gateway that is named so, or mounted there.

        Args:
            target: a share's name or a mount directory.

        Raises:
            GatewayGone: there is none, or it is not running any more.
        """
        found = self.lookup(target)
        if found is None:
            raise GatewayGone(*self._none_there(target))
        if not found.running:
            where = f"{found.bucket}/{found.prefix}".rstrip("/")
            raise GatewayGone(
                f"the gateway {found.share} on {found.mountpoint} is not running (crashed?)",
                f"start it again, nothing acknowledged is lost: gatewayfs mount {where} {found.mountpoint} "
                f"--cache-dir {found.cache_directory}",
            )
        return found

    def lookup(self, target: str) -> Registration | None:
        """Like ``find``, running or not; None when there is none."""
        entries = self.entries()
        if "/" not in target and (named := [entry for entry in entries if entry.share == target]):
            return named[0]
        for path in _spellings(target):
            # A dead entry must not hide a running one on the same directory.
            here = sorted((entry for entry in entries if entry.mountpoint == path), key=lambda entry: entry.running)
            if here:
                return here[-1]
        return None

    def _none_there(self, target: str) -> tuple[str, str]:
        running = [entry for entry in self.entries() if entry.running]
        path = os.path.abspath(target)
        for entry in running:
            if path.startswith(entry.mountpoint + "/"):
                return f"{path} lies in the mount {entry.mountpoint}", f"name the mount itself: {entry.mountpoint}"
        others = ", ".join(f"{entry.share} on {entry.mountpoint}" for entry in running)
        known = f"running: {others}" if others else f"start one: gatewayfs mount BUCKET {path}"
        return f"no gateway is mounted at {path}", known

    def _refuse_clash(self, entry: Registration, other: Registration) -> None:
        if other.share == entry.share:
            raise UserError(
                f"a gateway named {entry.share} is running already, on {other.mountpoint} (pid {other.pid})",
                "stop it first (gatewayfs umount), or set share.name",
            )
        if other.mountpoint == entry.mountpoint:
            raise UserError(
                f"the gateway {other.share} is mounted on {entry.mountpoint} already (pid {other.pid})",
                f"gatewayfs umount {entry.mountpoint} first",
            )

    def _file(self, share: str) -> Path:
        return self.directory / f"{share}.json"

    def _entries(self) -> Iterator[Registration]:
        for file in sorted(self.directory.glob("*.json")):
            entry = self._read(file)
            if entry is not None:
                yield entry

    def _read(self, file: Path) -> Registration | None:
        try:
            return msgspec.json.decode(file.read_bytes(), type=Registration)
        except FileNotFoundError:
            return None
        except (msgspec.DecodeError, OSError) as error:
            raise UserError(f"{file} cannot be read: {error}", "remove it when that gateway is not running") from error


def _spellings(target: str) -> Iterator[str]:
    """How a mount directory may have been noted: as given, with the links above it followed, itself a link."""
    path = os.path.abspath(target)
    yield path
    yield os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    if os.path.islink(path):
        yield os.path.realpath(path)
