"""Finding a running gateway and calling it, for the verbs that speak to one."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gatewayfs.cli.parsing import UsageError
from gatewayfs.control import client
from gatewayfs.control.registry import Registration, Registry, runtime_directory


def registry() -> Registry:
    """The gateways of this user on this host."""
    return Registry(runtime_directory())


def relative_path(path: str, mountpoint: str) -> str:
    """A path as the gateway takes it: relative to the mount, "" for all of it.

    Taken: a full path into the mount (``/mnt/photos/2024``), a path from the share's root (``/2024``, ``2024``).
    Raises UsageError for a path that leads out of the share.
    """
    normal = os.path.normpath(path)
    if normal == mountpoint or normal.startswith(mountpoint + "/"):
        normal = normal[len(mountpoint) :]
    relative = normal.strip("/")
    if relative.split("/")[0] == "..":
        raise UsageError(f"{path} leads out of the share", "name a path in it")
    return "" if relative == "." else relative


def call(
    gateway: Registration,
    name: str,
    args: Mapping[str, Any] | None = None,
    *,
    progress: Callable[[Mapping[str, Any]], None] | None = None,
    timeout_s: float | None = None,
) -> dict[str, Any]:
    """``control.client.call`` on that gateway's socket; a gateway that does not listen is told by its name."""
    try:
        return client.call(Path(gateway.socket), name, args, progress=progress, timeout_s=timeout_s)
    except client.GatewayGone as gone:
        if gone.cure:
            raise
        raise client.GatewayGone(
            f"the gateway {gateway.share} on {gateway.mountpoint} (pid {gateway.pid}) takes no calls",
            "it is starting or stopping; try again in a moment",
        ) from gone
