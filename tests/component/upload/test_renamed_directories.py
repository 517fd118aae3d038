"""Renamed directories where CopyObject ignores conditions, and what ``status`` says of them."""

from dataclasses import replace

import pytest

from gatewayfs.errors import StoreAccessDenied
from gatewayfs.upload.status import Renaming
from tests.support.fakestore import EVERYTHING, FakeObjectStore
from tests.support.faultystore import FOREVER

NO_COPY_CONDITIONS = replace(EVERYTHING, copy_if_match=False)


@pytest.fixture
def world(make_world):
    return make_world(bucket=FakeObjectStore(capabilities=NO_COPY_CONDITIONS))


async def directory(world, count):
    world.mkdir("d")
    for number in range(count):
        await world.write(f"d/f{number}", b"%d" % number)
    await world.drained()


async def test_one_list_looks_at_many_destinations(world):
    await directory(world, 300)
    heads, lists = world.bucket.count("head"), world.bucket.count("list_page")
    world.rename("d", "e")
    await world.drained()
    await world.check()
    assert world.bucket.count("head") - heads <= 5
    assert world.bucket.count("list_page") - lists <= 5


@pytest.mark.semantics("conflict-kept")
async def test_what_others_have_at_a_destination_is_kept(world):
    await directory(world, 30)
    world.rename("d", "e")
    world.bucket.foreign_put("e/f17", b"theirs")
    await world.drained()
    there = {stored.data for stored in world.bucket.raw.values()}
    assert {b"theirs"} | {b"%d" % number for number in range(30)} <= there
    assert world.bucket.raw["e/f17"].data == b"theirs"


async def test_who_may_not_list_looks_one_by_one(world):
    await directory(world, 30)
    world.store.fail("list_page", StoreAccessDenied("no"), times=FOREVER)
    world.rename("d", "e")
    world.bucket.foreign_put("e/f17", b"theirs")
    world.store.fail("list_page", StoreAccessDenied("no"), times=FOREVER)
    await world.drained()
    assert world.bucket.raw["e/f16"].data == b"16"
    assert world.bucket.raw["e/f17"].data == b"theirs"


async def test_status_says_how_far_a_rename_is_and_forgets_it_when_it_is_over(world):
    await directory(world, 40)
    world.mkdir("d/sub")
    await world.write("d/sub/g", b"g")
    await world.drained()
    world.rename("d", "e")
    async with world.running() as uploader:
        fault = world.store.hold("copy", skip=10, times=FOREVER)
        await uploader.operator.hurry()
        await fault.reached.wait()
        (renaming,) = uploader.status().renames
        assert (renaming.old, renaming.new) == ("d/", "e/")
        assert 0 < renaming.done <= 10
        assert renaming.total in (40, 41)
        fault.release()
        await uploader.drain()
        assert uploader.status().renames == ()
    await world.check()


async def test_a_directory_renamed_again_is_counted_once(world):
    await directory(world, 40)
    world.rename("d", "e")
    async with world.running() as uploader:
        fault = world.store.hold("copy", skip=10, times=FOREVER)
        await uploader.operator.hurry()
        await fault.reached.wait()
        world.rename("e", "g")
        fault.release()
        await uploader.operator.hurry()
        assert all(isinstance(each, Renaming) for each in uploader.status().renames)
        await uploader.drain()
        assert uploader.status().renames == ()
    await world.check()
    files = {f"g/f{number}" for number in range(40)}
    assert files <= set(world.bucket.raw) <= files | {"g/"}
