"""Finding a running gateway and calling it, for the verbs that speak to one."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gatewayfs.control import client
from gatewayfs.control.registry import Registration, Registry, runtime_directory


def registry() -> Registry:
    """The gateways of this user on this host."""
    return Registry(runtime_directory())


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
