"""The cache disk changes bytes that wait for their upload: they never reach the bucket, and everything else does."""

import pytest

from gatewayfs.errors import StoreUnreachable
from tests.support.faultystore import FOREVER

LARGE = bytes(range(256)) * 1200


def flip(world, path, offset):
    placement = world.at(path).placement
    file = world.cache.folder.path(world.at(path).ino, placement.pack)
    data = bytearray(file.read_bytes())
    data[offset] ^= 1
    file.write_bytes(data)


@pytest.mark.semantics("damaged-dirty")
@pytest.mark.parametrize("part_bytes", [1 << 20, 64 << 10], ids=["in one PUT", "in parts"])
async def test_bytes_damaged_in_the_queue_are_never_uploaded(make_world, part_bytes):
    world = make_world(part_bytes=part_bytes, cell_bytes=16 << 10)
    for operation in ("put", "upload_part"):
        world.store.fail(operation, StoreUnreachable("away"), times=FOREVER)
    await world.write("large", LARGE)
    await world.write("other", b"fine")
    async with world.running():
        await world.arrived(lambda: world.meta.seal(world.at("large").ino) is not None)
    world.crash()
    flip(world, "large", 100_000)
    world.store.heal()
    async with world.running() as uploader:
        report = await uploader.drain()
        assert [(entry.key, entry.parked.code) for entry in report.left] == [("large", "CorruptRecord")]
        assert sorted(world.bucket.raw) == ["other"]
        with world.cache.using(world.at("large")) as content:
            await content.truncate(0)
            await content.write(0, LARGE)
            await content.persist()
        uploader.notice(world.at("large").ino)
        assert not (await uploader.drain()).left
    assert world.bucket.raw["large"].data == LARGE
