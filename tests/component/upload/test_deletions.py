"""Many objects go in few requests, each only if it still is what was deleted here."""

from dataclasses import replace

import pytest

from gatewayfs.errors import StoreAccessDenied, StoreUnreachable
from tests.support.fakestore import EVERYTHING, FakeObjectStore


async def files(world, count, name="f"):
    for number in range(count):
        await world.write(f"{name}{number}", b"%d" % number)
    await world.drained()


async def test_a_removed_tree_goes_in_requests_of_a_thousand(world):
    await files(world, 1500)
    for number in range(1500):
        world.unlink(f"f{number}")
    await world.drained()
    await world.check()
    assert not world.bucket.raw
    assert world.bucket.count("delete_many") <= 3
    assert world.bucket.count("delete") == 0


async def test_the_old_objects_of_a_renamed_directory_go_together(world):
    world.mkdir("d")
    await files(world, 100, "d/f")
    world.rename("d", "e")
    await world.drained()
    await world.check()
    assert world.bucket.count("delete_many") <= 5


@pytest.mark.semantics("conflict-deletion")
async def test_what_others_changed_stays_and_the_rest_of_the_request_goes(world):
    await files(world, 5)
    world.bucket.foreign_put("f3", b"theirs")
    for number in range(5):
        world.unlink(f"f{number}")
    await world.drained()
    assert {key: stored.data for key, stored in world.bucket.raw.items()} == {"f3": b"theirs"}
    assert world.meta.doomed_count == 0


async def test_a_key_the_store_refuses_is_parked_and_the_rest_goes(make_world):
    class Refusing(FakeObjectStore):
        async def delete_many(self, deletions):
            rest = [deletion for deletion in deletions if deletion.key != "f3"]
            refused = await super().delete_many(rest) if rest else {}
            return refused | ({"f3": StoreAccessDenied("locked")} if len(rest) < len(deletions) else {})

    world = make_world(bucket=Refusing())
    await files(world, 5)
    for number in range(5):
        world.unlink(f"f{number}")
    async with world.running() as uploader:
        report = await uploader.drain()
    assert list(world.bucket.raw) == ["f3"]
    assert [(entry.key, entry.parked.reason) for entry in report.left] == [("f3", "locked")]


async def test_an_answer_that_got_lost_deletes_nobody_elses_object(world):
    await files(world, 5)
    for number in range(5):
        world.unlink(f"f{number}")
    world.store.fail("delete_many", StoreUnreachable("lost"), after=True)
    async with world.running() as uploader:
        fault = world.store.hold("delete_many")
        await uploader.operator.hurry()
        await fault.reached.wait()
        world.bucket.foreign_put("f2", b"theirs")
        fault.release()
        await uploader.drain()
    assert list(world.bucket.raw) == ["f2"]


async def test_a_name_that_xml_cannot_hold_is_deleted_by_itself(world):
    for name in ("bell\a", "return\r", "plain"):
        await world.write(name, b"x")
    await world.drained()
    for name in ("bell\a", "return\r", "plain"):
        world.unlink(name)
    await world.drained()
    assert not world.bucket.raw
    assert (world.bucket.count("delete"), world.bucket.count("delete_many")) == (2, 1)


async def test_a_store_that_compares_no_etags_is_asked_one_by_one(make_world):
    world = make_world(bucket=FakeObjectStore(capabilities=replace(EVERYTHING, delete_many_if_match=False)))
    await files(world, 20)
    for number in range(20):
        world.unlink(f"f{number}")
    await world.drained()
    assert not world.bucket.raw
    assert (world.bucket.count("delete"), world.bucket.count("delete_many")) == (20, 0)
