"""When what vouches for a file's bytes ends, and whether what is left agrees with its file (tables F, L and B)."""

from collections.abc import Iterator

from gatewayfs.meta import codec
from gatewayfs.meta.reader import Reader
from gatewayfs.meta.schema import Inode


def ended(meta: Reader, previous: Inode | None, inode: Inode) -> Iterator[bytes]:
    """The keys of F, L and B, if there are any and a change of the record ends them."""
    if previous is None:
        return
    if previous.remote != inode.remote:
        # F goes when the object it describes is not the inode's any more.
        known = meta.fingerprints(inode.ino)
        if known is not None and not known.describes(inode.remote):
            yield codec.fingerprints_key(inode.ino)
    settled = inode.remote is not None and inode.remote.content_revision == inode.content_revision
    if previous.content_revision != inode.content_revision or (settled and previous.remote != inode.remote):
        key = codec.seal_key(inode.ino)
        if meta.raw(key) is not None:
            yield key
    old, new = previous.placement, inode.placement
    if old is not None and (new is None or (old.kind, old.pack, old.offset) != (new.kind, new.pack, new.offset)):
        key = codec.fence_key(inode.ino)
        if meta.raw(key) is not None:
            yield key


def look_fingerprints(meta: Reader, key: bytes) -> Iterator[str]:
    who = f"fingerprints of inode {codec.number_at(key, 1)}"
    found, inode = codec.decode_fingerprints(key, meta.raw(key) or b""), meta.inode(codec.number_at(key, 1))
    if inode is None or not found.describes(inode.remote):
        yield f"{who}: {found.key!r} {found.etag} is not its object"
    if found.cell_bytes <= 0 or len(found.digests) != 16 * -(-found.size // found.cell_bytes):
        yield f"{who}: {len(found.digests)} bytes for {found.size} in cells of {found.cell_bytes}"


def look_seal(meta: Reader, key: bytes) -> Iterator[str]:
    who = f"seal of inode {codec.number_at(key, 1)}"
    found, inode = codec.decode_seal(key, meta.raw(key) or b""), meta.inode(codec.number_at(key, 1))
    if inode is None or inode.content_revision != found.content_revision:
        yield f"{who}: of revision {found.content_revision}, which is not its present one"
    elif inode.size != found.size:
        yield f"{who}: of {found.size} bytes, it has {inode.size}"
    if found.cell_bytes <= 0 or len(found.digests) != 16 * -(-found.size // found.cell_bytes):
        yield f"{who}: {len(found.digests)} bytes for {found.size} in cells of {found.cell_bytes}"


def look_fence(meta: Reader, key: bytes) -> Iterator[str]:
    found, inode = codec.decode_fence(key, meta.raw(key) or b""), meta.inode(codec.number_at(key, 1))
    placement = None if inode is None else inode.placement
    here = None if placement is None else (placement.kind, placement.pack, placement.offset)
    if here != (found.kind, found.pack, found.offset):
        yield f"fence of inode {codec.number_at(key, 1)}: its bytes are not there any more"
