"""A hold keeps changes here until somebody releases them, whatever is renamed, deleted or restarted meanwhile."""

import msgspec
import pytest
import trio

from gatewayfs.errors import StoreAccessDenied, StoreBusy, UserError
from gatewayfs.meta.schema import Directory, Inode
from tests.support.faultystore import FOREVER


async def hold(world, path):
    await world.uploader.operator.hold(path, world.need(path).ino)


async def listed(world, path=""):
    page = await world.uploader.operator.entries(path, None, 1000)
    return {entry.path: entry for entry in page.entries}


async def test_what_changes_below_a_held_path_stays_here_until_it_is_released(world):
    world.mkdir("held")
    await world.write("held/old", b"1")
    await world.drained()
    async with world.running() as uploader:
        await hold(world, "held")
        await world.write("held/new", b"n")
        await world.put("held/old", b"2")
        await world.write("free", b"f")
        await trio.sleep(1000)
        assert sorted(world.bucket.raw) == ["free", "held/", "held/old"]
        assert world.bucket.raw["held/old"].data == b"1"
        status = uploader.status()
        assert (status.held.files, status.held.size_bytes, status.entries) == (2, 2, 2)
        assert [held.path for held in status.holds] == ["held"]
        assert {entry.state for entry in (await listed(world)).values()} == {"held"}
        assert await uploader.operator.release("")
        assert (await uploader.drain()).complete
        assert uploader.status().held.files == 0
    await world.check()


async def test_deletions_and_renames_below_it_and_across_its_border_are_held_too(world):
    for name in ("held", "out"):
        world.mkdir(name)
    for path in ("held/gone", "held/renamed", "held/leaves", "out/comes", "out/stays"):
        await world.write(path, path.encode())
    await world.drained()
    before = world.objects()
    async with world.running() as uploader:
        await hold(world, "held")
        world.unlink("held/gone")
        world.rename("held/renamed", "held/other")
        world.rename("held/leaves", "out/left")
        world.rename("out/comes", "held/came")
        await trio.sleep(1000)
        assert world.objects() == before
        await uploader.operator.release("held")
        assert (await uploader.drain()).complete
    await world.check()


async def test_a_drain_does_not_wait_for_what_is_held_and_says_how_much_it_is(world):
    world.mkdir("held")
    async with world.running() as uploader:
        await hold(world, "held")
        for number in range(5):
            await world.write(f"held/{number}", b"x")
        await world.write("free", b"f")
        with trio.fail_after(10):
            report = await uploader.drain()
        assert not report.complete
        assert (report.left, report.held) == ((), 6), "five files and the marker of their directory"
        assert list(world.bucket.raw) == ["free"]
        await uploader.operator.release("")
        assert (await uploader.drain()).complete
    await world.check()


async def test_who_has_patience_waits_for_what_is_held(world):
    await world.write("a", b"x")
    async with world.running() as uploader:
        await hold(world, "a")
        await world.write(".nfs1", b"never")
        with trio.move_on_after(1000) as waiting:
            await uploader.drain(patient=True)
        assert waiting.cancelled_caught
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: uploader.drain(patient=True))
            await trio.sleep(10)
            assert nursery.child_tasks
            await uploader.operator.release("a")
    assert list(world.bucket.raw) == ["a"]


async def test_a_hold_survives_a_restart(world):
    world.mkdir("held")
    async with world.running():
        await hold(world, "held")
        await world.write("held/a", b"x")
    world.crash()
    async with world.running() as uploader:
        await trio.sleep(1000)
        assert world.bucket.raw == {}
        assert uploader.status().held.files == 2
        await uploader.operator.release("held")
        await trio.sleep(10)
    await world.check()


async def test_a_renamed_directory_stays_held_and_so_does_its_old_place(world):
    world.mkdir("above")
    world.mkdir("above/held")
    await world.write("above/held/a", b"1")
    await world.drained()
    async with world.running() as uploader:
        await hold(world, "above/held")
        world.rename("above", "moved")
        await world.write("moved/held/new", b"n")
        await world.put("moved/held/a", b"2")
        await trio.sleep(1000)
        assert [key for key in world.bucket.raw if "held" in key] == ["above/held/", "above/held/a"]
        assert world.bucket.raw["above/held/a"].data == b"1"
        assert await uploader.operator.release("moved/held"), "by the name it has now"
        assert (await uploader.drain()).complete
    await world.check()


async def test_what_was_already_on_its_way_is_finished(make_world):
    world = make_world()
    held = world.store.hold("put")
    async with world.running() as uploader:
        await world.write("a", b"1")
        await held.reached.wait()
        await hold(world, "")
        await world.write("b", b"2")
        held.release()
        await trio.sleep(100)
        assert list(world.bucket.raw) == ["a"]
        assert "a" not in await listed(world)
        await uploader.operator.release("")
        await trio.sleep(1)
    await world.check()


async def test_moving_a_file_out_that_was_never_in_the_bucket_frees_it(world):
    world.mkdir("held")
    world.mkdir("held/d")
    async with world.running() as uploader:
        await hold(world, "held")
        await world.write("held/a", b"x")
        await world.write("held/d/b", b"y")
        await trio.sleep(100)
        world.rename("held/a", "a")
        world.rename("held/d", "d")
        await trio.sleep(100)
        assert sorted(world.bucket.raw) == ["a", "d/", "d/b"]
        await uploader.operator.release("")
        await trio.sleep(10)
    await world.check()


async def test_a_file_outside_does_not_wait_for_a_held_one_whose_object_is_in_its_way(world):
    world.mkdir("held")
    await world.write("doc", b"old")
    await world.drained()
    async with world.running() as uploader:
        await hold(world, "held")
        world.rename("doc", "held/doc~")
        await world.write("doc", b"new")
        with trio.fail_after(100):
            report = await uploader.drain()
        assert report.held == 1
        assert world.bucket.raw["doc"].data == b"new"
        assert await world.read("held/doc~") == b"old"
        await uploader.operator.release("")
        assert (await uploader.drain()).complete
    await world.check()


async def test_entries_that_waited_for_one_that_is_held_now_are_not_forgotten(world):
    for name in ("a", "b"):
        await world.write(name, name.encode())
    await world.drained()
    slow = world.store.hold("copy", times=FOREVER)
    async with world.running() as uploader:
        world.rename("a", "c")
        world.rename("b", "a")
        await slow.reached.wait()
        await hold(world, "c")
        slow.release()
        with trio.fail_after(100):
            await uploader.drain()
        await uploader.operator.release("c")
        assert (await uploader.drain()).complete
    await world.check()


async def test_a_parked_entry_that_gets_held_is_tried_again_when_it_is_released(world):
    world.store.fail("put", StoreAccessDenied("no"), key="a")
    await world.write("a", b"x")
    async with world.running() as uploader:
        await uploader.drain()
        await hold(world, "a")
        await trio.sleep(2000)
        assert uploader.status().held.files == 1
        await uploader.operator.release("a")
        await trio.sleep(1)
    await world.check()


async def test_only_so_many_holds_and_each_once(world):
    for number in range(101):
        await world.write(f"f{number}", b"x")
    for number in range(100):
        await hold(world, f"f{number}")
        await hold(world, f"f{number}")
    assert len(world.uploader.operator.holds) == 100
    with pytest.raises(UserError, match="100 paths"):
        await hold(world, "f100")
    assert await world.uploader.operator.release("f3")
    assert not await world.uploader.operator.release("f3")


async def test_the_list_names_every_state_with_its_reason_oldest_first(world):
    world.store.fail("put", StoreAccessDenied("not allowed"), key="parked", times=FOREVER)
    world.store.fail("put", StoreBusy("slow down"), key="busy", times=FOREVER)
    under_way = world.store.hold("put", key="flying")
    async with world.running():
        for name in ("parked", "busy", "flying", "held", ".nfs1"):
            await world.write(name, b"xyz")
            await trio.sleep(0.1)
        await hold(world, "held")
        await under_way.reached.wait()
        await trio.sleep(2)
        await world.write("settling", b"s")
        found = await listed(world)
        assert {path: entry.state for path, entry in found.items()} == {
            "parked": "parked", "busy": "backing off", "flying": "in flight", "held": "held", ".nfs1": "excluded",
            "settling": "settling",
        }  # fmt: skip
        assert list(found) == ["parked", "busy", "flying", "held", ".nfs1", "settling"]
        assert found["parked"].reason == "not allowed"
        assert found["flying"].reason == "sending"
        assert found["busy"].retry_s > 0
        assert {entry.work for entry in found.values()} == {"upload"}
        pages, after = [], None
        while True:
            page = await world.uploader.operator.entries("", after, 2)
            pages += [entry.path for entry in page.entries]
            if (after := page.after) is None:
                break
        assert pages == list(found), "page by page it is the same list"
        assert list(await listed(world, "busy")) == ["busy"]
        under_way.release()


async def test_now_skips_the_settle_time_of_what_is_below_a_path_only(make_world):
    world = make_world(settle_s=600.0, settle_max_s=3600.0)
    world.mkdir("d")
    async with world.running() as uploader:
        for path in ("d/a", "d/b", "dd", "c"):
            await world.write(path, b"x")
        assert await uploader.operator.hurry("d") == 3
        await trio.sleep(1)
        assert sorted(world.bucket.raw) == ["d/", "d/a", "d/b"]


async def test_retry_of_a_path_leaves_others_to_their_back_off(world):
    for name in ("a", "b"):
        world.store.fail("put", StoreAccessDenied("no"), key=name)
        await world.write(name, b"x")
    async with world.running() as uploader:
        await uploader.drain()
        assert await uploader.operator.retry("a") == 1
        await trio.sleep(1)
        assert list(world.bucket.raw) == ["a"]


async def test_what_is_made_anew_at_the_old_place_of_a_held_directory_stays_too(world):
    world.mkdir("held")
    async with world.running() as uploader:
        await hold(world, "held")
        world.rename("held", "moved")
        world.mkdir("held")
        await world.write("held/again", b"x")
        await trio.sleep(1000)
        assert world.bucket.raw == {}
        assert (await uploader.drain()).held == 3
        await uploader.operator.release("moved")
        assert (await uploader.drain()).complete
    await world.check()


async def test_the_object_in_the_way_of_a_held_file_waits_with_it(world):
    world.mkdir("held")
    await world.write("held/a", b"new")
    await world.write("x", b"old")
    await world.drained()
    async with world.running() as uploader:
        await hold(world, "held")
        world.unlink("x")
        world.rename("held/a", "x")
        await trio.sleep(1000)
        with trio.fail_after(100):
            report = await uploader.drain()
        assert report.held == 2
        assert {"held/a", "x"} <= world.bucket.raw.keys()
        assert world.bucket.raw["x"].data == b"old"
        await uploader.operator.release("held")
        assert (await uploader.drain()).complete
    await world.check()


async def test_a_directory_that_is_still_listed_from_a_held_place_is_held(world):
    world.mkdir("held")
    await hold(world, "held")
    holds = world.uploader.operator._holds
    moved = Inode(90, 1, b"d", 0o040755, 0, 0, 0, 1, 1, 1, directory=Directory(source="held/d/"))
    assert holds.of(moved, "d/") is not None
    assert holds.of(msgspec.structs.replace(moved, directory=Directory(source="d/")), "d/") is None
