"""Both sides changed: who keeps the name, what the other is called, and what is told to whom."""

import pytest
import trio

from gatewayfs.daemon.problems import _of_upload
from gatewayfs.errors import StoreUnreachable
from gatewayfs.s3.store import Capabilities, Condition
from gatewayfs.upload.looking import guarded
from tests.component.upload.harness import GATEWAY_WINS
from tests.support.fakestore import EVERYTHING, FakeObjectStore

CONFLICT = "report.txt.conflict-gw-20231114T221320Z"


def data(world):
    return {key: stored.data for key, stored in world.bucket.raw.items()}


@pytest.mark.parametrize("capabilities", [EVERYTHING, Capabilities(put_if_match=False, put_if_none_match=False)])
async def test_bucket_wins_their_version_keeps_the_name_and_ours_goes_up_beside_it(make_world, capabilities):
    world = make_world(bucket=FakeObjectStore(capabilities=capabilities))
    await world.write("report.txt", b"base")
    await world.drained()
    ours = await world.put("report.txt", b"ours")
    world.bucket.foreign_put("report.txt", b"theirs", {"file-permissions": "0100640", "colour": "red"})
    world.kernel.entries.clear()
    async with world.running() as uploader:
        await uploader.drain()
        assert uploader.status().conflicts == 1
        (problem,) = _of_upload(uploader.status())
        assert (problem.key, "'report.txt'" in problem.text) == ("report.txt", True)
    assert data(world) == {"report.txt": b"theirs", CONFLICT: b"ours"}
    theirs = world.need("report.txt")
    assert world.need(CONFLICT).ino == ours, "open files follow our version"
    assert (theirs.mode, theirs.size, theirs.foreign, theirs.attributes_known) == (0o100640, 6, {"colour": "red"}, True)
    assert await world.read("report.txt") == b"theirs"
    assert {entry[:2] for entry in world.kernel.entries} == {(1, b"report.txt"), (1, CONFLICT.encode())}
    assert [(event["event"], event["key"], event["other"]) for event in world.events] == [
        ("conflict", "report.txt", CONFLICT)
    ]


async def test_gateway_wins_ours_keeps_the_name_and_theirs_is_copied_beside_it(make_world):
    world = make_world(conflict_policy=GATEWAY_WINS)
    await world.write("report.txt", b"base")
    await world.drained()
    await world.put("report.txt", b"ours")
    world.bucket.foreign_put("report.txt", b"theirs", {"colour": "red"}, tags={"t": "1"})
    await world.drained()
    other = next(key for key in data(world) if key != "report.txt")
    assert other.startswith("report.txt.conflict-gw-")
    assert data(world) == {"report.txt": b"ours", other: b"theirs"}
    assert (world.bucket.raw[other].metadata, world.bucket.raw[other].tags) == ({"colour": "red"}, {"t": "1"})
    assert await world.read(other) == b"theirs"


async def test_two_files_of_one_new_name_are_both_kept(world):
    await world.write("report.txt", b"ours")
    world.bucket.foreign_put("report.txt", b"theirs")
    await world.drained()
    assert data(world) == {"report.txt": b"theirs", CONFLICT: b"ours"}


async def test_a_conflict_name_that_is_taken_gets_a_number(world):
    await world.write(CONFLICT, b"an older one")
    await world.drained()
    await world.write("report.txt", b"ours")
    world.bucket.foreign_put("report.txt", b"theirs")
    await world.drained()
    assert data(world)[CONFLICT + "-1"] == b"ours"


async def test_the_same_bytes_and_attributes_on_both_sides_are_no_conflict(world):
    """The answer to our PUT was lost, and with it every trace of it here: power loss, say."""
    await world.write("a", b"same")
    before = world.need("a")
    await world.drained()
    sent = world.bucket.raw["a"]
    with world.meta.transaction() as tx:
        tx.put(before)
    world.uploader.notice(before.ino)
    await world.drained()
    await world.check()
    assert world.bucket.raw["a"] == sent, "nothing was sent again"
    assert world.events == []


async def test_an_edit_after_a_lost_answer_is_not_taken_for_a_conflict(world):
    from gatewayfs.errors import StoreUnreachable

    world.store.fail("put", StoreUnreachable("lost"), after=True)
    async with world.running():
        await world.write("a", b"version 1")
        await world.arrived(lambda: world.bucket.raw)
        await world.put("a", b"version 2")
        await trio.sleep(600)
    await world.check()
    assert world.events == []


async def test_what_was_deleted_in_the_bucket_and_changed_here_goes_up_again(world):
    await world.write("a", b"base")
    await world.drained()
    await world.put("a", b"ours")
    world.bucket.foreign_delete("a")
    await world.drained()
    await world.check()
    assert data(world) == {"a": b"ours"}


async def test_what_was_deleted_in_the_bucket_and_is_not_here_vanishes_here_too(world):
    await world.write("a", b"base")
    await world.drained()
    world.evict("a")
    ino = world.need("a").ino
    world.rename("a", "b")
    world.bucket.foreign_delete("a")
    await world.drained()
    assert world.paths() == {}
    assert data(world) == {}
    assert (1, b"b", ino) in world.kernel.entries


async def test_a_renamed_file_that_others_edited_carries_their_edit_to_its_new_name(world):
    await world.write("a", b"base")
    await world.drained()
    world.rename("a", "b")
    world.bucket.foreign_put("a", b"edited by them")
    await world.drained()
    assert data(world) == {"b": b"edited by them"}
    assert await world.read("b") == b"edited by them"
    assert (world.need("b").ino, False) in world.kernel.inodes


async def test_a_file_renamed_and_edited_here_and_edited_there_leaves_both(world):
    await world.write("a", b"base")
    await world.drained()
    world.rename("a", "b")
    await world.put("b", b"ours")
    world.bucket.foreign_put("a", b"theirs")
    await world.drained()
    assert data(world) == {"a": b"theirs", "b": b"ours"}


async def test_new_attributes_here_give_way_to_new_bytes_there(world):
    await world.write("a", b"base")
    await world.drained()
    world.chmod("a", 0o600)
    world.bucket.foreign_put("a", b"theirs", {"file-permissions": "0100640"})
    await world.drained()
    assert data(world) == {"a": b"theirs"}
    assert (world.need("a").mode, world.need("a").size) == (0o100640, 6)


async def test_gateway_wins_puts_our_attributes_on_their_bytes(make_world):
    world = make_world(conflict_policy=GATEWAY_WINS)
    await world.write("a", b"base")
    await world.drained()
    world.chmod("a", 0o600)
    world.bucket.foreign_put("a", b"theirs", {"file-permissions": "0100640"})
    await world.drained()
    await world.check()
    assert (data(world), world.need("a").mode) == ({"a": b"theirs"}, 0o100600)


async def test_deleting_here_what_others_changed_keeps_theirs(world):
    await world.write("a", b"base")
    await world.drained()
    world.unlink("a")
    world.bucket.foreign_put("a", b"theirs")
    await world.drained()
    assert data(world) == {"a": b"theirs"}
    assert [event["event"] for event in world.events] == ["kept"]


async def test_an_edit_of_a_file_whose_other_bytes_were_replaced_is_kept_with_zeros(make_world):
    world = make_world(small_file_bytes=8, part_bytes=16)
    await world.write("report.txt", b"x" * 40)
    await world.drained()
    world.evict("report.txt")
    await world.write("report.txt", b"ours", offset=20)
    world.bucket.foreign_put("report.txt", b"theirs")
    await world.drained()
    assert data(world) == {"report.txt": b"theirs", CONFLICT: bytes(20) + b"ours" + bytes(16)}
    assert "fragment" in [event["event"] for event in world.events]


async def test_directories_of_one_name_are_one_directory(world):
    world.bucket.foreign_put("d/", b"", {"file-permissions": "0040700"})
    world.mkdir("d")
    await world.write("d/f", b"x")
    await world.drained()
    assert sorted(data(world)) == ["d/", "d/f"]
    assert world.need("d").mode == 0o040700


async def test_a_foreign_object_where_a_new_directory_is_renamed_to_is_not_overwritten(world):
    world.mkdir("d")
    await world.write("d/f", b"ours")
    await world.drained()
    world.rename("d", "e")
    world.bucket.foreign_put("e/f", b"theirs")
    await world.drained()
    assert data(world)["e/f"] == b"theirs"
    assert data(world)["e/f.conflict-gw-20231114T221320Z"] == b"ours"


@pytest.mark.semantics("conflict-kept")
async def test_a_write_over_an_object_whose_etag_is_unknown_is_conditional_on_what_a_look_finds(world):
    etag = world.bucket.foreign_put("f", b"theirs")
    ctx = world.uploader._context
    assert await guarded(ctx, "f", Condition(match=""), honoured=True) == Condition(match=etag)
    assert await guarded(ctx, "none", Condition(match=""), honoured=True) == Condition(absent=True)


@pytest.mark.semantics("conflict-kept")
async def test_an_object_that_is_like_ours_in_all_but_its_bytes_is_not_taken_for_ours(world):
    world.store.fail("put", StoreUnreachable("lost"), after=True)
    async with world.running() as uploader:
        await world.write("a", b"ours")
        await world.arrived(lambda: world.bucket.raw)
        world.bucket.foreign_put("a", b"them", metadata=world.bucket.raw["a"].metadata)
        await trio.sleep(600)
        assert uploader.status().conflicts == 1
    assert sorted(data(world).values()) == [b"ours", b"them"]
    await world.check()


@pytest.mark.semantics("conflict-deletion")
async def test_every_conflict_is_counted(world):
    await world.write("a", b"one")
    await world.drained()
    world.bucket.foreign_delete("a")
    async with world.running() as uploader:
        await world.put("a", b"two")
        await trio.sleep(600)
        assert uploader.status().conflicts == 1
