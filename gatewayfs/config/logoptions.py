"""The options of what is written about a share: the daemon's log, the audit log, the health log."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from gatewayfs.config.kinds import AbsolutePath, Kind
from gatewayfs.config.section import Section


class LogOptions(Section):
    """Where the daemon's log goes and what it says."""

    level: Annotated[Literal["debug", "info", "warning", "error"], Kind("choice", str)] = Field(
        "info", description="The least important message still written."
    )
    format: Annotated[Literal["text", "json"], Kind("choice", str)] = Field("text", description="Lines or JSON lines.")
    file: AbsolutePath | None = Field(None, description="Write to this file, not to standard error.")


class AuditOptions(Section):
    """Who did what to which file."""

    file: AbsolutePath | None = Field(None, description="Append a line for every operation to this file.")


class HealthOptions(Section):
    """What an administrator should know."""

    file: AbsolutePath | None = Field(None, description="Append a line for every problem that comes or goes.")


def in_the_mount(files: dict[str, Path | None], mountpoint: Path | None) -> Iterator[str]:
    """One line for each of our own files that would lie in the mount it tells about."""
    for name, path in files.items():
        if path is not None and mountpoint is not None and mountpoint in path.parents:
            yield f"{name} {path} lies in the mount {mountpoint}, so every line would cause another; put it elsewhere"
