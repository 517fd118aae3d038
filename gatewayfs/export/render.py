"""A share's configuration becomes an EXPORT of nfs-ganesha 4; pure text, no files.

Three numbers must stay the same for as long as clients have the share mounted, for they are in the file handles and
attributes that clients keep: the export's id, the file system's id, and the device number of the mount, by which
ganesha's FSAL_VFS knows a FUSE file system. The first two are made here, from bucket and prefix, so they survive the
gateway, its host and its cache disk; the mount sees to the third (``runtime/device.py``).
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from gatewayfs.config import ExportOptions, ShareConfig
from gatewayfs.config.exportoptions import EXPORT_ID_MAX
from gatewayfs.config.identityoptions import IdentityOptions
from gatewayfs.errors import UserError

SQUASHES = {"root": "Root_Squash", "all": "All_Squash", "none": "No_Root_Squash"}
ACCESSES = {"rw": "RW", "ro": "RO", "none": "None"}
BYTES_PREFERRED = 1 << 20
"""What clients should read and write at a time: the largest of Linux's NFS client, and one block of our cache."""


@dataclass(frozen=True, slots=True)
class Export:
    """What the text is made from."""

    share: str
    directory: Path
    path: str
    number: int
    filesystem: tuple[int, int]
    options: ExportOptions
    identity: IdentityOptions


def export_of(config: ShareConfig) -> Export:
    """The export of a share.

    Raises:
        UserError: it is not to be exported, there is no mount directory, or ganesha could not be told its name.
    """
    if not config.export.enabled:
        raise UserError(
            f"share {config.share.name} is not meant for NFS", "set export.enabled = true, and mount it again", 2
        )
    directory = config.mount.directory
    if directory is None:
        raise UserError("there is no mount directory to export", "set mount.directory in the share's file", 2)
    if any(character in '"\\' or not character.isprintable() for character in str(directory)):
        raise UserError(f"nfs-ganesha cannot be told the directory {str(directory)!r}", "use a plain name", 2)
    digest = _digest(config)
    # Neither half may be 0, which ganesha takes for "none given".
    major, minor = (1 + int.from_bytes(half, "big") % 0x7FFFFFFF for half in (digest[:4], digest[4:8]))
    read_only = config.export.read_only or config.share.read_only
    options = config.export.model_copy(update={"read_only": read_only})
    path = config.export.path or f"/{config.share.name}"
    return Export(config.share.name, directory, path, export_number(config), (major, minor), options, config.identity)


def export_number(config: ShareConfig) -> int:
    """The number of a share's export: ``export.id``, or one made from bucket and prefix."""
    return config.export.id or 1 + int.from_bytes(_digest(config)[8:16], "big") % EXPORT_ID_MAX


def _digest(config: ShareConfig) -> bytes:
    return hashlib.sha256(f"{config.share.bucket}/{config.share.prefix}".encode()).digest()


def export_text(export: Export) -> str:
    """The EXPORT block with comments, for a file of its own. Its first lines are read back by ``installing``."""
    options, identity = export.options, export.identity
    default = "None" if options.clients else "RO" if options.read_only else "RW"
    lines = [
        f"# gatewayfs share {export.share}: written by `gatewayfs export --install`, which replaces this file.",
        "EXPORT {",
        "    # In every file handle that clients hold: from bucket and prefix, unless export.id says otherwise.",
        f"    Export_Id = {export.number};",
        f'    Path = "{export.directory}";',
        "    # What clients mount, with NFSv3 too (mount_path_pseudo).",
        f'    Pseudo = "{export.path}";',
        f"    Protocols = {', '.join(options.protocols)};",
        "    Transports = TCP;",
        f"    SecType = {', '.join(options.security)};",
        "    # As identity.squash and identity.anonymous_uid, _gid, which the mount goes by, too.",
        f"    Squash = {SQUASHES[identity.squash]};",
        f"    Anonymous_uid = {identity.anonymous_uid};",
        f"    Anonymous_gid = {identity.anonymous_gid};",
        "    # For clients that no CLIENT block below names.",
        f"    Access_Type = {default};",
        "    # What attributes tell clients as the file system: from bucket and prefix, the same after every restart.",
        f"    Filesystem_id = {export.filesystem[0]}.{export.filesystem[1]};",
        "    # Ask the mount every time: the kernel answers from memory, and what `gatewayfs refresh-cache` found is",
        "    # seen at once.",
        "    Attr_Expiration_Time = 0;",
        f"    PrefRead = {BYTES_PREFERRED};",
        f"    PrefWrite = {BYTES_PREFERRED};",
    ]
    for rule in options.rules:
        lines.append(f"    CLIENT {{ Clients = {rule.network}; Access_Type = {ACCESSES[rule.access]}; }}")
    lines += [
        "    FSAL {",
        "        Name = VFS;",
        "        # Handles hold the device number; export.enabled makes the mount keep it.",
        "        fsid_type = Device;",
        "    }",
        "}",
    ]
    return "\n".join(lines) + "\n"


def main_text(*, kerberos: bool, protocols: str = "3, 4") -> str:
    """ganesha.conf for a host that exports gatewayfs shares and nothing else; the host's to edit from then on."""
    return f"""\
# nfs-ganesha for gatewayfs shares. Written once by `gatewayfs export --install`; yours to edit. Only the lines between
# the two marks at the end are kept by gatewayfs.
NFS_CORE_PARAM {{
    Protocols = {protocols};
    # Fixed, for firewalls: with 2049 and rpcbind's 111 all that NFSv3 clients need.
    MNT_Port = 20048;
    # NFSv3 clients mount the same paths as NFSv4 clients.
    mount_path_pseudo = true;
    # Locks over NFSv3 would need rpc.statd here and on every client; NFSv4 has them built in. Mount v3 with nolock.
    Enable_NLM = false;
    Enable_RQUOTA = false;
    Enable_UDP = false;
}}
NFSv4 {{
    # 0 is NFSv4.0, which only old clients need.
    Minor_Versions = 0, 1, 2;
    # How long clients wait with new locks and opens after ganesha was started again: until all known clients have
    # taken back what they had, at most the grace period, which may not be shorter than a lease.
    Lease_Lifetime = 20;
    Grace_Period = 30;
}}
NFS_KRB5 {{
    # Kerberos wants a key for nfs/<the name clients mount from> in this file; ganesha does not start without.
    Active_krb5 = {"true" if kerberos else "false"};
    PrincipalName = "nfs";
    KeytabPath = "/etc/krb5.keytab";
}}
MDCACHE {{
    # A directory's entries are read again when its attributes changed.
    Use_Getattr_Directory_Invalidation = true;
}}
"""
