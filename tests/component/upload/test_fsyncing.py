"""An fsync that waits for the bucket: it returns when it is there, or says why not; and holds nobody else up."""

import pytest
import trio

from gatewayfs.errors import ObjectArchived, StoreAccessDenied, TryAgain, Unavailable
from gatewayfs.upload.fsyncing import BucketFsync
from tests.component.upload.harness import GATEWAY_WINS, ROOT
from tests.support.faultystore import FOREVER

TIMEOUT_S = 120.0
SOON_S = 10.0
NEVER = {"settle_s": 3600.0, "settle_max_s": 86400.0}
"""Nothing goes up by itself in the time of a test."""


def fsync_of(world, **settings):
    return BucketFsync(world.uploader.drains, world.clock, TIMEOUT_S, **settings)


async def soon(world, ino):
    with trio.fail_after(SOON_S):
        await fsync_of(world).wait(ino)


@pytest.mark.semantics("fsync-bucket")
async def test_it_returns_when_the_file_is_in_the_bucket_and_waits_for_no_settle_time(make_world):
    world = make_world(**NEVER)
    ino = await world.write("wanted", b"w")
    await world.write("other", b"o")
    async with world.running():
        await soon(world, ino)
        assert sorted(world.bucket.raw) == ["wanted"]
        await soon(world, ino)  # nothing is left to wait for


async def test_a_file_that_is_being_written_gets_there_as_it_is_now(make_world):
    """Also when an older version of it is just being sent."""
    world = make_world(**NEVER)
    await world.write("log", b"")
    number = world.open("log", writing=True)
    content = world.content(number)

    async def write_and_fsync(data):
        await content.write(content.size, data)
        await content.persist()
        world.uploader.notice(content.ino)
        await soon(world, content.ino)
        assert data in world.bucket.raw["log"].data

    async with world.running(), trio.open_nursery() as nursery:
        held = world.store.hold("put", key="log")
        nursery.start_soon(write_and_fsync, b"one ")
        await held.reached.wait()
        nursery.start_soon(write_and_fsync, b"two ")
        await trio.testing.wait_all_tasks_blocked()
        held.release()
    assert world.bucket.raw["log"].data == b"one two "
    await world.close_file(number)


async def test_it_goes_before_what_is_older_and_leaves_room_for_the_rest(make_world):
    world = make_world(workers=4, **NEVER)
    for number in range(200):
        await world.write(f"old{number:03}", b"x")
    held = world.store.hold("put", times=4)
    async with world.running() as uploader, trio.open_nursery() as nursery:
        nursery.start_soon(uploader.drain)
        await held.reached.wait()
        for number in range(20):
            nursery.start_soon(fsync_of(world).wait, await world.write(f"new{number}", b"y"))
        await trio.testing.wait_all_tasks_blocked()
        held.release()
    order = [call.key for call in world.store.calls if call.operation == "put"]
    until_last = order[: max(place for place, key in enumerate(order) if key.startswith("new")) + 1]
    before = sum(key.startswith("old") for key in until_last)
    assert 4 < before < 20, until_last
    await world.check()


@pytest.mark.semantics("fsync-bucket-refused")
async def test_what_keeps_it_from_the_bucket_is_said(world):
    refusals = {
        "denied": StoreAccessDenied("no writing here", code="AccessDenied"),
        "cold": ObjectArchived("in GLACIER", code="InvalidObjectState"),
    }
    inos = {name: await world.write(name, b"x") for name in (*refusals, "held")}
    for key, error in refusals.items():
        world.store.fail("put", error, key=key, times=FOREVER)
    async with world.running() as uploader:
        await uploader.operator.hold("held", inos["held"])
        for name, said in (("denied", "no writing here"), ("cold", "in GLACIER"), ("held", "queue release")):
            for _ in range(2):  # already parked the second time: it is tried again, and told again
                with pytest.raises(Unavailable, match=f"{name}.*{said}"):
                    await soon(world, inos[name])
        world.store.heal()
        await soon(world, inos["denied"])
        assert world.bucket.raw["denied"].data == b"x"


@pytest.mark.semantics("fsync-bucket-refused")
@pytest.mark.parametrize("gateway_wins", [False, True])
async def test_a_conflict_is_an_error_for_who_loses_the_name(make_world, gateway_wins):
    world = make_world(**({"conflict_policy": GATEWAY_WINS} if gateway_wins else {}))
    ino = await world.write("both", b"1")
    await world.drained()
    world.bucket.foreign_put("both", b"theirs")
    await world.put("both", b"ours")
    async with world.running():
        if not gateway_wins:
            with pytest.raises(Unavailable, match=r"changed by others.*both\.conflict-gw"):
                await soon(world, ino)
        await soon(world, ino)
    data = {key: stored.data for key, stored in world.bucket.raw.items()}
    aside = next(key for key in data if "conflict" in key)
    assert (data["both"], data[aside]) == ((b"ours", b"theirs") if gateway_wins else (b"theirs", b"ours"))


async def test_an_attribute_change_that_gives_way_to_others_is_an_error(world):
    ino = await world.write("f", b"1")
    await world.drained()
    world.bucket.foreign_put("f", b"theirs")
    world.chmod("f", 0o600)
    async with world.running():
        with pytest.raises(Unavailable, match="our change of attributes is dropped"):
            await soon(world, ino)


@pytest.mark.semantics("fsync-bucket-refused")
async def test_without_an_answer_it_ends_after_its_time_with_the_reason_and_nothing_is_lost(world):
    world.store.unreachable()
    ino = await world.write("f", b"x")
    async with world.running() as uploader:
        begun = trio.current_time()
        with pytest.raises(Unavailable, match=r"f is not in the bucket yet: .*no route.* after 120 s"):
            await fsync_of(world).wait(ino)
        assert trio.current_time() - begun == pytest.approx(TIMEOUT_S)
        world.store.heal()
        assert (await uploader.drain()).complete
    assert world.bucket.raw["f"].data == b"x"


async def test_so_many_wait_and_one_more_is_asked_to_come_again(world):
    world.store.unreachable()
    inos = [await world.write(f"f{number}", b"x") for number in range(3)]
    fsync = fsync_of(world, waiting_max=2)
    async with world.running(), trio.open_nursery() as nursery:
        for ino in inos[:2]:
            nursery.start_soon(fsync.wait, ino)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(TryAgain):
            await fsync.wait(inos[2])
        world.store.heal()
        await world.arrived(lambda: not fsync.waiting)
        await fsync.wait(inos[2])
    assert sorted(world.bucket.raw) == ["f0", "f1", "f2"]


async def test_a_caller_that_is_cancelled_leaves_nothing_behind(world):
    world.store.unreachable()
    ino = await world.write("f", b"x")
    fsync = fsync_of(world)
    async with world.running() as uploader:
        with trio.move_on_after(5):
            await fsync.wait(ino)
        assert (fsync.waiting, len(uploader.drains)) == (0, 0)
        assert uploader.backlog < 1


async def test_uploads_step_back_for_nobody_while_a_program_waits_for_one(world):
    world.store.unreachable()
    ino = await world.write("f", b"x")
    async with world.running() as uploader, trio.open_nursery() as nursery:
        nursery.start_soon(fsync_of(world).wait, ino)
        await trio.testing.wait_all_tasks_blocked()
        assert uploader.backlog == 1.0
        world.store.heal()


@pytest.mark.semantics("fsync-bucket")
async def test_names_that_never_leave_the_site_and_files_without_a_name_are_not_waited_for(world):
    excluded = await world.write(".nfs0001", b"x")
    unlinked = await world.write("gone", b"x")
    number = world.open("gone", writing=True)
    world.unlink("gone")
    async with world.running():
        await soon(world, excluded)
        await soon(world, unlinked)
        await world.close_file(number)
    assert world.bucket.raw == {}


async def test_nor_is_a_file_that_loses_its_name_meanwhile(world):
    ino = await world.write("f", b"x")
    held = world.store.hold("put", key="f")
    async with world.running(), trio.open_nursery() as nursery:
        nursery.start_soon(soon, world, ino)
        await held.reached.wait()
        world.unlink("f")
        held.release()


@pytest.mark.semantics("fsync-bucket")
async def test_of_a_directory_every_entry_and_every_name_that_left_it(make_world):
    world = make_world(**NEVER)
    for name in ("d", "elsewhere"):
        world.mkdir(name)
    for path in ("d/removed", "d/moved", "d/renamed", "elsewhere/comes", "elsewhere/stays"):
        await world.write(path, path.encode())
    await world.drained()
    async with world.running():
        await world.write("d/new", b"new")
        world.mkdir("d/sub")
        world.unlink("d/removed")
        world.rename("d/moved", "elsewhere/moved")
        world.rename("d/renamed", "d/other")
        world.rename("elsewhere/comes", "d/came")
        await world.put("elsewhere/stays", b"changed")
        await soon(world, world.need("d").ino)
        there = world.bucket.raw
        assert {key for key in there if key.startswith("d/")} == {"d/", "d/came", "d/new", "d/other", "d/sub/"}
        assert "elsewhere/moved" in there
        assert there["elsewhere/stays"].data == b"elsewhere/stays"


async def test_of_the_root_of_a_share_below_a_prefix(make_world):
    world = make_world(prefix="p/", **NEVER)
    await world.write("f", b"x")
    world.mkdir("d")
    await world.write("d/below", b"x")
    async with world.running():
        await soon(world, ROOT)
        assert sorted(world.bucket.raw) == ["p/d/", "p/f"]
