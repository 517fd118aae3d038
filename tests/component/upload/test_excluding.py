"""Names that never leave the site: durable here, not in the bucket, nobody's work."""

import dataclasses

import trio

from gatewayfs.errors import NoSpace

SILLY = ".nfs0000000000000001"


async def test_an_excluded_file_stays_here_and_nobody_waits_for_it(world):
    async with world.running() as uploader:
        await world.write(SILLY, b"12345")
        await world.write("f", b"x")
        with trio.fail_after(1):
            assert (await uploader.drain()).complete
        await trio.sleep(1000)
        assert list(world.bucket.raw) == ["f"]
        status = uploader.status()
        assert (status.excluded.files, status.excluded.size_bytes) == (1, 5)
        assert (status.entries, status.entries_bytes, status.dirty, status.oldest_age_s) == (0, 0, 0, 0)
        assert (uploader.progress().entries, uploader.progress().bytes) == (0, 0)
        await world.write(SILLY, b"67890", offset=5)
        await trio.sleep(10)
        assert uploader.status().excluded.size_bytes == 10
    world.crash()
    async with world.running() as uploader:
        await trio.sleep(10)
        assert uploader.status().excluded.files == 1
        assert world.need(SILLY).dirty_since_ns, "what is dirty is never evicted"
        assert await world.read(SILLY) == b"1234567890"
        world.unlink(SILLY)
        await trio.sleep(10)
        assert uploader.status().excluded.files == 0
    assert list(world.bucket.raw) == ["f"]
    await world.check()


async def test_an_uploaded_file_that_gets_an_excluded_name_leaves_the_bucket_and_all_its_bytes_are_here(world):
    await world.write("f", b"precious")
    await world.drained()
    world.evict("f")
    world.rename("f", SILLY)
    async with world.running() as uploader:
        await uploader.drain()
        assert world.bucket.raw == {}
        assert await world.read(SILLY) == b"precious"
        world.rename(SILLY, "again")
        assert (await uploader.drain()).complete
    await world.check()
    assert world.bucket.raw["again"].data == b"precious"


async def test_its_object_stays_as_long_as_the_bytes_have_no_room_here(world):
    await world.write("f", b"precious")
    await world.drained()
    world.evict("f")
    fetch = world.cache.ensure_resident

    async def no_room(*arguments):
        raise NoSpace("the cache is full")

    world.cache.ensure_resident = no_room
    world.rename("f", SILLY)
    async with world.running():
        await trio.sleep(100)
        assert world.bucket.raw["f"].data == b"precious"
        world.cache.ensure_resident = fetch
        await trio.sleep(400)
        assert world.bucket.raw == {}
    assert await world.read(SILLY) == b"precious"


async def test_a_file_removed_while_open_over_nfs_and_made_anew(world):
    """The client renames it to .nfs..., creates the new one, and removes .nfs... at the last close."""
    await world.write("f", b"old")
    await world.drained()
    async with world.running() as uploader:
        world.rename("f", SILLY)
        await world.write("f", b"new")
        await trio.sleep(10)
        assert {key: stored.data for key, stored in world.bucket.raw.items()} == {"f": b"new"}
        assert await world.read(SILLY) == b"old"
        world.unlink(SILLY)
        assert (await uploader.drain()).complete
    await world.check()


async def test_excluded_bytes_are_not_counted_as_waiting_for_upload(make_world):
    world = make_world(exclude=("*.tmp", "scratch"))
    room = world.cache.room
    world.mkdir("dir")
    async with world.running() as uploader:
        await world.write("big.tmp", b"x" * 300_000)
        assert room.dirty_bytes == 0
        assert room.used_bytes >= 300_000
        world.rename("big.tmp", "big")
        assert room.dirty_bytes >= 300_000, "it is to be uploaded now"
        world.rename("big", "dir/big")
        world.rename("dir", "scratch")
        await uploader.drain()
        assert (room.dirty_bytes, uploader.status().excluded.files) == (0, 2), "as it was called when it was looked at"


async def test_everything_below_an_excluded_directory_stays_here(make_world):
    world = make_world(exclude=("tmp", "build/*.o"))
    world.mkdir("tmp")
    world.mkdir("build")
    world.mkdir("data")
    for path in ("tmp/a", "build/x.o", "build/x.c", "data/b"):
        await world.write(path, b"x")
    world.symlink("tmp/link", b"a")
    async with world.running() as uploader:
        assert (await uploader.drain()).complete
        assert sorted(world.bucket.raw) == ["build/", "build/x.c", "data/", "data/b"]
        assert uploader.status().excluded.files == 4
        world.evict("data/b")
        world.rename("data", "tmp/data")
        await uploader.drain()
        await trio.sleep(10)
        assert sorted(world.bucket.raw) == ["build/", "build/x.c"]
        assert await world.read("tmp/data/b") == b"x"
        world.rename("tmp", "public")
        assert (await uploader.drain()).complete
        keys = ["build/", "build/x.c", "public/", "public/a", "public/data/", "public/data/b", "public/link"]
        assert sorted(world.bucket.raw) == keys


async def test_what_others_put_under_such_a_name_stays_in_the_bucket_and_edits_of_it_stay_here(make_world):
    world = make_world(exclude=())
    theirs = b"theirs" * (1 << 19)
    await world.write("shared.tmp", theirs)
    await world.drained()
    world.settings = replace_settings(world, exclude=("*.tmp",))
    world.crash()
    async with world.running() as uploader:
        world.evict("shared.tmp")
        await world.write("shared.tmp", b"OURS", offset=0)
        assert (await uploader.drain()).complete
        assert world.bucket.raw["shared.tmp"].data == theirs
        assert uploader.status().excluded.files == 1
        await world.bucket.delete("shared.tmp")
        assert await world.read("shared.tmp") == b"OURS" + theirs[4:], "it does not depend on their object any more"


async def test_a_deletion_of_what_others_put_there_is_not_kept_waiting_by_a_new_file_of_that_name(make_world):
    world = make_world(exclude=())
    await world.write("x.tmp", b"theirs")
    await world.drained()
    world.settings = replace_settings(world, exclude=("*.tmp",))
    world.crash()
    async with world.running() as uploader:
        world.unlink("x.tmp")
        await world.write("x.tmp", b"ours")
        with trio.fail_after(100):
            assert (await uploader.drain()).complete
        assert world.bucket.raw == {}
        assert await world.read("x.tmp") == b"ours"


async def test_a_rename_while_it_is_being_sent_leaves_nothing_behind(make_world):
    world = make_world(part_bytes=100, small_file_bytes=10)
    for operation, size in (("put", 50), ("upload_part", 1000)):
        held = world.store.hold(operation)
        async with world.running() as uploader:
            await world.write("f", b"x" * size)
            await held.reached.wait()
            world.rename("f", SILLY)
            held.release()
            await trio.sleep(20)
            assert world.bucket.raw == {}
            assert [upload for upload in world.bucket._uploads.values() if upload.parts] == []
            assert uploader.status().excluded.files == 1
            world.unlink(SILLY)
            await uploader.drain()


def replace_settings(world, **changes):
    return dataclasses.replace(world.settings, **changes)
