"""Taking a cache directory: one bucket for ever.

The directory holds bytes nobody else has; under another bucket it would upload them to the wrong place. That is refused
before anything is touched. (That only one daemon uses it at a time is ``meta.opening``'s lock.)
"""

import stat

import msgspec

from gatewayfs.config import ShareConfig
from gatewayfs.daemon.identifying import share_defaults
from gatewayfs.errors import UserError
from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.schema import Directory, Inode
from gatewayfs.runtime.clock import Clock
from gatewayfs.types import ROOT_INO

IDENTITY = "share"
"""Setting: which bucket and prefix this cache belongs to."""

VERIFIED = "verified"
"""Setting: the bucket has answered once. From then on the share starts without it."""

FOR_READING, FOR_WRITING = b"r", b"1"
"""What for. A share that was read-only until now asks the bucket once more when it is to be written to."""


class Identity(msgspec.Struct, frozen=True):
    """What a cache directory belongs to. The endpoint is not part of it: a store may move to another address."""

    bucket: str
    prefix: str


def claim(meta: MetaStore, config: ShareConfig, clock: Clock) -> bool:
    """Make the records belong to this share; returns True when the bucket has to answer first.

    Raises:
        UserError: they belong to another bucket or prefix.
    """
    wanted = Identity(config.share.bucket, config.share.prefix)
    stored = meta.setting(IDENTITY)
    if stored is not None:
        found = msgspec.json.decode(stored, type=Identity)
        if found != wanted:
            raise UserError(
                f"the cache directory {config.cache.directory} belongs to {found.bucket}/{found.prefix}, "
                f"not to {wanted.bucket}/{wanted.prefix}",
                "name another directory with --cache-dir; this one may hold files that are not uploaded yet",
            )
    if stored is None or meta.inode(ROOT_INO) is None:
        with meta.transaction() as tx:
            tx.put_setting(IDENTITY, msgspec.json.encode(wanted))
            if tx.inode(ROOT_INO) is None:
                tx.put(_root(config, clock.time_ns()))
    verified = meta.setting(VERIFIED)
    return verified is None or (verified == FOR_READING and not config.share.read_only)


def note_verified(meta: MetaStore, *, read_only: bool) -> None:
    """The bucket answered: later starts do not depend on it."""
    with meta.transaction() as tx:
        tx.put_setting(VERIFIED, FOR_READING if read_only else FOR_WRITING)


def _root(config: ShareConfig, now_ns: int) -> Inode:
    """The root directory. Below a prefix it has a marker object that may carry attributes; a bucket itself has none."""
    defaults = share_defaults(config)
    return Inode(
        ino=ROOT_INO,
        parent=0,
        name=b"",
        mode=stat.S_IFDIR | defaults.directory_mode,
        uid=defaults.uid,
        gid=defaults.gid,
        size=0,
        atime_ns=now_ns,
        mtime_ns=now_ns,
        ctime_ns=now_ns,
        content_revision=0,
        meta_revision=0,
        attributes_known=not config.share.prefix,
        directory=Directory(complete=False, source=config.share.prefix),
    )
