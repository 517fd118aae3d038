"""Failures cost the entry that has them time, and nobody else anything; and everything heals by itself."""

import itertools
from dataclasses import replace

import msgspec
import pytest
import trio

from gatewayfs.errors import (
    CacheDiskFailed,
    CorruptRecord,
    CredentialsRejected,
    NoSpace,
    ObjectArchived,
    StoreAccessDenied,
    StoreBusy,
    StoreRefused,
    StoreUnreachable,
)
from gatewayfs.meta.transaction import Transaction
from tests.support.fakestore import EVERYTHING, FakeObjectStore
from tests.support.faultystore import ANY, FOREVER


@pytest.fixture
def one_by_one(make_world):
    """A share whose objects are deleted each with a request of its own, which can fail alone."""
    return make_world(bucket=FakeObjectStore(capabilities=replace(EVERYTHING, delete_many_if_match=False)))


async def test_a_refused_upload_is_parked_with_its_reason_and_blocks_nobody(world):
    world.store.fail("put", StoreAccessDenied("no", code="AccessDenied"), key="secret", times=FOREVER)
    await world.write("secret", b"s")
    for number in range(30):
        await world.write(f"f{number}", b"x")
    async with world.running() as uploader:
        report = await uploader.drain()
        status = uploader.status()
    assert sorted(world.bucket.raw) == sorted(f"f{number}" for number in range(30))
    assert [(entry.key, entry.parked.code) for entry in report.left] == [("secret", "AccessDenied")]
    assert [(entry.key, entry.parked.reason) for entry in status.parked] == [("secret", "no")]
    assert await world.read("secret") == b"s"


async def test_attributes_that_find_no_room_beside_others_metadata_wait_with_that_reason(world):
    await world.write("file", b"data")
    await world.drained()
    theirs = {f"k{number}": "v" * 97 for number in range(20)}
    with world.meta.transaction() as tx:
        tx.put(msgspec.structs.replace(world.at("file"), foreign=theirs))
    world.chmod("file", 0o600)
    async with world.running() as uploader:
        await uploader.drain()
        (entry,) = uploader.status().parked
    assert (entry.key, entry.parked.code) == ("file", "MetadataTooLarge")
    assert world.bucket.raw["file"].data == b"data"
    assert world.at("file").mode & 0o777 == 0o600


async def test_several_parked_entries_block_nobody_and_every_byte_is_still_here(one_by_one):
    world = one_by_one
    for name in ("gone", "old", "away"):
        await world.write(name, name.encode())
    await world.drained()
    refusals = {
        "denied": StoreAccessDenied("no", code="AccessDenied"),
        "long": StoreRefused("too long", code="KeyTooLongError"),
        "old": ObjectArchived("in GLACIER", code="InvalidObjectState"),
    }
    for key, error in refusals.items():
        world.store.fail("copy" if key == "old" else "put", error, key=key, times=FOREVER)
    world.store.fail("delete", StoreAccessDenied("no deleting", code="AccessDenied"), key="gone", times=FOREVER)
    world.store.fail("head", StoreAccessDenied("no looking"), key="gone", times=FOREVER)
    await world.write("denied", b"d")
    await world.write("long", b"l")
    world.chmod("old", 0o600)
    world.unlink("gone")
    for round_ in range(2):
        for number in range(50):
            await world.put(f"f{number}", b"%d" % round_)
        async with world.running() as uploader:
            report = await uploader.drain()
            assert {entry.key for entry in report.left} == {"denied", "long", "old", "gone"}
            assert {entry.key for entry in uploader.status().parked} == {"denied", "long", "old", "gone"}
        assert all(world.bucket.raw[f"f{number}"].data == b"%d" % round_ for number in range(50))
        assert await world.read("denied") == b"d"
        assert await world.read("long") == b"l"
        world.crash()
    world.store.heal()
    await world.drained()
    await world.check()


async def test_a_name_whose_old_object_may_not_be_deleted_can_be_taken_by_another_file(one_by_one):
    world = one_by_one
    for name in ("gone", "other"):
        await world.write(name, name.encode())
    await world.drained()
    for operation in ("delete", "head"):
        world.store.fail(operation, StoreAccessDenied("no"), key="gone", times=FOREVER)
    world.unlink("gone")
    async with world.running() as uploader:
        await uploader.drain()
        assert [entry.key for entry in uploader.status().parked] == ["gone"]
        world.rename("other", "gone")
        await trio.sleep(10)
        assert uploader.status().parked == (), "it is nobody's work any more"
    assert world.bucket.raw["gone"].data == b"other"
    await world.check()


@pytest.mark.parametrize("how", ["retry", "a change", "time", "a restart"])
async def test_a_parked_entry_goes_up_after(world, how):
    world.store.fail("put", StoreAccessDenied("no"), key="a")
    await world.write("a", b"x")
    async with world.running() as uploader:
        await uploader.drain()
        assert uploader.status().parked
        if how == "retry":
            await uploader.operator.retry("a")
            await trio.sleep(1)
        elif how == "a change":
            await world.put("a", b"y")
            await trio.sleep(10)
        elif how == "time":
            await trio.sleep(86_400)
    if how == "a restart":
        world.crash()
        await world.drained()
    await world.check()


@pytest.mark.parametrize("error", [ObjectArchived("in GLACIER"), StoreRefused("too long", code="KeyTooLongError")])
async def test_what_waiting_cannot_cure_is_parked(world, error):
    await world.write("a", b"x")
    world.store.fail("put", error)
    async with world.running() as uploader:
        report = await uploader.drain()
    assert [entry.parked.reason for entry in report.left] == [str(error)]


async def test_bytes_that_contradict_their_checksum_are_never_uploaded(world):
    await world.write("a", b"x")
    await world.write("b", b"y")

    async def corrupt(_ino, _cell_bytes, original=world.cache.snapshot):
        if _ino == world.need("a").ino:
            raise CorruptRecord("the pack entry does not match its checksum")
        return await original(_ino, _cell_bytes)

    world.cache.snapshot = corrupt
    async with world.running() as uploader:
        report = await uploader.drain()
    assert [entry.key for entry in report.left] == ["a"]
    assert list(world.bucket.raw) == ["b"]


@pytest.mark.parametrize(
    "error", [StoreUnreachable("no route"), CredentialsRejected("ExpiredToken")], ids=["no route", "bad keys"]
)
async def test_a_store_that_does_not_answer_gets_single_probes_and_everything_drains_when_it_is_back(world, error):
    async with world.running() as uploader:
        world.store.fail(ANY, error, times=FOREVER)
        for number in range(100):
            await world.write(f"f{number}", b"x")
        await trio.sleep(3)
        first = len(world.store.calls)
        assert first <= world.settings.workers
        since = uploader.status().unreachable.since_ns
        await trio.sleep(3600)
        probes = len(world.store.calls) - first
        assert 3600 / 300 <= probes <= 60
        assert uploader.status().unreachable.since_ns == since
        assert str(error) in uploader.status().unreachable.reason
        world.store.heal()
        await trio.sleep(301)
        assert uploader.status().unreachable is None
        await trio.sleep(10)
    await world.check()


async def test_five_hundred_files_and_no_network_make_one_probe_at_a_time(world):
    for number in range(500):
        await world.write(f"f{number}", b"x")
    world.store.unreachable()
    async with world.running():
        await trio.sleep(3)
        under_way = len(world.store.calls)
        assert under_way <= world.settings.workers
        await trio.sleep(60)
        # Pauses of up to 2, 4, 8, 16, 32 s: one or two dozen even if all of them come out short.
        assert 2 <= len(world.store.calls) - under_way <= 25
        assert {call.operation for call in world.store.calls[under_way:]} == {"list_page"}
        world.store.heal()
        await trio.sleep(310)
    await world.check()


async def test_a_request_that_never_gets_an_answer_does_not_keep_others_waiting(world):
    """A proxy that chokes on one body looks like a dead store to that upload, and to no other."""
    world.store.fail("put", StoreUnreachable("connection reset"), key="poison", times=FOREVER)
    await world.write("poison", b"p")
    async with world.running() as uploader:
        for number in range(200):
            await world.write(f"f{number}", b"x")
            await trio.sleep(1)
        assert len(world.bucket.raw) >= 190
        assert uploader.status().unreachable is None
        assert uploader.status().backing_off == 1
        world.store.heal()
        await trio.sleep(310)
    await world.check()


async def test_a_busy_store_is_asked_again_with_growing_pauses(world):
    await world.write("a", b"x")
    world.store.fail("put", StoreBusy("slow down"), times=6)
    async with world.running() as uploader:
        times = []
        perform = world.store.around

        async def timed(call, go):
            times.append(trio.current_time())
            return await perform(call, go)

        world.store.around = timed
        await world.arrived(lambda: world.bucket.raw)
        assert uploader.status().backing_off == 0
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert len(pauses) == 6
    assert all(1 <= pause <= 2 ** (place + 1) + 0.1 for place, pause in enumerate(pauses))
    assert max(pauses) > 2
    await world.check()


async def test_a_bug_costs_its_entry_a_pause_and_a_traceback(world, caplog):
    ino = await world.write("a", b"x")
    await world.write("b", b"y")
    failures = 3
    original = world.cache.snapshot

    async def broken(which, cell_bytes):
        nonlocal failures
        if which == ino and failures:
            failures -= 1
            raise ZeroDivisionError("a bug")
        return await original(which, cell_bytes)

    world.cache.snapshot = broken
    async with world.running() as uploader:
        await trio.sleep(3)
        assert "b" in world.bucket.raw
        await trio.sleep(60)
        assert "ZeroDivisionError: a bug" in uploader.status().last_errors[0].message
    await world.check()
    assert "ZeroDivisionError" in caplog.text
    assert "Traceback" in caplog.text


async def test_a_full_cache_disk_only_delays_what_needs_room(world):
    await world.write("a", b"A" * 10)
    await world.write("b", b"B" * 10)
    await world.drained()
    world.evict("a")
    world.evict("b")
    fetch, full = world.cache.ensure_resident, True

    async def no_room(*arguments):
        if full:
            raise NoSpace("the cache is full")
        await fetch(*arguments)

    world.cache.ensure_resident = no_room
    world.rename("a", "b", exchange=True)
    await world.drained()
    await world.check()


async def test_a_file_still_being_written_waits_for_its_close_or_the_longest_settle_time(world):
    async with world.running():
        await world.write("a", b"1")
        number = world.open("a", writing=True)
        begun = trio.current_time()
        for _ in range(50):
            await world.content(number).write(1, b"2")
            await trio.sleep(1)
            assert world.bucket.raw == {}
        await trio.sleep(15)
        assert world.bucket.raw["a"].data == b"12", "after settle_max a snapshot goes up"
        assert trio.current_time() - begun < 66
        await world.content(number).write(2, b"3")
        await trio.sleep(10)
        assert world.bucket.raw["a"].data == b"12"
        await world.close_file(number)
        await trio.sleep(2.5)
    await world.check()
    assert world.bucket.raw["a"].data == b"123"


async def test_a_file_changed_every_second_still_goes_up_every_minute(world):
    async with world.running():
        for second in range(200):
            await world.put("a", b"%d" % second)
            await trio.sleep(1)
    assert 3 <= world.bucket.count("put") <= 4


async def test_a_drain_skips_settle_times_and_ends_although_writing_goes_on(world):
    async with world.running() as uploader, trio.open_nursery() as nursery:
        await world.write("a", b"0")
        await world.write("b", b"b")

        async def write_for_ever():
            number = 0
            while True:
                number += 1
                await world.put("a", b"%d" % number)
                await trio.sleep(0.01)

        nursery.start_soon(write_for_ever)
        begun = trio.current_time()
        report = await uploader.drain()
        assert trio.current_time() - begun < 1
        assert report.complete
        assert sorted(world.bucket.raw) == ["a", "b"]
        nursery.cancel_scope.cancel()


async def test_a_drain_waits_for_the_store_to_come_back(world):
    await world.write("a", b"x")
    world.store.unreachable()
    async with world.running() as uploader:
        with trio.move_on_after(1000) as scope:
            await uploader.drain()
        assert scope.cancelled_caught
        assert uploader.progress().entries == 1
        assert uploader.progress().bytes == 1
        world.store.heal()
        await uploader.operator.retry()
        assert (await uploader.drain()).complete
        assert uploader.progress().entries == 0
    await world.check()


async def test_large_files_do_not_hold_up_small_ones_nor_the_other_way_round(make_world):
    world = make_world(part_bytes=100, small_file_bytes=10)
    held = world.store.hold("upload_part", times=FOREVER)
    async with world.running():
        for number in range(10):
            await world.write(f"big{number}", b"x" * 1000)
        await held.reached.wait()
        for number in range(100):
            await world.write(f"small{number}", b"x")
        await trio.sleep(10)
        assert len(world.bucket.raw) == 100
        held.release()
        slow = world.store.hold("put", times=FOREVER)
        for number in range(100):
            await world.write(f"more{number}", b"x")
        await slow.reached.wait()
        await trio.sleep(10)
        assert sum(key.startswith("big") for key in world.bucket.raw) == 10
        slow.release()
        await trio.sleep(10)
    await world.check()


async def test_bodies_in_flight_stay_within_their_limit(make_world):
    world = make_world(part_bytes=100, small_file_bytes=10, inflight_bytes_max=250)
    seen = []
    perform = world.store.around

    async def watched(call, go):
        await trio.sleep(0.1)
        seen.append(world.uploader.status().body_bytes_in_flight)
        return await perform(call, go)

    world.store.around = watched
    for number in range(6):
        await world.write(f"big{number}", b"x" * 1000)
        await world.write(f"small{number}", b"x" * 90)
    await world.drained()
    await world.check()
    assert 200 <= max(seen) <= 250


async def test_nothing_is_sent_from_a_read_only_share(make_world):
    world = make_world(read_only=True)
    await world.write("a", b"x")
    async with world.running():
        await trio.sleep(1000)
    assert world.bucket.requests == []


async def test_status_names_what_is_in_flight_and_how_old_the_queue_is(world):
    held = world.store.hold("put")
    async with world.running() as uploader:
        await world.write("a", b"12345")
        await held.reached.wait()
        world.clock.advance(30)
        status = uploader.status()
        assert [(entry.key, entry.doing, entry.size_bytes) for entry in status.in_flight] == [("a", "SendContent", 5)]
        assert 30 <= status.oldest_age_s < 31
        assert (status.dirty, status.entries_bytes, status.doomed) == (1, 5, 0)
        held.release()
        await uploader.drain()
        status = uploader.status()
        assert (status.uploaded_files, status.uploaded_bytes, status.in_flight) == (1, 5, ())
        assert status.rate_bytes_per_s > 0


async def test_after_a_restart_the_queue_is_what_the_records_say(world):
    for number in range(20):
        await world.write(f"f{number}", b"x")
    await world.drained()
    await world.write("f0", b"changed")
    world.unlink("f1")
    world.rename("f2", "g2")
    world.crash()
    async with world.running():
        await trio.sleep(10)
    await world.check()


async def test_a_reason_that_the_disk_does_not_take_is_kept_in_memory_and_the_uploader_goes_on(world, monkeypatch):
    put_parked, refused = Transaction.put_parked, []

    def refuse(tx, ino, parked):
        if parked is not None and not refused:
            refused.append(ino)
            raise CacheDiskFailed("the journal is on the same disk")
        put_parked(tx, ino, parked)

    monkeypatch.setattr(Transaction, "put_parked", refuse)
    world.store.fail("put", StoreAccessDenied("no", code="AccessDenied"), key="secret", times=2)
    await world.write("secret", b"s")
    async with world.running() as uploader:
        await uploader.drain()
        assert refused
        await trio.sleep(4000)
    assert world.bucket.raw["secret"]
    await world.check()
