"""The files a running share tells its story in: the audit log and the health log, as the configuration wants them."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gatewayfs.config import ShareConfig
from gatewayfs.daemon.health import HealthLog
from gatewayfs.errors import LocalError, UserError
from gatewayfs.fuse.auditing import AuditedOperations
from gatewayfs.fuse.operations import Operations
from gatewayfs.meta.env import MetaStore
from gatewayfs.runtime.clock import Clock
from gatewayfs.runtime.diskhealth import DiskHealth
from gatewayfs.runtime.linefile import LineFile, LineStatistics
from gatewayfs.vfs.audit import AuditLog, AuditNames
from gatewayfs.vfs.filesystem import Filesystem

log = logging.getLogger(__name__)

RUNNING = "running"
"""Setting: "1" while a gateway serves, "0" after one that came to its end."""


@dataclass(slots=True)
class Telling:
    """Open files, and who writes to them."""

    health: HealthLog
    health_file: LineFile | None
    audit_file: LineFile | None

    def audit_statistics(self) -> LineStatistics | None:
        """None without an audit log."""
        return None if self.audit_file is None else self.audit_file.statistics()

    def close(self) -> None:
        """Write what waits. Blocks, for seconds at most."""
        for file in (self.health_file, self.audit_file):
            if file is not None:
                file.close()


def open_files(config: ShareConfig, clock: Clock) -> Telling:
    """Raises UserError when a file cannot be opened."""
    health_file = _opened("health.file", config.health.file)
    audit_file = _opened("audit.file", config.audit.file)
    health = HealthLog(
        config.share.name,
        config.share.bucket,
        os.uname().nodename,
        clock,
        None if health_file is None else health_file.put,
    )
    return Telling(health, health_file, audit_file)


def operations(
    config: ShareConfig,
    filesystem: Filesystem,
    meta: MetaStore,
    clock: Clock,
    called: Callable[[], None],
    disk: DiskHealth,
    telling: Telling,
) -> Operations:
    """pyfuse3's handlers, with an audit log where one is wanted."""
    timeout_s, read_only = config.metadata.kernel_timeout_s, config.share.read_only
    if config.refresh.ttl_s:
        # What the kernel answers by itself, nobody can see to be too old.
        timeout_s = min(timeout_s, config.refresh.ttl_s)
    if telling.audit_file is None:
        return Operations(filesystem, timeout_s, called, disk, read_only=read_only)
    host = os.uname().nodename
    names = AuditNames(config.share.name, config.share.bucket, host, host)
    audit = AuditLog(names, meta, clock, telling.audit_file.put)
    return AuditedOperations(filesystem, timeout_s, called, disk, audit, read_only=read_only)


def note_start(meta: MetaStore, health: HealthLog) -> None:
    """Tell how the gateway before this one ended; from now on one runs."""
    before = meta.setting(RUNNING)
    health.started(first=before is None, clean=before == b"0")
    _remember(meta, b"1")


def note_end(meta: MetaStore) -> None:
    """This one came to its end. A disk that refuses even that is told of by what follows; a stop must go on."""
    try:
        _remember(meta, b"0")
    except LocalError as problem:
        log.warning("that this gateway was stopped could not be noted: %s", problem)


def _remember(meta: MetaStore, value: bytes) -> None:
    with meta.transaction() as tx:
        tx.put_setting(RUNNING, value)


def _opened(option: str, path: Path | None) -> LineFile | None:
    if path is None:
        return None
    try:
        return LineFile(path)
    except OSError as error:
        raise UserError(f"{option} {path} cannot be written: {error.strerror}") from error
