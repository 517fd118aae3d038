"""Which bytes of a file are on this machine, by its record and, while somebody uses it, its live content."""

from gatewayfs.cache.extents import Extents
from gatewayfs.cache.live import Content
from gatewayfs.meta.schema import PLACED_IN_PACK, Inode


def is_resident(inode: Inode, content: Content | None) -> bool:
    """Every byte is here."""
    if content is not None:
        return content.resident
    placement = inode.placement
    if inode.size == 0 or (placement is not None and placement.kind == PLACED_IN_PACK):
        return True
    return placement is not None and Extents(placement.extents).covers(0, inode.size)


def absent_bytes(inode: Inode, content: Content | None) -> int:
    """How many bytes are only in the bucket."""
    if is_resident(inode, content):
        return 0
    if content is not None:
        return content.size - content.extents.total_bytes
    return inode.size - Extents(inode.placement.extents if inode.placement else ()).total_bytes


def lacks(inode: Inode, content: Content | None) -> bool:
    """Whether something of a file, bytes or attributes, is only in the bucket."""
    return inode.remote is not None and not (inode.attributes_known and is_resident(inode, content))
