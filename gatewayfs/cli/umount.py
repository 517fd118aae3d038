"""``gatewayfs umount``: drain, unmount, wait for the end. Also clears away what a crash left mounted."""

import contextlib
import os
import select
import time
from collections.abc import Sequence
from pathlib import Path

from gatewayfs import mountpoint
from gatewayfs.cli import exitcodes
from gatewayfs.cli.drain import amount, drain, left_of, show_left
from gatewayfs.cli.gateway import call, registry
from gatewayfs.cli.parsing import Parser, UsageError, positive_seconds
from gatewayfs.control import calls
from gatewayfs.control.client import GatewayGone
from gatewayfs.control.registry import Registration, Registry
from gatewayfs.errors import UserError

END_S_MAX = 60.0
"""After the unmount a gateway commits its records and closes its connections; a minute is a hang."""

ALONE_S_MAX = 3.0
"""An unmounted gateway ends by itself in less, unless the mount lives on in another mount namespace."""

BUSY_S = 0.3
"""A mount that is still in use after this long is used by somebody who means it."""

STORY = """\
Upload everything that is queued (with a progress bar), unmount, and return when the gateway has ended. If something
cannot be uploaded, or the time is up, the mount stays and the exit status is 5. With --no-drain nothing is uploaded
first: what is queued stays in the cache directory, safe, and is uploaded after the next mount.

With --anyway the gateway stops all the same when something is left or the mount is in use, after saying what; a service
manager stops a share with it, whose process it names by --pid.

A dead mount that a crash left behind is cleared away."""


def run(argv: Sequence[str]) -> int:
    parser = Parser(
        "umount",
        STORY,
        """gatewayfs umount /mnt/photos
        gatewayfs umount --timeout 5m photos
        gatewayfs umount --no-drain /mnt/photos
        gatewayfs umount --pid 4711 --timeout 4m --anyway""",
    )
    parser.add_argument("target", metavar="DIR", nargs="?", help="mount directory, or the share's name")
    parser.add_argument("--pid", metavar="N", help="the gateway by its process; none (--pid=) is one that has ended")
    parser.add_argument("--no-drain", action="store_true", help="do not upload first; say what stays queued")
    parser.add_argument("--timeout", metavar="TIME", type=positive_seconds, help='drain at most this long, like "5m"')
    parser.add_argument("--anyway", action="store_true", help="stop also when something is left or the mount is in use")
    arguments = parser.parse(argv)
    if arguments.no_drain and arguments.timeout is not None:
        parser.error("--timeout is about draining and makes no sense with --no-drain")
    if (arguments.target is None) == (arguments.pid is None):
        parser.error("name the gateway by DIR, or by --pid")
    gateways = registry()
    if arguments.pid is not None:
        gateway = _by_pid(arguments.pid, gateways)
        if gateway is None:
            return exitcodes.OK
    else:
        gateway = gateways.lookup(arguments.target)
    if gateway is None or not gateway.running:
        return _clear_dead_mount(arguments.target, gateway, gateways)
    if not arguments.no_drain:
        result = drain(gateway, arguments.timeout)
        if left_of(result):
            show_left(result)
            if not arguments.anyway:
                print(f"{gateway.mountpoint} stays mounted; umount --no-drain unmounts it and keeps them queued")
                return exitcodes.WORK_LEFT
            print(
                f"stops all the same; what is left is safe in {gateway.cache_directory} and goes on at the next start"
            )
    elif stays := _what_stays(gateway):
        print(stays)
    if arguments.anyway:
        _stop_and_wait(gateway)
    else:
        _unmount_and_wait(gateway)
    return exitcodes.OK


def _by_pid(pid: str, gateways: Registry) -> Registration | None:
    """The running gateway of that process; None when there is none (any more).

    systemd runs ExecStop also after the daemon has ended by itself, with an empty $MAINPID or one that is gone.
    """
    if pid and not pid.isdigit():
        raise UsageError(f"--pid {pid} is not the number of a process", "write --pid 4711")
    for gateway in gateways.entries():
        if str(gateway.pid) == pid and gateway.running:
            return gateway
    print(f"no gateway runs as process {pid}" if pid else "the gateway has ended already")
    return None


def _clear_dead_mount(target: str, gateway: Registration | None, gateways: Registry) -> int:
    place = Path(gateway.mountpoint) if gateway else mountpoint.resolve(Path(target))
    mounted = mountpoint.mounted_at(place)
    if mounted is None or mounted.type != mountpoint.OUR_TYPE:
        gateways.find(target)  # raises: nothing is there, or it crashed and nothing of it is left mounted
        raise GatewayGone(f"{place} is not a mount of gatewayfs")
    mountpoint.unmount(place, detach=True)
    print(f"the gateway of {mounted.source} had crashed; its dead mount on {place} is cleared away")
    if gateway is not None:
        print(f"what it acknowledged is safe in {gateway.cache_directory} and is uploaded after the next mount")
        gateways.unregister(gateway)
    return exitcodes.OK


def _what_stays(gateway: Registration) -> str:
    """One line about the queue, or "" when it is empty."""
    upload = call(gateway, calls.STATUS, timeout_s=END_S_MAX).get("upload") or {}
    left = {"files_left": upload.get("entries"), "bytes_left": upload.get("entries_bytes")}
    if not left_of(left):
        return ""
    return f"{amount(left)} stay queued in {gateway.cache_directory} and are uploaded after the next mount"


def _unmount_and_wait(gateway: Registration) -> None:
    """Raises UserError when the mount is in use, or the gateway does not end."""
    try:
        process = os.pidfd_open(gateway.pid)
    except ProcessLookupError:
        return  # it ended by itself just now
    try:
        place = Path(gateway.mountpoint)
        if mountpoint.mounted_at(place) is not None:
            try:
                mountpoint.unmount(place)
            except UserError:  # a moment's use, as by the watchdog of the gateway itself, is no reason to give up
                time.sleep(BUSY_S)
                mountpoint.unmount(place)
        else:  # somebody detached the mount by hand; the gateway cannot know while files are open in it
            call(gateway, calls.STOP, {"reason": "umount"}, timeout_s=END_S_MAX)
        if _ended(process, ALONE_S_MAX):
            return
        # A container or a service started meanwhile has a copy of the mount, which the kernel goes on serving.
        with contextlib.suppress(GatewayGone):
            call(gateway, calls.STOP, {"reason": "umount"}, timeout_s=END_S_MAX)
        if not _ended(process, END_S_MAX):
            raise UserError(
                f"{place} is unmounted, but the gateway (pid {gateway.pid}) has not ended in {END_S_MAX:g} s",
                "its log says what it waits for",
            )
    finally:
        os.close(process)


def _stop_and_wait(gateway: Registration) -> None:
    """The gateway takes its mount away itself, in use or not. Raises UserError when it does not end."""
    try:
        process = os.pidfd_open(gateway.pid)
    except ProcessLookupError:
        return
    try:
        with contextlib.suppress(GatewayGone):
            call(gateway, calls.STOP, {"reason": "umount --anyway"}, timeout_s=END_S_MAX)
        if not _ended(process, END_S_MAX):
            raise UserError(f"the gateway (pid {gateway.pid}) has not ended in {END_S_MAX:g} s", "its log says why")
    finally:
        os.close(process)


def _ended(process: int, within_s: float) -> bool:
    """Whether the process of a pidfd ends in time."""
    poll = select.poll()
    poll.register(process, select.POLLIN)
    return bool(poll.poll(within_s * 1000))
