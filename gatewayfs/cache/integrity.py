"""The parts that see to it that the cache disk gives back what it was given, wired together.

checking   compares what is read          sealing   finds out what is only here
scrub      reads what nobody reads        damage    deals with what is wrong; fences: what nobody may have
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from gatewayfs.cache.checking import CheckedReads
from gatewayfs.cache.damage import Damage
from gatewayfs.cache.live import Content
from gatewayfs.cache.scrub import Scrub
from gatewayfs.cache.scrubmarks import NO_SCRUB, ScrubSettings
from gatewayfs.cache.sealing import Sealing
from gatewayfs.cache.snapshot import NO_TURN, Snapshot, Turn, take
from gatewayfs.meta.env import MetaStore
from gatewayfs.runtime.clock import Clock
from gatewayfs.runtime.disk import Disk
from gatewayfs.runtime.offload import Offloader

if TYPE_CHECKING:
    from gatewayfs.cache.content import ContentCache


@dataclass(frozen=True, slots=True)
class IntegritySettings:
    """How much is compared.

    Attributes:
        every: of the cells that are read, one in so many is compared with its fingerprint; 0: none.
        scrub: how often, and how fast, everything is read and compared.
        turn: around what is read in the background.
    """

    every: int = 1
    scrub: ScrubSettings = NO_SCRUB
    turn: Turn = NO_TURN


COMPARE_ALL = IntegritySettings()


class Integrity:
    """Of one cache.

    Args:
        cache: its packs, folder and books are there.
        cell_bytes: the uploads' unit of comparison.
    """

    def __init__(
        self,
        settings: IntegritySettings,
        cache: "ContentCache",
        meta: MetaStore,
        disk: Disk,
        offload: Offloader,
        clock: Clock,
        cell_bytes: int,
    ) -> None:
        self._meta, self._offload = meta, offload
        self.damage = Damage(meta, cache.packs, offload, cache.room, clock, cache.freeing)
        self.reads = CheckedReads(meta, cache.packs, disk, settings.every, self.damage)
        self.sealing = Sealing(
            meta, offload, clock, self.damage, cache.acquire, cache.release, cell_bytes, settings.turn
        )
        self.scrub = Scrub(
            meta,
            cache.packs,
            cache.folder,
            offload,
            clock,
            self.damage,
            self.sealing,
            cache.using,
            settings.scrub,
            settings.turn,
        )

    async def run(self) -> None:
        """What goes on in the background, for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.sealing.run)
            nursery.start_soon(self.scrub.run)

    async def snapshot(self, content: Content, cell_bytes: int, before: Snapshot | None) -> Snapshot:
        """The bytes of a live file as they are now, and as they were written: see ``cache.snapshot.take``.

        Raises CorruptRecord besides: bytes that are only here are not what they were.
        """
        self.damage.fences.refuse(content)
        while True:
            snapshot = await take(content, self._meta, self._offload, cell_bytes, before)
            if await self.sealing.keep(content, snapshot):
                return snapshot
