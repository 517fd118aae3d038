"""Numbered forward migrations of the LMDB environment.

``MIGRATIONS[n]`` turns a version n environment into version n + 1, inside the write transaction it is given. Appending
a field with a default to a record needs none. All of them run in one transaction at start, after the journal was
replayed: either the whole way succeeds or the old version stays. There is no way back, so a newer version is refused.
"""

from collections.abc import Callable, Mapping
from typing import Any

from gatewayfs.errors import CorruptRecord, SchemaTooNew
from gatewayfs.meta import codec
from gatewayfs.meta.schema import SCHEMA_VERSION

Migration = Callable[[Any], None]
"""Takes an ``lmdb.Transaction`` (write)."""

MIGRATIONS: Mapping[int, Migration] = {}

VERSION_KEY = codec.setting_key("schema_version")


def stored_version(value: bytes | None, known: int = SCHEMA_VERSION) -> int:
    """The version a cache directory has; 0 for a new one. Raises SchemaTooNew, CorruptRecord."""
    if value is None:
        return 0
    if not value.isdigit():
        raise CorruptRecord(f"schema version {value!r} is no number")
    version = int(value)
    if version > known:
        raise SchemaTooNew(
            f"the cache was written by a newer GatewayFS (schema {version}, this one knows {known}); install that "
            "version again, or let it upload everything (gatewayfs umount) and give this one an empty cache directory"
        )
    return version


def migrate(
    txn: Any, version: int, target: int = SCHEMA_VERSION, migrations: Mapping[int, Migration] = MIGRATIONS
) -> None:
    """Bring the environment from ``version`` (0: empty) to ``target`` within ``txn``. Raises CorruptRecord."""
    if version:
        for step in range(version, target):
            if step not in migrations:
                raise CorruptRecord(f"there is no step from schema {step}; this GatewayFS is not whole")
            migrations[step](txn)
    txn.put(VERSION_KEY, str(target).encode())
