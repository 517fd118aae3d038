"""What a service tells systemd, sd_notify(3) without a library: a datagram to a unix socket.

Outside systemd (no NOTIFY_SOCKET) nothing happens.
"""

import logging
import os
import socket
from collections.abc import Mapping

log = logging.getLogger(__name__)

SEND_S_MAX = 1.0
"""A manager that does not read for a second is not worth a stalled file system."""


def notify(message: str, env: Mapping[str, str] = os.environ) -> bool:
    """Send ``message`` ("READY=1", "STATUS=...", "WATCHDOG=1", "STOPPING=1"); returns whether it was taken."""
    address = env.get("NOTIFY_SOCKET")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.settimeout(SEND_S_MAX)
            sender.connect(address)
            sender.sendall(message.encode())
    except OSError as problem:
        log.warning("systemd could not be told %r: %s", message, problem)
        return False
    return True


def watchdog_s(env: Mapping[str, str] = os.environ, pid: int | None = None) -> float | None:
    """Within how many seconds systemd wants to hear "WATCHDOG=1" again; None: never (sd_watchdog_enabled(3))."""
    microseconds = env.get("WATCHDOG_USEC", "")
    wanted = env.get("WATCHDOG_PID", "")
    if not microseconds.isdigit() or int(microseconds) == 0:
        return None
    if wanted and wanted != str(os.getpid() if pid is None else pid):
        return None
    return int(microseconds) / 1e6
