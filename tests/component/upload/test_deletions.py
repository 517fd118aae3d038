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


@pytest.mark.semantics("conflict-deletion")
@pytest.mark.parametrize("conditional", [True, False])
async def test_one_by_one_what_others_changed_stays_too(make_world, conditional):
    bucket = FakeObjectStore(capabilities=replace(EVERYTHING, delete_many_if_match=False, delete_if_match=conditional))
    world = make_world(bucket=bucket)
    await files(world, 3)
    bucket.foreign_put("f1", b"theirs")
    for number in range(3):
        world.unlink(f"f{number}")
    await world.drained()
    assert {key: stored.data for key, stored in bucket.raw.items()} == {"f1": b"theirs"}
    assert world.meta.doomed_count == 0


async def test_between_a_look_and_the_deletion_the_condition_holds(make_world):
    bucket = FakeObjectStore(capabilities=replace(EVERYTHING, delete_many_if_match=False))
    world = make_world(bucket=bucket)
    await files(world, 1)
    world.unlink("f0")
    async with world.running() as uploader:
        held = world.store.hold("delete")
        await held.reached.wait()
        bucket.foreign_put("f0", b"theirs")
        held.release()
        await uploader.drain()
    assert bucket.raw["f0"].data == b"theirs"


async def test_a_file_made_anew_takes_over_the_object_and_nobody_sees_none(world):
    await world.write("f", b"old")
    await world.drained()
    world.unlink("f")
    await world.write("f", b"new")
    await world.drained()
    await world.check()
    assert world.bucket.raw["f"].data == b"new"
    assert world.bucket.count("delete") == world.bucket.count("delete_many") == 0


@pytest.mark.semantics("durable-power-loss")
async def test_an_object_goes_when_the_records_that_do_without_it_are_on_the_disk(make_world):
    world = make_world(
        bucket=FakeObjectStore(capabilities=replace(EVERYTHING, delete_many_if_match=False)), settle_s=0.0
    )
    await files(world, 1)
    async with world.running() as uploader:
        held = world.store.hold("delete")
        world.unlink("f0")
        await held.reached.wait()
        records = world.meta.statistics()
        assert records.synced_sequence == records.sequence
        held.release()
        await uploader.drain()
