"""What is told of uploads, conflicts, refreshes and notifications, when, and to whom."""

from contextlib import contextmanager

import msgspec
import pytest
import trio

from gatewayfs.conflict import Policy
from gatewayfs.errors import StoreAccessDenied, UserError
from gatewayfs.meta import codec
from gatewayfs.meta.check import check
from tests.component.events.telling import Shelf, TrioClock, going, telling, until


@pytest.fixture
def shelf():
    return Shelf()


@pytest.fixture
def make(make_world):
    def made(*takers, upload=None, **settings):
        return make_world(clock=TrioClock(), news=telling(takers, **settings), **(upload or {}))

    return made


def news_records(world):
    """Everything the records keep for events, targets aside."""
    tables = (codec.EVENT, codec.SETTLING, codec.WAITING)
    return [key for table in tables for key in world.meta.keys(table, codec.table_end(table), 1 << 20)]


@contextmanager
def refusing(world):
    """The bucket refuses uploads for the length of the block."""
    fault = world.store.fail("put", StoreAccessDenied("no"), times=1 << 30)
    yield
    assert fault.seen
    world.store.heal()


# ----------------------------------------------------------------- uploads


async def test_an_upload_makes_one_event_and_leaves_nothing_behind(make, shelf):
    world = make(shelf, upload={"prefix": "in/"})
    async with going(world) as events:
        await world.put("a", b"12345")
        await until(lambda: shelf.lines)
        await trio.sleep(10)
        assert news_records(world) == []
        status = events.status()
    assert shelf.details == [
        {
            "event-type": "object-upload-complete",
            "object-size": 5,
            "modification-time": "2023-11-14T22:13:20Z",
            "object-key": "a",
            "prefix": "in/",
            "bucket-name": "bucket",
        }
    ]
    told = status.targets["shelf"]
    assert (told.waiting, told.delivered, told.dropped, told.last_error) == (0, 1, 0, "")
    assert (status.settling, status.notifications, status.outbox_bytes) == (0, 0, 0)
    assert check(world.meta) == []


async def test_without_a_target_nothing_is_kept(make):
    world = make()
    async with going(world):
        await world.put("a", b"1")
        await world.uploader.drain()
        assert news_records(world) == []
        assert world.meta.targets() == {}


async def test_attributes_directories_and_links_make_no_event_but_a_new_name_does(make, shelf):
    world = make(shelf)
    async with going(world):
        world.mkdir("d")
        world.symlink("d/link", b"a")
        await world.put("a", b"1")
        await world.uploader.drain()
        world.chmod("a", 0o600)
        await world.uploader.drain()
        await until(lambda: shelf.keys == ["a"])
        world.rename("a", "d/b")
        await world.uploader.drain()
        await until(lambda: len(shelf.lines) > 1)
    assert shelf.keys == ["a", "d/b"]


async def test_a_file_is_told_when_its_writer_rests_and_once_however_often_it_was_uploaded(make, shelf):
    world = make(shelf, settle_s=60.0)
    async with going(world) as events:
        for length in range(1, 6):
            await world.put("a", b"x" * length)
            await trio.sleep(30)
            assert world.bucket.raw["a"].data == b"x" * length, "the upload itself waits for nothing"
        assert shelf.lines == []
        assert events.status().settling == 1
        await trio.sleep(29)
        assert shelf.lines == []
        await trio.sleep(3)
        assert [detail["object-size"] for detail in shelf.details] == [5]
        await trio.sleep(200)
        assert events.status().settling == 0
    assert len(shelf.lines) == 1


async def test_bytes_that_are_newer_than_the_upload_are_waited_for(make, shelf):
    world = make(shelf, settle_s=10.0)
    async with going(world):
        await world.put("a", b"old")
        await trio.sleep(5)
        with refusing(world):
            await world.put("a", b"newer")
            await trio.sleep(60)
            assert shelf.lines == []
        await world.uploader.operator.retry()
        await until(lambda: shelf.lines)
    assert [detail["object-size"] for detail in shelf.details] == [5]


async def test_a_file_deleted_before_it_settled_is_told_as_it_was(make, shelf):
    world = make(shelf, settle_s=60.0)
    async with going(world):
        await world.put("a", b"123")
        await trio.sleep(10)
        world.unlink("a")
        await until(lambda: shelf.lines)
    assert [detail["object-size"] for detail in shelf.details] == [3]


async def test_settling_goes_on_after_a_crash(make, shelf):
    world = make(shelf, settle_s=60.0)
    async with going(world):
        await world.put("a", b"123")
        await trio.sleep(30)
    world.crash()
    async with going(world):
        await trio.sleep(20)
        assert shelf.lines == []
        await trio.sleep(15)
    assert shelf.keys == ["a"]


# ----------------------------------------------------------------- conflicts, refreshes


@pytest.mark.parametrize("policy", list(Policy))
async def test_a_conflict_is_told_with_both_places(make, shelf, policy):
    world = make(shelf, upload={"conflict_policy": policy})
    async with going(world):
        await world.put("d", b"base")
        await world.uploader.drain()
        world.bucket.foreign_put("d", b"theirs")
        await world.put("d", b"ours")
        await world.uploader.drain()
        await until(lambda: any(detail["event-type"] == "conflict" for detail in shelf.details))
    (conflict,) = (event for event in shelf.events if event["detail"]["event-type"] == "conflict")
    copy = next(name for name in world.paths() if name != "d")
    assert conflict["detail-type"] == "GatewayFS Conflict Event"
    assert conflict["detail"] == {
        "event-type": "conflict",
        "resolution": "keep-both",
        "kept-by": "bucket" if policy is Policy.BUCKET_WINS else "gateway",
        "object-key": "d",
        "copy-key": copy,
        "prefix": "",
        "bucket-name": "bucket",
    }


async def test_a_delete_that_came_too_late_is_told(make, shelf):
    world = make(shelf)
    async with going(world):
        await world.put("a", b"base")
        await world.uploader.drain()
        world.bucket.foreign_put("a", b"theirs")
        world.unlink("a")
        await world.uploader.drain()
        await until(lambda: len(shelf.lines) == 2)
        assert list(world.meta.iter_doomed()) == []
    assert shelf.details[-1]["resolution"] == "keep-theirs"
    assert world.bucket.raw["a"].data == b"theirs"


async def test_a_refresh_is_told(make, shelf):
    world = make(shelf)
    async with going(world) as events:
        identity = events.new_id()
        with world.meta.transaction() as tx:
            events.refreshed(tx, identity, world.clock.time_ns(), ["", "a/b"])
        await until(lambda: shelf.lines)
    assert (shelf.details[0]["notification-id"], shelf.details[0]["folderList"]) == (identity, ["/", "/a/b"])


# ----------------------------------------------------------------- notify when uploaded


async def test_a_notification_waits_for_what_was_written_before_it_and_for_nothing_else(make, shelf):
    world = make(shelf, upload={"settle_s": 100.0, "settle_max_s": 100.0})
    async with going(world) as events:
        await world.put("a", b"1")
        await trio.sleep(50)
        request = events.notifications.request()
        await trio.sleep(1)
        await world.put("b", b"2")
        await until(request.done.is_set)
        assert "a" in world.bucket.raw
        assert "b" not in world.bucket.raw, "nothing is hurried, and later files are not waited for"
        await until(lambda: len(shelf.lines) == 2)
    detail = shelf.details[-1]
    assert (detail["event-type"], detail["notification-id"]) == ("upload-complete", request.identity)
    assert (detail["request-received"], detail["completed"]) == ("2023-11-14T22:14:10Z", "2023-11-14T22:15:00Z")


async def test_a_notification_does_not_come_while_something_is_parked(make, shelf):
    world = make(shelf)
    async with going(world) as events:
        with refusing(world):
            await world.put("a", b"1")
            request = events.notifications.request()
            await trio.sleep(1000)
            assert not request.done.is_set()
            assert events.status().notifications == 1
        await world.uploader.operator.retry()
        await until(request.done.is_set)


async def test_a_notification_outlives_a_crash(make, shelf):
    world = make(shelf)
    async with going(world) as events:
        with refusing(world):
            await world.put("a", b"1")
            request = events.notifications.request()
            await trio.sleep(10)
    world.crash()
    async with going(world) as events:
        assert events.status().notifications == 1
        await until(lambda: len(shelf.lines) == 2)
        assert events.status().notifications == 0
        assert world.meta.notifications() == {}
    assert shelf.details[-1]["notification-id"] == request.identity


async def test_requests_are_bounded(make):
    world = make(Shelf())
    async with going(world) as events:
        with refusing(world):
            await world.put("a", b"1")
            for _ in range(100):
                events.notifications.request()
            await trio.sleep(10)
            with pytest.raises(UserError, match="100 requests"):
                events.notifications.request()


# ----------------------------------------------------------------- targets


async def test_a_dead_target_holds_nobody_back_and_gets_everything_when_it_is_back(make):
    dead, well = Shelf("dead", lines_max=1, parallel=4), Shelf("well")
    dead.broken = True
    world = make(dead, well)
    async with going(world) as events:
        for number in range(20):
            await world.put(f"f{number}", b"x")
        await until(lambda: len(well.lines) == 20)
        await trio.sleep(3600)
        status = events.status()
        assert status.targets["dead"].waiting == 20
        assert status.targets["dead"].last_error == "shelf is broken"
        assert status.targets["dead"].oldest_age_s > 3500
        assert status.targets["well"].waiting == 0
        attempts = dead.attempts
        assert attempts < 150, "it is left alone for longer and longer"
        dead.broken = False
        await until(lambda: len(dead.lines) == 20)
        await trio.sleep(1)
        assert events.status().targets["dead"].failing_since_ns == 0
        assert news_records(world) == []
    assert sorted(dead.lines) == sorted(well.lines)


async def test_one_refused_event_does_not_make_the_others_come_twice(make):
    picky = Shelf("picky", lines_max=1, parallel=4)
    refuse = picky.deliver

    async def deliver(lines):
        picky.broken = b'"f0"' in lines[0] and picky.attempts < 20
        await refuse(lines)

    picky.deliver = deliver
    world = make(picky)
    async with going(world):
        for number in range(4):
            await world.put(f"f{number}", b"x")
        await until(lambda: len(picky.lines) == 4)
    assert sorted(picky.keys) == ["f0", "f1", "f2", "f3"]


async def test_each_target_goes_on_where_it_was_after_a_crash(make):
    dead, well = Shelf("dead"), Shelf("well")
    dead.broken = True
    world = make(dead, well)
    async with going(world):
        for number in range(10):
            await world.put(f"f{number}", b"x")
        await until(lambda: len(well.lines) == 10)
        await trio.sleep(5)
    dead.broken = False
    world.crash()
    async with going(world) as events:
        await until(lambda: len(dead.lines) == 10)
        await trio.sleep(5)
        assert events.status().targets["well"].waiting == 0
    assert len(well.lines) == 10


async def test_a_new_target_hears_of_what_happens_from_now_on_and_a_former_one_keeps_nothing_alive(make):
    dead, new = Shelf("dead"), Shelf("new")
    dead.broken = True
    world = make(dead)
    async with going(world):
        await world.put("a", b"1")
        await world.uploader.drain()
        await trio.sleep(5)
    world.make_news = telling([new])
    world.crash()
    async with going(world):
        await world.put("b", b"2")
        await until(lambda: new.lines)
        await trio.sleep(5)
        assert news_records(world) == []
    assert new.keys == ["b"]
    assert list(world.meta.targets()) == ["new"]


async def test_without_targets_what_waited_is_dropped_at_the_next_start(make):
    dead = Shelf("dead")
    dead.broken = True
    world = make(dead, settle_s=0.0)
    async with going(world):
        for number in range(600):
            await world.put(f"f{number}", b"1")
        await world.uploader.drain()
    world.make_news = telling([])
    world.crash()
    async with going(world):
        await trio.sleep(5)
        assert news_records(world) == []
        assert world.meta.targets() == {}


async def test_what_waits_is_bounded_and_what_is_given_up_is_counted(make):
    dead, well = Shelf("dead"), Shelf("well")
    dead.broken = True
    world = make(dead, well, outbox_bytes_max=10_000)
    async with going(world) as events:
        for number in range(100):
            await world.put(f"f{number:02}", b"x")
            await trio.sleep(5)
        await until(lambda: len(well.lines) == 100)
        status = events.status()
        assert 5_000 < status.outbox_bytes <= 10_000
        told = status.targets["dead"]
        assert told.dropped > 0
        assert told.waiting == 100 - told.dropped
        assert status.targets["well"].dropped == 0
        dropped = told.dropped
    world.crash()
    dead.broken = False
    async with going(world) as events:
        await until(lambda: len(dead.lines) == 100 - dropped)
        assert events.status().targets["dead"].dropped == dropped
    assert dead.keys == [f"f{number:02}" for number in range(dropped, 100)], "the oldest went"


async def test_an_event_is_offered_again_when_the_daemon_died_before_the_record_of_its_delivery(make, shelf):
    world = make(shelf)
    records = []
    shelf.after = lambda: records.append(world.meta.events_after(0, 10))
    async with going(world):
        await world.put("a", b"1")
        await until(lambda: shelf.lines)
    assert len(records[0]) == 1, "the event is in the records until the target has it"


async def test_an_upload_whose_answer_was_lost_is_told_when_it_is_recognised(make, shelf):
    world = make(shelf)
    lost = []
    put = world.bucket.put

    async def put_and_die(*args, **more):
        lost.append(await put(*args, **more))
        await trio.sleep_forever()

    world.bucket.put = put_and_die
    async with going(world):
        await world.put("a", b"1")
        await until(lambda: lost)
    world.bucket.put = put
    world.crash()
    async with going(world):
        await until(lambda: shelf.lines)
    assert shelf.keys == ["a"]


def test_records_of_events_that_do_not_decode_are_named_by_check(make):
    world = make(Shelf())
    with world.meta.transaction() as tx:
        tx.changes[codec.event_key(1)] = msgspec.msgpack.encode("nonsense")
    assert [problem for problem in check(world.meta) if "record E" in problem]
