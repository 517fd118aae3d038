"""Seals: what the bytes of large files are that are only here, found out while memory still has them.

An upload fingerprints a file before it sends it. When the bucket cannot be reached, or the queue is long, that is hours
after the bytes were written, and what the disk did to them meanwhile would be taken for the user's. So ten seconds
after the last writer closed a file that is still not uploaded, its cells are fingerprinted, mostly from the page cache,
and recorded (``meta.schema.Seal``). From then on every upload, every read and the scrub compare. A seal is of one
content revision: the first change after it ends it, durably and before the change, so no crash leaves a seal that says
of new bytes what the old ones were; it is recorded no earlier than the bytes are on disk.

Nothing is sealed while somebody may write; what the disk damages between a write and the seal nobody notices.
"""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import trio

from gatewayfs.cache.damage import Damage
from gatewayfs.cache.eviction import Hold
from gatewayfs.cache.live import Content
from gatewayfs.cache.snapshot import Snapshot, Turn, look
from gatewayfs.cache.vouched import describes, is_clean
from gatewayfs.errors import GatewayError
from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.schema import PLACED_IN_FILE, Inode, Seal
from gatewayfs.runtime.clock import Clock
from gatewayfs.runtime.fingerprints import DIGEST_BYTES, cell_bytes_for
from gatewayfs.runtime.offload import Offloader

log = logging.getLogger(__name__)

REST_S = 10.0
"""With a bucket that answers, files are uploaded, and so sealed, before; and a file that is appended to again and again
by programs that open and close it is left alone."""

SHARE = 0.25
"""Of the disk's time: a file that memory does not have any more is read no faster."""

NOTED_MAX = 100_000
"""Files that may wait to be sealed; the scrub finds the others."""


class Sealing:
    """Seals of one cache.

    Args:
        acquire, release: of ``ContentCache``.
        cell_bytes: the uploads' unit of comparison.
        turn: around what is read in the background: programs first.
    """

    def __init__(
        self,
        meta: MetaStore,
        offload: Offloader,
        clock: Clock,
        damage: Damage,
        acquire: Callable[[Inode], Content],
        release: Callable[[Content], None],
        cell_bytes: int,
        turn: Turn,
    ) -> None:
        self._meta, self._offload, self._clock, self._damage = meta, offload, clock, damage
        self._acquire, self._release, self._cell_bytes, self._turn = acquire, release, cell_bytes, turn
        self._noted: dict[int, float] = {}
        """When each shall be looked at, the earliest first."""
        self._news = trio.Event()
        self.sealed = 0

    def __repr__(self) -> str:
        return f"<Sealing {len(self._noted)} wait, {self.sealed} done>"

    @property
    def waiting(self) -> int:
        """Files that wait to be sealed."""
        return len(self._noted)

    def closed(self, content: Content) -> None:
        """Somebody let go of a live file: if nobody may write to it any more, it may have to be sealed. Cheap."""
        if content.hold is not Hold.FREE and not content.writers and content.sparse.number:
            self.note(content.ino)

    def note(self, ino: int) -> None:
        """Have a look at a file after a while."""
        if ino in self._noted:
            del self._noted[ino]
        elif len(self._noted) >= NOTED_MAX:
            return
        self._noted[ino] = self._clock.monotonic() + REST_S
        self._news.set()

    async def run(self) -> None:
        """Seal what was noted, for ever."""
        while True:
            while not self._noted:
                self._news = trio.Event()
                await self._news.wait()
            ino, due_s = next(iter(self._noted.items()))
            if (pause_s := due_s - self._clock.monotonic()) > 0:
                await trio.sleep(pause_s)
                continue
            del self._noted[ino]
            try:
                await self.seal(ino)
            except GatewayError as problem:
                log.warning("inode %d cannot be sealed: %s", ino, problem)

    async def seal(self, ino: int) -> bool:
        """Seal a file if it needs a seal and nobody may write to it; whether it has one now. Raises LocalError."""
        inode = self._meta.inode(ino)
        if inode is None or not wants_seal(inode):
            return False
        if (seal := self._meta.seal(ino)) is not None and describes(seal, inode):
            return True
        content = self._acquire(inode)
        try:
            if content.writers or content.changed or content.stale:
                return False
            cell_bytes = cell_bytes_for(inode.size, self._cell_bytes)
            await self.keep(content, await look(content, self._meta, self._offload, cell_bytes, turn=self._slowly))
        finally:
            self._release(content)
        seal, inode = self._meta.seal(ino), self._meta.inode(ino)
        return seal is not None and inode is not None and describes(seal, inode)

    async def keep(self, content: Content, snapshot: Snapshot) -> bool:
        """Compare what a snapshot found with the seal, or make it the seal if there is none.

        Returns False when the snapshot must be taken again: the disk gave other bytes this once, or damaged some
        that the bucket has, too. Raises CorruptRecord: the disk has changed bytes that are only here.
        """
        inode = self._meta.inode(content.ino)
        if inode is None or not snapshot.path or inode.content_revision != snapshot.revision or not wants_seal(inode):
            return True
        seal, unit = self._meta.seal(content.ino), snapshot.cell_bytes
        if seal is None or not describes(seal, inode) or seal.cell_bytes != unit:
            self._put(content, inode, snapshot, snapshot.cells)
            return True
        known = seal.cells
        wrong = [
            n for n, (was, now) in enumerate(zip(known, snapshot.cells, strict=True)) if was and now and was != now
        ]
        for number in wrong:
            await self._damage.judge(content, number * unit, min((number + 1) * unit, seal.size), on_disk=False)
        self._damage.fences.refuse(content)
        if not wrong and any(now and not was for was, now in zip(known, snapshot.cells, strict=True)):
            self._put(content, inode, snapshot, [was or now for was, now in zip(known, snapshot.cells, strict=True)])
        return not wrong

    # ------------------------------------------------------------------ inside

    def _put(self, content: Content, inode: Inode, snapshot: Snapshot, cells: Sequence[bytes]) -> None:
        digests = b"".join(cell or bytes(DIGEST_BYTES) for cell in cells)
        if not any(digests):
            return
        seal = Seal(inode.content_revision, content.sparse.number, snapshot.size, snapshot.cell_bytes, digests)
        if not describes(seal, inode):
            return
        with self._meta.transaction() as tx:
            tx.put_seal(content.ino, seal)
            # After power loss the seal must not be there without its bytes.
            tx.needs_data_sync(snapshot.path)
        self.sealed += 1

    @asynccontextmanager
    async def _slowly(self) -> AsyncIterator[None]:
        async with self._turn():
            begun_s = self._clock.monotonic()
            yield
            took_s = self._clock.monotonic() - begun_s
        await trio.sleep(took_s * (1 / SHARE - 1))


def wants_seal(inode: Inode) -> bool:
    """Whether a file has bytes of its own that only this machine has."""
    placement = inode.placement
    return inode.linked and placement is not None and placement.kind == PLACED_IN_FILE and not is_clean(inode)
