"""Edits of large files: what did not change is copied in the bucket, from the right object, and nothing is mixed."""

import random
from dataclasses import replace

import msgspec
import pytest

from gatewayfs.errors import ObjectArchived, StoreAccessDenied, StoreUnreachable
from gatewayfs.s3.store import Capabilities
from gatewayfs.upload import records
from tests.component.upload.harness import GATEWAY_WINS
from tests.support.fakestore import EVERYTHING, FakeObjectStore
from tests.support.faultystore import FOREVER

CELL, PART_MIN, PART = 10, 50, 80
SIZE = 1000
BYTES = random.Random(1).randbytes(SIZE)
AS_CEPH = Capabilities(part_copy_source_if_match=False)


@pytest.fixture
def large(make_world):
    """Worlds with parts of 50 to 80 bytes, compared in cells of 10."""

    def make(capabilities=EVERYTHING, **settings):
        bucket = FakeObjectStore(part_bytes_min=PART_MIN, capabilities=capabilities)
        sizes = {"cell_bytes": CELL, "part_bytes_min": PART_MIN, "part_bytes": PART, "small_file_bytes": 8}
        return make_world(bucket=bucket, **sizes | {"parts_per_file": 1} | settings)

    return make


async def uploaded(world, data=BYTES, name="big"):
    """A world in which ``name`` was uploaded whole; what is sent from now on is counted."""
    await world.put(name, data)
    await world.drained()
    forget_requests(world)


def forget_requests(world):
    world.store.calls.clear()
    world.bucket.requests.clear()


def traffic(world):
    """(bytes sent, parts copied, bytes fetched)."""
    calls = world.store.calls
    sent = sum(call.bytes_up for call in calls if call.operation in ("put", "upload_part"))
    copied = sum(1 for call in calls if call.operation == "copy_part")
    return sent, copied, sum(call.bytes_down for call in calls)


async def test_an_edit_sends_the_smallest_part_around_it_and_copies_the_rest(large):
    world = large()
    await uploaded(world)
    await world.write("big", b"edit", offset=523)
    await world.drained()
    await world.check()
    assert traffic(world) == (PART_MIN, 2, 0)
    status = world.uploader.status()
    assert (status.copied_parts, status.saved_bytes) == (2, SIZE - PART_MIN)


@pytest.mark.parametrize(
    ("size", "sent"), [(SIZE + 7, 7), (SIZE + 60, 60), (SIZE - 13, 7), (SIZE - 500, 0), (100, 0)],
    ids=["a little longer", "longer", "shorter", "half", "a tenth"],
)  # fmt: skip
async def test_files_that_became_longer_or_shorter_send_their_tails(large, size, sent):
    world = large()
    await uploaded(world)
    number = world.open("big", writing=True)
    await world.content(number).truncate(size)
    await world.close_file(number)
    await world.drained()
    await world.check()
    assert traffic(world)[::2] == (sent, 0)


async def test_an_append_is_copied_and_sent_again_and_again(large):
    world = large()
    await uploaded(world)
    data = BYTES
    for line in (b"one", b"and another line, which is longer", b"x" * 100):
        await world.write("big", line, offset=len(data))
        data += line
        forget_requests(world)
        await world.drained()
        assert traffic(world)[0] < len(line) + CELL
    assert world.bucket.raw["big"].data == data
    await world.check()


async def test_a_file_that_outgrows_one_put_copies_what_that_put_sent(large):
    world = large()
    await uploaded(world, BYTES[:60])
    await world.write("big", BYTES[60:100], offset=60)
    await world.drained()
    assert traffic(world) == (40, 1, 0)
    await world.check()


async def test_a_file_rewritten_with_mostly_the_same_bytes_costs_as_little_as_an_edit(large):
    world = large()
    await uploaded(world)
    await world.put("big", BYTES[:300] + b"!" + BYTES[301:])
    await world.drained()
    assert traffic(world)[0] == PART_MIN
    await world.check()


async def test_an_edit_of_an_edit_and_one_after_a_restart(large):
    world = large()
    await uploaded(world)
    for offset in (100, 900, 101):
        await world.write("big", b"%d" % offset, offset=offset)
        await world.drained()
        world.crash()
        assert traffic(world)[0] == PART_MIN
        forget_requests(world)
    await world.check()


async def test_fingerprints_follow_the_object_through_renames_and_chmods(large):
    world = large()
    await uploaded(world)
    world.rename("big", "moved")
    await world.drained()
    world.chmod("moved", 0o600)
    await world.drained()
    world.rename("moved", "again")
    await world.write("again", b"edit", offset=500)
    forget_requests(world)
    await world.drained()
    await world.check()
    assert traffic(world)[:2] == (PART_MIN, 2)


async def test_an_edit_of_a_file_nobody_downloaded_fetches_only_the_part_around_it(large, monkeypatch):
    monkeypatch.setattr("gatewayfs.cache.fetch.FETCH_BYTES", CELL)
    world = large()
    await uploaded(world)
    world.evict("big")
    await world.write("big", b"edit", offset=523)
    await world.drained()
    assert traffic(world) == (PART_MIN, 2, PART_MIN - 4)
    forget_requests(world)
    await world.write("big", b"edit", offset=803)
    await world.drained()
    assert traffic(world) == (PART_MIN, 2, PART_MIN - 4), "what is known of bytes that are not here stays known"
    await world.check()


async def only_read(world, data=BYTES):
    """A world in which somebody else's ``big`` was read from front to back, and nothing was ever sent."""
    await uploaded(world, data)
    world.evict("big")
    assert records.forget_fingerprints(world.meta, world.need("big").ino)
    assert await world.read("big") == data
    forget_requests(world)


@pytest.mark.semantics("delta-uploads")
async def test_an_edit_of_a_file_that_was_only_read_here_sends_the_smallest_part(large):
    world = large()
    await only_read(world)
    world.crash()
    await world.write("big", b"edit", offset=523)
    await world.drained()
    await world.check()
    assert traffic(world) == (PART_MIN, 2, 0)


async def test_what_is_read_while_a_file_is_edited_counts_too(large):
    world = large()
    await uploaded(world)
    world.evict("big")
    assert records.forget_fingerprints(world.meta, world.need("big").ino)
    number = world.open("big", writing=True)
    await world.content(number).write(523, b"edit")
    await world.content(number).read(0, SIZE)
    forget_requests(world)
    await world.drained()
    await world.close_file(number)
    await world.check()
    assert traffic(world)[1:] == (2, 0)


async def test_what_came_from_an_object_that_was_replaced_is_not_known_of_the_next_one(large):
    world = large()
    await only_read(world)
    world.bucket.foreign_put("big", bytes(SIZE), world.bucket.raw["big"].metadata)
    await world.write("big", b"edit", offset=523)
    await world.drained()
    await world.check()
    assert traffic(world)[0] >= SIZE


async def test_a_store_that_cannot_copy_parts_gets_the_whole_file(large):
    world = large(replace(EVERYTHING, part_copy=False))
    await uploaded(world)
    await world.write("big", b"edit", offset=523)
    await world.drained()
    await world.check()
    assert traffic(world)[:2] == (SIZE, 0)


@pytest.mark.parametrize("refusal", [StoreAccessDenied("no reading"), ObjectArchived("in an archive")])
async def test_an_object_that_may_not_be_read_is_replaced_by_the_whole_file(large, refusal):
    world = large()
    await uploaded(world)
    await world.write("big", b"edit", offset=523)
    world.store.fail("copy_part", refusal, times=FOREVER)
    await world.drained()
    await world.check()
    assert traffic(world)[0] == SIZE


async def test_an_upload_of_edits_goes_on_after_a_restart(large):
    world = large()
    await uploaded(world)
    for offset in (200, 500, 800):
        await world.write("big", b"edit", offset=offset)
    held = world.store.hold("upload_part", skip=1, times=FOREVER)
    async with world.running():
        await held.reached.wait()
    world.crash()
    world.store.heal()
    await world.drained()
    await world.check()
    # The request that was held when the program died is the one made twice.
    assert traffic(world)[:2] == (3 * PART_MIN + PART_MIN, 4)
    assert world.bucket.count("create_multipart") == 1


async def test_a_file_changed_while_its_edits_go_up_appears_whole(large):
    world = large()
    await uploaded(world)
    for offset in (200, 500, 800):
        await world.write("big", b"edit", offset=offset)
    held = world.store.hold("upload_part", skip=1)
    async with world.running() as uploader:
        await held.reached.wait()
        await world.write("big", b"later", offset=650)
        held.release()
        await uploader.drain()
    await world.check()
    assert traffic(world)[0] < 7 * PART_MIN


@pytest.mark.parametrize("capabilities", [EVERYTHING, Capabilities(), AS_CEPH], ids=["all conditions", "AWS", "Ceph"])
@pytest.mark.parametrize("renamed", [False, True], ids=["in place", "renamed"])
@pytest.mark.parametrize("at", ["copy_part", "upload_part", "complete_multipart"])
@pytest.mark.semantics("never-mixed")
async def test_an_object_replaced_while_parts_are_copied_from_it_is_never_mixed_in(large, capabilities, renamed, at):
    world = large(capabilities)
    await uploaded(world)
    await world.write("big", b"edit", offset=523)
    ours = BYTES[:523] + b"edit" + BYTES[527:]
    if renamed:
        world.rename("big", "moved")
    held = world.store.hold(at)
    theirs = bytes(SIZE)
    async with world.running() as uploader:
        await held.reached.wait()
        world.bucket.foreign_put("big", theirs, world.bucket.raw["big"].metadata)
        held.release()
        await uploader.drain()
    if not renamed:  # else nobody here knows of theirs before the next refresh
        await world.check()
    assert sorted(stored.data for stored in world.bucket.raw.values()) == sorted([theirs, ours])


async def test_what_was_copied_before_a_restart_is_not_mixed_with_a_later_object(large):
    world = large(AS_CEPH, conflict_policy=GATEWAY_WINS)
    await uploaded(world)
    await world.write("big", b"edit", offset=523)
    held = world.store.hold("upload_part", times=FOREVER)
    async with world.running():
        await held.reached.wait()
    world.crash()
    world.store.heal()
    theirs = bytes(SIZE)
    world.bucket.foreign_put("big", theirs, world.bucket.raw["big"].metadata)
    await world.drained()
    await world.check()
    ours = BYTES[:523] + b"edit" + BYTES[527:]
    assert world.bucket.raw["big"].data == ours
    assert sorted(stored.data for stored in world.bucket.raw.values()) == sorted([theirs, ours])


async def test_an_object_replaced_and_put_back_while_parts_are_copied_is_copied_again(large):
    """The etag is the same afterwards, and what was copied in between is not."""
    world = large(AS_CEPH)
    await uploaded(world, BYTES[:PART])
    await world.write("big", BYTES[PART:], offset=PART)
    before = world.bucket.raw["big"].data
    held = world.store.hold("copy_part")
    held_after = world.store.hold("upload_part")
    async with world.running() as uploader:
        await held.reached.wait()
        world.bucket.foreign_put("big", bytes(PART), world.bucket.raw["big"].metadata)
        held.release()
        await held_after.reached.wait()
        world.bucket.foreign_put("big", before, world.bucket.raw["big"].metadata)
        held_after.release()
        await uploader.drain()
    await world.check()
    assert world.bucket.raw["big"].data == BYTES


async def test_an_object_others_replaced_is_no_base_any_more(large):
    world = large()
    await uploaded(world)
    ino = world.need("big").ino
    assert world.meta.fingerprints(ino) is not None
    world.bucket.foreign_put("big", bytes(SIZE), world.bucket.raw["big"].metadata)
    await world.write("big", b"edit", offset=523)
    await world.drained()
    await world.check()
    assert traffic(world)[0] >= SIZE


async def test_a_lost_answer_costs_a_whole_upload_at_most(large):
    world = large()
    await uploaded(world)
    await world.write("big", b"edit", offset=523)
    world.store.fail("complete_multipart", StoreUnreachable("lost"), after=True)
    await world.drained()
    await world.check()
    await world.write("big", b"edit", offset=823)
    await world.drained()
    await world.check()


async def test_fingerprints_go_with_the_file(large):
    world = large()
    await uploaded(world)
    ino = world.need("big").ino
    world.unlink("big")
    await world.drained()
    assert world.meta.fingerprints(ino) is None
    await world.check()


@pytest.mark.semantics("never-mixed")
async def test_fingerprints_of_an_object_that_others_replaced_copy_nothing_from_theirs(large):
    world = large()
    await uploaded(world)
    theirs = bytes(reversed(BYTES))
    etag = world.bucket.foreign_put("big", theirs)
    inode = world.need("big")
    with world.meta.transaction() as tx:
        # As a refresh records it; the fingerprints may be older.
        fingerprints = tx.fingerprints(inode.ino)
        remote = msgspec.structs.replace(inode.remote, etag=etag)
        tx.put(msgspec.structs.replace(world.cache.rebase(tx, inode), remote=remote))
        tx.put_fingerprints(inode.ino, fingerprints)
    await world.put("big", BYTES)
    await world.drained()
    await world.check()
    assert world.bucket.raw["big"].data == BYTES
