"""What the second version of a file is called after a conflict, and where its object lies."""

import itertools

from gatewayfs.conflict import conflict_name
from gatewayfs.meta.schema import Inode
from gatewayfs.types import KEY_BYTES_MAX, NAME_BYTES_MAX
from gatewayfs.upload.context import Context


def free_name(ctx: Context, inode: Inode, key: str, when_ns: int) -> bytes:
    """A conflict name beside ``inode`` that nobody has."""
    for attempt in itertools.count():
        name = copy_name(ctx, inode, key, when_ns, attempt)
        if ctx.meta.lookup(inode.parent, name) is None:
            return name
    raise AssertionError("itertools.count ended")


def copy_name(ctx: Context, inode: Inode, key: str, when_ns: int, attempt: int) -> bytes:
    """The name, short enough for the directory and for S3's keys."""
    room = KEY_BYTES_MAX - (len(key.encode()) - len(inode.name))
    return conflict_name(inode.name, ctx.settings.gateway_name, when_ns, attempt, min(NAME_BYTES_MAX, room))


def sibling(key: str, name: bytes) -> str:
    """The key of an object called ``name`` beside the one at ``key``."""
    return key.rpartition("/")[0] + "/" * ("/" in key) + name.decode()
