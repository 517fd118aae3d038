"""The two sentences of sd_notify(3) a service needs, without a library: a datagram to a unix socket.

Outside systemd (no NOTIFY_SOCKET) nothing happens.
"""

import os
import socket
from collections.abc import Mapping


def notify(message: str, env: Mapping[str, str] = os.environ) -> bool:
    """Send ``message`` ("READY=1", "STATUS=...", "STOPPING=1"); returns whether anybody listens."""
    address = env.get("NOTIFY_SOCKET")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.connect(address)
        sender.sendall(message.encode())
    return True
