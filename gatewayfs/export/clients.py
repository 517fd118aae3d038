"""Mount commands for clients, as File Gateway's console shows them, and what is true about locks."""

from collections.abc import Iterator

from gatewayfs.export.render import Export

LOCKS_V4 = "NFSv4: locks hold among all clients of this server."
LOCKS_V3 = (
    "NFSv3: locks do not hold among clients (the lock protocol is off: it needs rpc.statd at both ends). Mount with\n"
    "nolock; a lock then holds among the programs of one client."
)


def mount_lines(export: Export, server: str) -> Iterator[str]:
    """What to type on which client, line by line.

    Args:
        server: name or address that clients reach the server by; an IPv6 address is put into brackets.
    """
    host = f"[{server}]" if ":" in server and not server.startswith("[") else server
    place = f"{host}:{export.path}"
    security = "" if export.options.security == ("sys",) else f",sec={export.options.security[-1]}"
    has_v3, has_v4 = "3" in export.options.protocols, "4" in export.options.protocols
    yield "Linux:"
    if has_v4:
        yield f"  mount -t nfs -o nfsvers=4.1,hard{security} {place} /mnt/{export.share}"
    if has_v3:
        yield f"  mount -t nfs -o nfsvers=3,nolock,hard{security} {place} /mnt/{export.share}"
    yield "macOS:"
    if has_v3:
        yield f"  sudo mount_nfs -o vers=3,nolock,hard,resvport{security} {place} /Volumes/{export.share}"
    else:
        yield f"  sudo mount_nfs -o vers=4,hard,resvport{security} {place} /Volumes/{export.share}"
    yield "Windows (Client for NFS, which speaks NFSv3 only):"
    if has_v3:
        kind = f"krb5{export.options.security[-1][4:]}" if security else "sys"
        windows = export.path.replace("/", "\\")
        yield f"  mount -o nolock -o mtype=hard -o sec={kind} \\\\{windows_name(server)}{windows} Z:"
    else:
        yield '  not possible: put "3" into export.protocols'
    yield ""
    if has_v4:
        yield LOCKS_V4
    if has_v3:
        yield LOCKS_V3
    yield "Use hard mounts: while a gateway is started again clients then wait, and go on without an error."


def windows_name(server: str) -> str:
    """A UNC path holds no colons: an IPv6 address is written in the ipv6-literal.net form."""
    bare = server.strip("[]")
    return bare.replace(":", "-") + ".ipv6-literal.net" if ":" in bare else bare
