"""Files in parts: never mixed, resumed, and only what changed is sent."""

import random

import trio

from gatewayfs.errors import StoreUnreachable
from tests.support.faultystore import FOREVER

PART = 100


def large(make_world, **settings):
    return make_world(**{"part_bytes": PART, "small_file_bytes": 10, "parts_per_file": 1} | settings)


BYTES = random.Random(1).randbytes(1000)


async def test_a_large_file_goes_up_in_parts_and_appears_at_once(make_world):
    world = large(make_world, parts_per_file=4)
    await world.write("big", BYTES)
    await world.drained()
    await world.check()
    assert world.bucket.count("upload_part") == 10
    assert world.bucket.raw["big"].etag.endswith("-10")


async def test_an_upload_is_resumed_after_a_restart(make_world):
    world = large(make_world)
    await world.write("big", BYTES)
    held = world.store.hold("upload_part", skip=6, times=FOREVER)
    async with world.running():
        await held.reached.wait()
    world.crash()
    world.store.heal()
    before = world.bucket.count("upload_part")
    await world.drained()
    await world.check()
    assert before == 6
    assert world.bucket.count("upload_part") == 10, "no part was sent twice"
    assert world.bucket.count("create_multipart") == 1


async def test_parts_the_store_lost_are_sent_again(make_world):
    world = large(make_world)
    await world.write("big", BYTES)
    world.store.fail("complete_multipart", StoreUnreachable("lost"))
    async with world.running():
        await world.arrived(lambda: world.uploader.status().unreachable)
        upload = world.bucket._uploads[world.bucket.upload_ids[0]]
        del upload.parts[3]
        upload.parts[4] = b"something else"
    world.crash()
    await world.drained()
    await world.check()
    assert world.bucket.count("upload_part") == 12


async def test_an_upload_that_was_aborted_meanwhile_begins_anew(make_world):
    world = large(make_world)
    await world.write("big", BYTES)
    held = world.store.hold("upload_part", skip=3)
    async with world.running() as uploader:
        await held.reached.wait()
        world.bucket._uploads.clear()
        held.release()
        assert (await uploader.drain()).complete
    await world.check()
    assert world.bucket.count("create_multipart") == 2


async def test_a_file_changed_while_it_goes_up_appears_whole_and_only_changed_parts_are_sent_again(make_world):
    world = large(make_world)
    await world.write("big", BYTES)
    held = world.store.hold("upload_part", skip=8)
    async with world.running() as uploader:
        await held.reached.wait()
        await world.write("big", b"changed", offset=210)
        held.release()
        await uploader.drain()
    await world.check()
    assert world.bucket.count("upload_part") == 11
    assert len({stored.data for stored in world.bucket.versions("big")}) == 1


async def test_no_version_ever_mixes_two_revisions(make_world):
    """A writer rewrites the whole file again and again; whatever appears in the bucket is one of its states."""
    from gatewayfs.s3.store import Capabilities
    from tests.support.fakestore import FakeObjectStore

    bucket = FakeObjectStore(part_bytes_min=1, capabilities=Capabilities(versioning=True))
    world = large(make_world, bucket=bucket, parts_per_file=3)
    perform = world.store.around

    async def slow(call, go):
        await trio.sleep(random.Random(len(world.store.calls)).uniform(0, 2))
        return await perform(call, go)

    world.store.around = slow
    async with world.running() as uploader:
        for state in range(60):
            await world.put("big", bytes([state]) * 450)
            if state % 3 == 0:
                await uploader.operator.hurry()
            await trio.sleep(1 + state % 7)
        await uploader.drain()
    await world.check()
    versions = bucket.versions("big")
    assert len(versions) > 3
    assert all(len(set(version.data)) == 1 and len(version.data) == 450 for version in versions)


async def test_a_log_that_grows_all_the_time_reaches_the_bucket(make_world):
    world = large(make_world)
    await world.write("log", BYTES)
    number = world.open("log", writing=True)
    perform = world.store.around

    async def growing(call, go):
        content = world.content(number)
        await content.write(content.size, b"+")
        return await perform(call, go)

    world.store.around = growing
    async with world.running():
        await trio.sleep(70)
        assert world.bucket.raw["log"].data.startswith(BYTES)
        world.store.around = perform
        await world.close_file(number)
        await trio.sleep(70)
    await world.check()


async def test_an_edit_of_a_file_that_is_only_in_the_bucket_sends_one_part_and_fetches_its_rest(make_world):
    part = 2 << 20
    world = large(make_world, part_bytes=part)
    original = random.Random(2).randbytes(5 * part)
    await world.write("big", original)
    await world.drained()
    world.evict("big")
    world.bucket.requests.clear()
    await world.write("big", b"edit", offset=2 * part + 530)
    await world.drained()
    counts = [world.bucket.count(operation) for operation in ("upload_part", "copy_part", "get")]
    assert counts == [1, 2, 0]
    assert sum(call.bytes_down for call in world.store.calls) == part - 4
    await world.check()
    at = 2 * part + 530
    assert world.bucket.raw["big"].data == original[:at] + b"edit" + original[at + 4 :]


async def test_a_file_renamed_while_it_goes_up_leaves_no_parts_behind(make_world):
    world = large(make_world)
    await world.write("big", BYTES)
    held = world.store.hold("upload_part", skip=4)
    async with world.running() as uploader:
        await held.reached.wait()
        world.rename("big", "bigger")
        held.release()
        await uploader.drain()
    await world.check()


async def test_a_file_unlinked_while_it_goes_up_leaves_no_parts_behind_even_after_a_crash(make_world):
    world = large(make_world)
    await world.write("big", BYTES)
    held = world.store.hold("upload_part", skip=4)
    async with world.running():
        await held.reached.wait()
        world.unlink("big")
    world.crash()
    world.store.heal()
    await world.drained()
    await world.check()
    assert world.bucket.upload_ids == []
    assert list(world.meta.iter_orphans()) == []


async def test_attributes_changed_while_it_goes_up_are_written_after_it(make_world):
    world = large(make_world)
    await world.write("big", BYTES)
    held = world.store.hold("upload_part", skip=4)
    async with world.running() as uploader:
        await held.reached.wait()
        world.chmod("big", 0o600)
        held.release()
        await uploader.drain()
    await world.check()
    assert world.bucket.count("upload_part") == 10


async def test_objects_over_five_gib_are_copied_in_ranges(make_world, monkeypatch):
    from gatewayfs.upload import copying, parts, uploader

    monkeypatch.setattr(copying, "COPY_BYTES_MAX", 500)
    monkeypatch.setattr(uploader, "COPY_BYTES_MAX", 500)
    monkeypatch.setattr(parts, "COPY_PART_BYTES", 300)
    world = large(make_world)
    await world.write("big", BYTES)
    await world.drained()
    world.evict("big")
    world.rename("big", "moved")
    await world.drained()
    assert world.bucket.count("copy_part") == 4
    world.chmod("moved", 0o600)
    await world.drained()
    await world.check()
    assert world.bucket.count("copy") == 0
