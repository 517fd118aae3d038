"""What every live file needs of the cache it belongs to, handed to it by its constructor."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatewayfs.cache.diskreads import DiskReads
from gatewayfs.cache.fences import Fences
from gatewayfs.cache.packs import Packs
from gatewayfs.cache.room import Room
from gatewayfs.cache.sparse import Folder
from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.schema import Placement
from gatewayfs.runtime.clock import Clock
from gatewayfs.runtime.disk import Disk

if TYPE_CHECKING:
    from gatewayfs.cache.live import Content


@dataclass(frozen=True, slots=True)
class CacheParts:
    """One per cache.

    ``cell_bytes`` is the unit in which uploads compare files with their objects, as long as those are not huge.

    ``fetch(content, start, end)`` brings absent bytes from the bucket; ``NoRoom`` when they have no place.
    ``bypass(content, start, end)`` returns bytes, the absent ones from the bucket, and keeps nothing.
    ``follow(content, start, end)`` is told of reads of bytes that are here.
    ``freeing(ino, placement)``, asked when a record stops using a placement, gives its space back when called.
    """

    meta: MetaStore
    packs: Packs
    disk: Disk
    clock: Clock
    small_file_bytes: int
    cell_bytes: int
    folder: Folder
    room: Room
    reads: DiskReads
    fences: Fences
    fetch: Callable[[Content, int, int], Awaitable[None]]
    bypass: Callable[[Content, int, int], Awaitable[bytes]]
    follow: Callable[[Content, int, int], None]
    freeing: Callable[[int, Placement], Callable[[], None]]
