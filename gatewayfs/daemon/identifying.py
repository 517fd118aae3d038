"""The share's configuration as rules of identity: whom files belong to, and what objects without attributes show."""

from gatewayfs.config import ShareConfig
from gatewayfs.config.identityoptions import IdentityOptions
from gatewayfs.s3.attributes import ShareDefaults
from gatewayfs.vfs.identity import Identity, Numbering, Squash


def identity(options: IdentityOptions) -> Identity:
    """Between site ids and stored ids."""
    squash = Squash(options.squash)
    return Identity(
        users=Numbering(squash, options.anonymous_uid, options.force_uid, dict(options.uid_map)),
        groups=Numbering(squash, options.anonymous_gid, options.force_gid, dict(options.gid_map)),
        umask=options.force_umask,
    )


def share_defaults(config: ShareConfig) -> ShareDefaults:
    """Attributes of objects that carry none. The configuration speaks of site ids, records of stored ones."""
    rules = identity(config.identity)
    return ShareDefaults(
        file_mode=config.metadata.file_mode,
        directory_mode=config.metadata.directory_mode,
        uid=rules.users.mapped(config.metadata.uid),
        gid=rules.groups.mapped(config.metadata.gid),
    )
