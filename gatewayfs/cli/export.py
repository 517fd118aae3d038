"""``gatewayfs export``: a share becomes an NFS export of nfs-ganesha."""

import logging
import os
import shutil
import signal
import socket
from collections.abc import Sequence
from pathlib import Path

import trio

from gatewayfs import logs
from gatewayfs.cli import exitcodes
from gatewayfs.cli.bucketpath import add_share_options, load_share
from gatewayfs.cli.parsing import Parser, UsageError
from gatewayfs.config import ShareConfig
from gatewayfs.control.registry import Registry, runtime_directory
from gatewayfs.errors import UserError
from gatewayfs.export.clients import mount_lines
from gatewayfs.export.installing import MAIN, export_beside, install, installed, main_of, remove
from gatewayfs.export.render import export_text
from gatewayfs.export.serving import Supervisor
from gatewayfs.export.trial import try_out
from gatewayfs.mountpoint import OUR_TYPE, answers, mounted_at

ETC = Path("/etc/ganesha")
PID_FILE = Path("/run/ganesha/ganesha.pid")
PROGRAM = "ganesha.nfsd"

STORY = """\
The NFS export of a share, from the [export] section of its configuration (docs/nfs.md).

Without an action the EXPORT block for nfs-ganesha is printed. --check has nfs-ganesha itself try it out, where no
client can reach it. --install writes it below /etc/ganesha, includes it from ganesha.conf and has a running
nfs-ganesha read it. --remove takes a share out again. --show-mount prints what to type on the clients.

--serve runs nfs-ganesha for all installed shares, in the foreground: while a gateway is down clients wait, and do
not get errors. Use it (docs/nfs.md has the systemd unit) instead of nfs-ganesha's own service."""


def run(argv: Sequence[str]) -> int:
    parser = Parser(
        "export",
        STORY,
        """gatewayfs export --config /etc/gatewayfs/photos.toml
        gatewayfs export --config /etc/gatewayfs/photos.toml --check
        gatewayfs export --config /etc/gatewayfs/photos.toml --install
        gatewayfs export --config /etc/gatewayfs/photos.toml --show-mount --server nas.example.com
        gatewayfs export --remove photos
        gatewayfs export --serve""",
    )
    parser.add_argument("bucket", metavar="BUCKET[/PREFIX]", nargs="?", help="the share, when no --config names it")
    add_share_options(parser)
    parser.add_argument("--etc", metavar="DIR", type=Path, default=ETC, help=f"nfs-ganesha's configuration ({ETC})")
    parser.add_argument("--server", metavar="NAME", help="for --show-mount: how clients reach this host")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--check", action="store_true", help="let nfs-ganesha try the configuration out")
    action.add_argument("--install", action="store_true", help="write it below /etc/ganesha and have it read")
    action.add_argument("--show-mount", action="store_true", help="mount commands for Linux, macOS and Windows")
    action.add_argument("--remove", metavar="SHARE", help="take this share out of /etc/ganesha")
    action.add_argument("--serve", action="store_true", help="run nfs-ganesha for all installed shares")
    arguments = parser.parse(argv)
    etc: Path = arguments.etc.absolute()
    if arguments.serve:
        return _serve(etc)
    if arguments.remove is not None:
        _say_changed(remove(arguments.remove, etc))
        return exitcodes.OK
    if arguments.bucket is None and arguments.config is None:
        raise UsageError("no share is named", "write --config FILE, or BUCKET[/PREFIX] and --set mount.directory=DIR")
    config = load_share(arguments, arguments.bucket, None)
    export = export_beside(config, installed(etc))
    if arguments.check:
        return _check(config, etc)
    if arguments.install:
        _say_changed(install(config, etc))
    elif arguments.show_mount:
        print("\n".join(mount_lines(export, arguments.server or socket.getfqdn())))
    else:
        print(export_text(export), end="")
    return exitcodes.OK


def _check(config: ShareConfig, etc: Path) -> int:
    """0, or 1 with ganesha's complaints."""
    if os.geteuid() != 0:
        raise UserError("nfs-ganesha can only be tried out by root", "sudo gatewayfs export --check ...")
    export = export_beside(config, installed(etc))
    verdict = trio.run(try_out, _program(), main_of(etc, kerberos=config.export.kerberos), [export_text(export)])
    if verdict.good:
        print(f"nfs-ganesha accepts the export {export.path} of share {export.share}")
        return exitcodes.OK
    said = "; ".join(verdict.complaints) or "it did not start, and did not say why"
    raise UserError(f"nfs-ganesha does not accept the configuration: {said}", f"look at {etc / MAIN}")


def _say_changed(files: Sequence[Path]) -> None:
    for file in files:
        print(f"written: {file}" if file.exists() else f"removed: {file}")
    if not files:
        print("nothing changed")
    elif (pid := _running_ganesha()) is not None:
        os.kill(pid, signal.SIGHUP)
        print(f"nfs-ganesha (pid {pid}) reads its exports again")
    else:
        print("nfs-ganesha does not run here; gatewayfs export --serve runs it")


def _running_ganesha() -> int | None:
    """Its pid, when the process of that number is nfs-ganesha."""
    try:
        pid = int(PID_FILE.read_text())
        # Its threads rename themselves, so the name in /proc says nothing.
        return pid if os.path.basename(os.readlink(f"/proc/{pid}/exe")) == PROGRAM else None
    except (OSError, ValueError):
        return None


def _program() -> str:
    found = shutil.which(PROGRAM, path=os.environ.get("PATH", "") + ":/usr/bin:/usr/sbin")
    if found is None:
        raise UserError("nfs-ganesha is not installed", "apt-get install nfs-ganesha nfs-ganesha-vfs")
    return found


def _serve(etc: Path) -> int:
    if os.geteuid() != 0:
        raise UserError("only root can serve NFS", "sudo gatewayfs export --serve")
    if _running_ganesha() is not None:
        raise UserError("nfs-ganesha runs already", "systemctl disable --now nfs-ganesha, then start this again")
    program = _program()
    logs.configure("info", "text", None)
    PID_FILE.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    command = [program, "-F", "-f", str(etc / MAIN), "-L", "STDERR", "-p", str(PID_FILE)]
    registry = Registry(runtime_directory())

    def exported() -> frozenset[Path]:
        return frozenset(entry.directory for entry in installed(etc))

    def serving(directory: Path) -> int | None:
        found = registry.lookup(str(directory))
        if found is None or not found.running or not _answers(directory):
            return None
        return found.pid

    trio.run(_until_signalled, Supervisor(command, exported, serving))
    return exitcodes.OK


def _answers(directory: Path) -> bool:
    """Whether a mount of ours is there, and alive; the registered daemon may still be starting."""
    mount = mounted_at(directory)
    return mount is not None and mount.type == OUR_TYPE and answers(directory) == 0


async def _until_signalled(supervisor: Supervisor) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
            async for number in received:
                logging.getLogger(__name__).info("got %s", signal.Signals(number).name)
                nursery.cancel_scope.cancel()
