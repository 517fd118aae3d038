"""Are the bytes a record names on the disk? For ``gatewayfs check``, with the daemon and without."""

from gatewayfs.cache.packs import Packs
from gatewayfs.cache.sparse import Folder
from gatewayfs.meta.schema import PLACED_IN_PACK, Inode


def wrong_with(inode: Inode, packs: Packs, folder: Folder) -> str:
    """What is wrong, in one line, or "".

    Pack entries are compared with their checksum; of sparse files presence and length are looked at.
    """
    placement = inode.placement
    if placement is None:
        return ""
    in_pack = placement.kind == PLACED_IN_PACK
    path = packs.path(placement.pack) if in_pack else folder.path(inode.ino, placement.pack)
    try:
        length = path.stat().st_size
    except OSError as problem:
        return f"inode {inode.ino}: {path.name} cannot be read: {problem.strerror}"
    if in_pack:
        return "" if packs.intact(placement) else f"inode {inode.ino}: its bytes in {path.name} are damaged"
    # A hole at the end need not be in the file; where the last range begins must be.
    needed = min(placement.extents[-2], inode.size) if placement.extents else 0
    return "" if length >= needed else f"inode {inode.ino}: {path.name} is shorter than its record says"
