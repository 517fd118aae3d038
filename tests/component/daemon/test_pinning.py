"""The task behind `gatewayfs pin`: what is pinned is fetched, fetched again, listed, followed and let go."""

from types import SimpleNamespace

import pytest
import trio

from gatewayfs.daemon import pinning
from gatewayfs.daemon.pinning import Pinning
from gatewayfs.errors import StoreAccessDenied, UserError
from gatewayfs.types import ROOT_INO
from tests.sim.world import World
from tests.support.faultystore import FOREVER

BIG = b"many bytes" * 100


class Pinned(World):
    """A world with pins; ``pin`` and ``unpin`` as the control socket calls them."""

    async def start(self, nursery):
        await super().start(nursery)
        self.archived = []
        self.pinning = Pinning(
            self.cache, self.meta, self.refresh, self.fs.names, self.clock, lambda ino: self.archived.append(ino)
        )
        await nursery.start(self._keep)

    async def _keep(self, task_status):
        with trio.CancelScope() as self.keeper:
            await self.pinning.run(task_status)

    async def _end(self):
        self.keeper.cancel()
        await super()._end()

    async def pin(self, *paths):
        return await self.pinning.handlers()["pin"]({"paths": list(paths)}, lambda frame: None)

    async def unpin(self, *paths):
        return await self.pinning.handlers()["unpin"]({"paths": list(paths)}, lambda frame: None)

    async def find(self, path):
        inode = self.meta.require(ROOT_INO)
        for name in path.split("/"):
            inode = await self.fs.names.lookup(inode.ino, name.encode())
        return inode

    async def is_here(self, path):
        return self.cache.is_resident(await self.find(path))

    async def evicts(self, path):
        """Whether bytes of the file go when they are asked to."""
        ino = (await self.find(path)).ino
        return bool(await self.cache.evictor.evict(self.cache.room.keys_of(ino)))

    async def refreshed(self):
        """What others did is known here, and the pinned has been seen to."""
        await self.refresh.refresh()
        await trio.sleep(1.0)


@pytest.fixture
async def world(tmp_path):
    world = Pinned(tmp_path)
    for key, data in {"d/small": b"few", "d/sub/big": BIG, "other": BIG}.items():
        world.bucket.foreign_put(key, data)
    async with trio.open_nursery() as nursery:
        await world.start(nursery)
        yield world
        nursery.cancel_scope.cancel()


async def test_what_is_pinned_is_here_when_the_call_returns_and_stays_until_it_is_unpinned(world, autojump_clock):
    done = await world.pin("d")
    assert (done["files"], done["files_left"]) == (2, 0)
    await world.find("other")
    assert [await world.is_here(path) for path in ("d/small", "d/sub/big", "other")] == [True, True, False]
    assert [await world.evicts(path) for path in ("d/small", "d/sub/big")] == [False, False]
    assert world.pinning.status().kept_files == 2
    let_go = await world.unpin("d")
    assert let_go["files"] == 2
    assert let_go["bytes"] >= len(BIG)
    assert world.pinning.status().kept_bytes == 0
    assert [await world.evicts(path) for path in ("d/small", "d/sub/big")] == [True, True]


@pytest.mark.semantics("pin")
async def test_what_others_replace_or_add_is_fetched_by_itself(world, autojump_clock):
    await world.pin("d")
    world.bucket.foreign_put("d/sub/big", BIG[::-1])
    world.bucket.foreign_put("d/sub/new/deep", b"found")
    await world.refreshed()
    assert await world.is_here("d/sub/big")
    assert await world.is_here("d/sub/new/deep"), "a directory that a listing found is listed and walked"
    world.disconnect()
    handle = await world.fs.files.open((await world.find("d/sub/big")).ino, 0)
    assert await world.fs.files.read(handle, 0, len(BIG)) == BIG[::-1]
    await world.fs.files.release(handle)
    world.reconnect()


async def test_what_is_moved_below_a_pin_is_fetched_and_what_is_moved_away_may_go(world, autojump_clock):
    await world.pin("d")
    await world.fs.renaming.rename(
        ROOT_INO, b"other", (await world.find("d")).ino, b"other", no_replace=False, exchange=False
    )
    await trio.sleep(1.0)
    assert await world.is_here("d/other")
    await world.drain()
    assert not await world.evicts("d/other")
    below = await world.find("d/sub")
    await world.fs.renaming.rename(below.parent, b"sub", ROOT_INO, b"sub", no_replace=False, exchange=False)
    await trio.sleep(1.0)
    assert world.pinning.status().kept_files == 2, "the books know, before any file's own record changed"
    await world.drain()
    assert await world.evicts("sub/big")


async def test_what_could_not_be_fetched_is_told_and_tried_again_each_minute(world, autojump_clock):
    await world.pin("d")
    world.bucket.foreign_put("d/small", b"replaced")
    world.link.fail("get", StoreAccessDenied("not yours"), times=FOREVER, key="d/small")
    await world.refreshed()
    status = world.pinning.status()
    assert (status.short_files, status.short_path) == (1, "d/small")
    assert "not yours" in status.short_reason
    world.link.heal()
    await trio.sleep(2.5 * pinning.RETRY_S)
    assert await world.is_here("d/small")
    assert world.pinning.status().short_files == 0


async def test_a_pin_that_was_cut_short_goes_on_after_a_restart(world, nursery, autojump_clock):
    await world.pin("d")
    await world.unpin("d")
    assert await world.evicts("d/sub/big")
    inode = await world.find("d")
    world.cache.pins.add("d", inode, 1)
    await world.crash()
    await world.start(nursery)
    await trio.sleep(1.0)
    assert world.pinning.status().paths == ("d",)
    assert await world.is_here("d/sub/big")
    assert not await world.evicts("d/sub/big")


async def test_everything_is_walked_each_hour_whatever_was_overlooked(world, autojump_clock):
    await world.pin("d")
    inode = await world.find("d/sub/big")
    watch, world.cache.pins.watch = world.cache.pins.watch, lambda tx: None
    with world.meta.transaction() as tx:
        tx.put(world.cache.forget(tx, inode))
    world.cache.pins.watch = watch
    await trio.sleep(pinning.WALK_S / 2)
    assert not await world.is_here("d/sub/big")
    await trio.sleep(1.6 * pinning.WALK_S)
    assert await world.is_here("d/sub/big")


async def test_only_so_many_files_are_fetched_at_a_time_for_nobody(world, autojump_clock):
    await world.pin("d")
    hold = world.link.hold("get", times=FOREVER)
    for number in range(3 * pinning.FETCH_AT_A_TIME):
        world.bucket.foreign_put(f"d/new{number:02}", b"few")
    await world.refreshed()
    assert len(world.pinning._fetching) == pinning.FETCH_AT_A_TIME
    hold.release()
    world.link.heal()
    await trio.sleep(60.0)
    assert world.pinning.status().kept_files == 2 + 3 * pinning.FETCH_AT_A_TIME


async def test_more_than_the_cache_keeps_is_told_and_served(tmp_path, nursery, autojump_clock, monkeypatch):
    monkeypatch.setattr("tests.sim.world.CHUNK_BYTES", 4 << 20)
    world = Pinned(tmp_path, cache_bytes=32_768)
    for number in range(5):
        world.bucket.foreign_put(f"d/{number}", bytes([number]) * 8000)
    await world.start(nursery)
    done = await world.pin("d")
    assert (done["files"], done["files_left"]) == (3, 2)
    assert "more is pinned than the cache keeps" in done["left"][0]["reason"]
    await trio.sleep(1.0)
    status = world.pinning.status()
    assert status.kept_bytes <= status.limit_bytes == 32_768 * 0.75
    assert status.short_files == 2
    await world.unpin("d")
    assert world.pinning.status().short_files == 0
    await world.stop()


async def test_mistakes_are_named(world, autojump_clock):
    with pytest.raises(UserError, match="nowhere"):
        await world.pin("d", "nowhere")
    assert world.pinning.status().paths == (), "one that is not there, and none is pinned"
    link = await world.fs.names.symlink(ROOT_INO, b"link", b"d", SimpleNamespace(uid=0, gid=0))
    assert link.is_symlink
    with pytest.raises(UserError, match="neither a file nor a directory"):
        await world.pin("link")
    await world.pin("d")
    with pytest.raises(UserError, match="d/sub: is not pinned by itself") as told:
        await world.unpin("d/sub")
    assert told.value.cure == "pinned: d"
