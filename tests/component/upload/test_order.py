"""One settled file is one object version: what collapses, what is never sent, and in which order things happen."""

import stat

import trio

from gatewayfs.s3.store import Capabilities, ObjectHeaders
from gatewayfs.s3.xattrs import xattrs_from_metadata
from tests.component.upload.harness import replace


def changes(world):
    """Requests that changed the bucket."""
    return [request for request in world.bucket.requests if request[0] not in ("head", "get", "fetch", "list_parts")]


async def test_a_new_file_goes_up_with_data_and_metadata_in_one_request(world):
    await world.write("a.txt", b"hello")
    await world.drained()
    await world.check()
    assert world.bucket.requests == [("put", "a.txt")]
    stored = world.bucket.raw["a.txt"]
    assert stored.headers.content_type == "text/plain"
    assert stored.metadata["file-permissions"] == "0100644"
    assert stored.metadata["file-mtime"] == f"{world.need('a.txt').mtime_ns}ns"


async def test_a_file_written_under_a_temporary_name_is_never_seen_under_it(world):
    async with world.running():
        await world.write(".report.tmp", b"version 1")
        await trio.sleep(1.5)
        world.rename(".report.tmp", "report")
        await trio.sleep(30)
    await world.check()
    assert world.bucket.requests == [("put", "report")]


async def test_writing_a_new_version_beside_and_renaming_it_over_makes_one_new_version(world):
    await world.write("report", b"version 1")
    await world.drained()
    async with world.running():
        await world.write(".report.tmp", b"version 2")
        world.rename(".report.tmp", "report")
        await trio.sleep(30)
    await world.check()
    assert changes(world) == [("put", "report")] * 2


async def test_what_is_gone_before_its_upload_costs_nothing(world):
    async with world.running():
        await world.write("a", b"x")
        world.mkdir("d")
        world.unlink("a")
        world.unlink("d")
        await trio.sleep(30)
    await world.check()
    assert world.bucket.requests == []


async def test_many_changes_of_one_file_within_the_settle_time_are_one_request(world):
    async with world.running():
        for version in range(20):
            await world.put("a", b"%d" % version)
            world.chmod("a", 0o600 + version)
            await trio.sleep(0.5)
        await trio.sleep(30)
    await world.check()
    assert changes(world) == [("put", "a")]


async def test_a_rename_is_a_copy_that_keeps_everything_and_then_a_deletion(world):
    world.bucket.foreign_put("a", b"x", {"colour": "blue"}, ObjectHeaders(content_type="x/y"), tags={"t": "1"})
    modified_ns = world.bucket.raw["a"].last_modified_ns
    known(world, "a")
    world.rename("a", "b")
    await world.drained()
    stored = world.bucket.raw["b"]
    assert (stored.data, stored.metadata["colour"], stored.headers.content_type, stored.tags) == (
        b"x", "blue", "x/y", {"t": "1"},
    )  # fmt: skip
    # The time of an object without attributes is its LastModified, which the copy moves.
    assert stored.metadata["file-mtime"] == f"{modified_ns}ns"
    assert changes(world) == [("copy", "b"), ("delete_many", "a")]
    assert world.bucket.count("put") == 0


async def test_a_change_of_attributes_keeps_bytes_tags_headers_and_foreign_metadata(world):
    world.bucket.foreign_put("a", b"x", {"colour": "blue"}, ObjectHeaders(content_type="x/y"), tags={"t": "1"})
    known(world, "a")
    world.chmod("a", 0o600)
    await world.drained()
    stored = world.bucket.raw["a"]
    assert changes(world) == [("copy", "a")]
    assert stored.metadata["file-permissions"] == "0100600"
    assert xattrs_from_metadata(stored.metadata) == {b"user.colour": b"blue"}
    assert (stored.data, stored.headers.content_type, stored.tags) == (b"x", "x/y", {"t": "1"})


async def test_new_bytes_keep_foreign_metadata_and_headers_that_only_a_head_can_tell(world):
    world.bucket.foreign_put("a", b"x", {"colour": "blue"}, ObjectHeaders(cache_control="no-store"))
    known(world, "a")
    await world.put("a", b"new")
    await world.drained()
    stored = world.bucket.raw["a"]
    assert (stored.data, stored.metadata["colour"], stored.headers.cache_control) == (b"new", "blue", "no-store")


async def test_symlinks_fifos_and_directories_are_objects_as_file_gateway_makes_them(world):
    world.symlink("link", b"target/x")
    world.fifo("pipe")
    world.mkdir("dir")
    await world.drained()
    await world.check()
    kinds = {key: (stored.data, stored.metadata["file-permissions"]) for key, stored in world.bucket.raw.items()}
    assert kinds == {"dir/": (b"", "0040755"), "link": (b"target/x", "0120777"), "pipe": (b"", "0010600")}
    world.rename("link", "link2")
    world.chmod("dir", stat.S_IMODE(0o700))
    await world.drained()
    await world.check()


async def test_a_new_file_takes_the_place_of_one_that_moves_away_without_harming_it(world):
    """mv a b; create a."""
    await world.write("a", b"old")
    await world.drained()
    world.evict("a")
    world.rename("a", "b")
    await world.write("a", b"new")
    await world.drained()
    await world.check()
    assert {key: stored.data for key, stored in world.bucket.raw.items()} == {"a": b"new", "b": b"old"}


async def test_a_rotation_of_many_files_whose_bytes_are_only_in_the_bucket(world):
    """log.8 -> log.9, log.7 -> log.8, ... then a new log.0: each copy waits for the one before it."""
    for number in range(9):
        await world.write(f"log.{number}", b"log %d" % number)
    await world.drained()
    for number in range(9):
        world.evict(f"log.{number}")
    for number in reversed(range(9)):
        world.rename(f"log.{number}", f"log.{number + 1}")
    await world.write("log.0", b"fresh")
    await world.drained()
    assert world.bucket.count("get") == world.bucket.count("fetch") == 0
    await world.check()


async def test_exchanged_names_with_all_bytes_in_the_bucket(world):
    await world.write("a", b"A" * 10)
    await world.write("b", b"B" * 20)
    await world.drained()
    world.evict("a")
    world.evict("b")
    world.rename("a", "b", exchange=True)
    await world.drained()
    assert world.bucket.count("get") == 1, "one of the two was brought here, the other copied"
    await world.check()
    assert {key: stored.data for key, stored in world.bucket.raw.items()} == {"a": b"B" * 20, "b": b"A" * 10}


async def test_a_ring_of_renames_too_large_to_fetch_is_broken_inside_the_bucket(make_world):
    world = make_world(fetch_bytes_max=5)
    for name in "abc":
        await world.write(name, name.encode() * 20)
    await world.drained()
    for name in "abc":
        world.evict(name)
    for path, to in (("a", "t"), ("b", "a"), ("c", "b"), ("t", "c")):
        world.rename(path, to)
    await world.drained()
    assert world.bucket.count("get") == world.bucket.count("fetch") == 0
    await world.check()
    assert {key: stored.data[:1] for key, stored in world.bucket.raw.items()} == {"a": b"b", "b": b"c", "c": b"a"}


async def test_a_ring_closed_after_its_members_began_to_wait_is_broken_too(make_world):
    """The first members wait for a slow copy; the last rename, which closes the ring, comes later."""
    world = make_world()
    for name in "abc":
        await world.write(name, name.encode() * 20)
    await world.drained()
    for name in "abc":
        world.evict(name)
    async with world.running() as uploader:
        held = world.store.hold("copy")
        world.rename("c", "t")
        world.rename("b", "c")
        world.rename("a", "b")
        await held.reached.wait()
        await trio.sleep(10)
        world.rename("t", "a")
        held.release()
        assert (await uploader.drain()).complete
    await world.check()


async def test_a_deletion_waits_for_the_new_object_and_is_dropped_when_its_key_is_taken_over(world):
    await world.write("a", b"old")
    await world.drained()
    async with world.running():
        number = None
        world.unlink("a")
        await world.write("a", b"new")
        number = world.open("a", writing=True)
        await trio.sleep(10)
        assert world.bucket.raw["a"].data == b"old", "the deletion must not run ahead of the new version"
        await world.close_file(number)
        await trio.sleep(10)
    await world.check()
    assert changes(world) == [("put", "a"), ("put", "a")]


async def test_a_file_unlinked_while_it_is_read_stays_in_the_bucket_until_it_is_closed(world):
    await world.write("a", b"x" * 100)
    await world.drained()
    world.evict("a")
    number = world.open("a")
    async with world.running():
        world.unlink("a")
        await trio.sleep(1000)
        assert await world.content(number).read(0, 100) == b"x" * 100
        await world.close_file(number)
        await trio.sleep(10)
    await world.check()
    assert world.bucket.raw == {}


async def test_bytes_an_open_file_still_reads_are_fetched_before_their_object_is_replaced(world):
    await world.write("a", b"x" * 100)
    await world.drained()
    world.evict("a")
    number = world.open("a")
    world.unlink("a")
    await world.write("a", b"new")
    await world.drained()
    assert world.bucket.raw["a"].data == b"new"
    assert await world.content(number).read(0, 100) == b"x" * 100
    async with world.running() as uploader:
        await world.close_file(number)
        await trio.sleep(10)
        await uploader.drain()
    await world.check()


async def test_a_file_unlinked_while_its_upload_is_under_way_leaves_no_object(world):
    held = world.store.hold("put")
    async with world.running() as uploader:
        await world.write("a", b"x")
        await held.reached.wait()
        world.unlink("a")
        held.release()
        await trio.sleep(10)
        await uploader.drain()
    await world.check()
    assert world.bucket.count("put") == 1
    assert world.bucket.raw == {}


async def test_a_rename_while_the_upload_is_under_way_is_followed(world):
    held = world.store.hold("put")
    async with world.running() as uploader:
        await world.write("a", b"x")
        await held.reached.wait()
        world.rename("a", "b")
        await world.write("a", b"another")
        held.release()
        await uploader.drain()
    await world.check()


async def test_only_one_operation_per_key_is_ever_under_way(world):
    """Two files and a deletion want one key: requests on it never overlap."""
    busy, overlaps = set(), []
    perform = world.store.around

    async def watched(call, go):
        if call.key in busy:
            overlaps.append(call)
        busy.add(call.key)
        await trio.sleep(1)
        try:
            return await perform(call, go)
        finally:
            busy.discard(call.key)

    world.store.around = watched
    async with world.running() as uploader:
        for round_ in range(5):
            await world.write("a", b"%d" % round_)
            await uploader.operator.hurry()
            await trio.sleep(0.5)
            world.rename("a", "b")
            await uploader.operator.hurry()
            await trio.sleep(0.5)
            if round_ % 2:
                world.unlink("b")
        await uploader.drain()
    await world.check()
    assert overlaps == []


async def test_a_store_without_conditions_is_asked_before_every_write(make_world):
    from tests.support.fakestore import FakeObjectStore

    nothing = Capabilities(False, False, False, False, False, False, False)
    world = make_world(bucket=FakeObjectStore(capabilities=nothing))
    await world.write("a", b"1")
    await world.drained()
    await world.put("a", b"2")
    await world.drained()
    world.rename("a", "b")
    await world.drained()
    world.unlink("b")
    await world.drained()
    await world.check()
    for place, (operation, key) in enumerate(world.bucket.requests):
        if operation in ("put", "copy", "delete"):
            assert ("head", key) in world.bucket.requests[max(0, place - 2) : place]


def known(world, key):
    """A record of an object as a listing makes it: attributes and metadata not read yet."""
    from gatewayfs.meta.schema import Inode, Remote

    stored = world.bucket.raw[key]
    with world.meta.transaction() as tx:
        inode = Inode(
            tx.new_ino(), 1, key.encode(), stat.S_IFREG | 0o666, 65534, 65534, len(stored.data), 1, 1, 1,
            content_revision=0, meta_revision=0, attributes_known=False,
            remote=Remote(key, stored.etag, len(stored.data), stored.last_modified_ns, 0, 0),
        )  # fmt: skip
        tx.put(inode)
    return replace(inode)
