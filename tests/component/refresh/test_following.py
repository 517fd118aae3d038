"""Following a bucket by a queue: at least once, in any order, bounded, and never believed."""

import json
import random
from contextlib import asynccontextmanager

import pytest
import trio

from gatewayfs.errors import StoreAccessDenied
from gatewayfs.refresh.following import HELD_MAX, Following
from gatewayfs.refresh.looking import LOOKS_MAX
from gatewayfs.s3.queue import VISIBILITY_S, Message, QueueError, QueueFacts
from tests.component.refresh.harness import OURS, replace


class QueueStandIn:
    """Messages, which come again when they are not deleted in time."""

    address = "queue"

    def __init__(self):
        self.visible = []
        self.hidden = {}
        self.receipts = 0
        self.deleted = 0
        self.most = 0
        self.problem = None
        self.refuses_deletion = None
        self.dead_letters = False
        self.news = trio.Event()

    def send(self, body, sent_ns=0):
        self.visible.append((body if isinstance(body, str) else json.dumps(body), sent_ns))
        self.news.set()

    def tell(self, key, event="ObjectCreated:Put", bucket="bucket", **thing):
        what = {"bucket": {"name": bucket}, "object": {"key": key, **thing}}
        self.send({"Records": [{"eventSource": "ceph:s3", "eventName": event, "s3": what}]})

    async def receive(self):
        with trio.move_on_after(20):
            while True:
                await trio.lowlevel.checkpoint()
                if self.problem is not None:
                    raise self.problem
                for receipt, (until, message) in list(self.hidden.items()):
                    if until <= trio.current_time():
                        self.visible.append(message)
                        del self.hidden[receipt]
                if self.visible:
                    break
                self.news = trio.Event()
                next_s = min((until for until, _ in self.hidden.values()), default=float("inf"))
                with trio.move_on_at(next_s):
                    await self.news.wait()
        found = []
        for message in self.visible[:10]:
            self.receipts += 1
            self.hidden[str(self.receipts)] = (trio.current_time() + VISIBILITY_S, message)
            found.append(Message(str(self.receipts), *message))
        del self.visible[:10]
        self.most = max(self.most, len(self.hidden))
        return found

    async def delete(self, receipts):
        await trio.lowlevel.checkpoint()
        if self.refuses_deletion is not None:
            raise self.refuses_deletion
        assert len(receipts) <= 10
        for receipt in receipts:
            if self.hidden.pop(receipt, None) is not None:
                self.deleted += 1

    async def facts(self):
        return QueueFacts("arn", len(self.visible), self.dead_letters)

    @property
    def left(self):
        return len(self.visible) + len(self.hidden)


class Followed:
    def __init__(self, w):
        self.w, self.queue, self.syncs = w, QueueStandIn(), 0
        w.refresh.expect_notices()
        self.following = Following(
            queue=self.queue,
            look=w.refresh.look_again,
            sync=self.sync,
            bucket="bucket",
            prefix=w.prefix,
            clock=w.clock,
            rng=random.Random(1),
        )

    async def sync(self):
        self.syncs += 1
        await trio.lowlevel.checkpoint()

    async def until(self, condition, seconds=600):
        with trio.fail_after(seconds):
            while not condition():
                await trio.sleep(0.01)

    @property
    def status(self):
        return self.following.status()


@pytest.fixture
def f(w):
    return Followed(w)


@asynccontextmanager
async def running(f):
    """The share, listed, and what follows its bucket."""
    async with f.w.running(), trio.open_nursery() as nursery:
        await f.w.list_everything()
        f.w.store.requests.clear()
        nursery.start_soon(f.following.run)
        yield
        nursery.cancel_scope.cancel()


@pytest.mark.semantics("foreign-change-queue")
async def test_what_others_do_shows_within_a_second_and_the_message_goes_after_the_records_are_durable(
    f, autojump_clock
):
    f.w.store.foreign_put("old")
    async with running(f):
        begun = trio.current_time()
        f.w.store.foreign_put("new", b"1", OURS)
        f.w.store.foreign_delete("old")
        f.queue.tell("new")
        f.queue.tell("old", "ObjectRemoved:Delete")
        await f.until(lambda: f.w.names() == ["new"], 1)
        assert f.queue.deleted == 0 or f.syncs > 0
        await f.until(lambda: f.queue.left == 0, 1)
        assert trio.current_time() - begun < 1
        assert f.syncs >= 1
        assert sorted(f.w.store.requests) == [("head", "new"), ("head", "old")]
        assert (f.status.received, f.status.applied, f.status.held) == (2, 2, 0)


@pytest.mark.semantics("foreign-change-queue")
async def test_doubled_and_reordered_messages_end_as_the_bucket_is(f, autojump_clock):
    async with running(f):
        f.w.store.foreign_put("a", b"2")
        for event in ("ObjectRemoved:Delete", "ObjectCreated:Put", "ObjectRemoved:Delete", "ObjectCreated:Copy"):
            f.queue.tell("a", event, eTag="of another time", sequencer="00")
            f.queue.tell("gone", event)
        await f.until(lambda: f.queue.left == 0)
        assert f.w.names() == ["a"]


async def test_many_messages_about_one_key_are_a_few_looks(f, autojump_clock):
    f.w.store.foreign_put("a")
    async with running(f):

        async def slow():
            await trio.sleep(1)

        f.w.store.held["head"] = slow
        for _ in range(500):
            f.queue.tell("a")
        await f.until(lambda: f.queue.left == 0)
        assert f.status.applied == 500
        assert len(f.w.store.requests) <= 5


async def test_a_storm_is_bounded_in_messages_and_requests(f, autojump_clock):
    async with running(f):
        busy = most = 0

        async def count():
            nonlocal busy, most
            busy += 1
            most = max(most, busy)
            await trio.sleep(0.02)
            busy -= 1

        f.w.store.held["head"] = count
        for number in range(5000):
            f.w.store.foreign_put(f"f{number:04}")
            f.queue.tell(f"f{number:04}")
        await f.until(lambda: f.queue.left == 0)
        assert len(f.w.names()) == 5000
        assert (most, f.queue.most <= HELD_MAX) == (LOOKS_MAX, True)
        assert len(f.w.store.requests) == 5000


@pytest.mark.semantics("foreign-change-queue")
async def test_garbage_and_other_peoples_messages_are_counted_and_go(f, autojump_clock, caplog):
    async with running(f):
        for body in ("garbage", "more garbage", "{}", {"Service": "Amazon S3", "Event": "s3:TestEvent"}):
            f.queue.send(body)
        f.queue.tell("a", bucket="another")
        f.queue.tell("//")
        f.queue.tell("a", "ObjectTagging:Put")
        await f.until(lambda: f.queue.left == 0)
        assert (f.status.bad, f.status.ignored) == (3, 4)
        assert f.w.store.requests == []
        assert caplog.text.count("no notification: no JSON ") == 1
        assert "garbage" not in caplog.text


async def test_garbage_is_left_to_the_dead_letter_queue_where_there_is_one(f, autojump_clock):
    f.queue.dead_letters = True
    async with running(f):
        f.queue.send("garbage")
        f.queue.tell("a")
        await f.until(lambda: f.status.applied == 1)
        assert (f.status.bad, f.queue.left, f.status.held) == (1, 1, 0)
        await trio.sleep(VISIBILITY_S + 1)
        assert f.status.bad == 2, "it came again, for the queue to count"


async def test_a_queue_that_does_not_answer_is_shown_and_tried_again(f, autojump_clock):
    async with running(f):
        f.queue.problem = QueueError("queue: cannot be reached")
        f.queue.news.set()
        await f.until(lambda: f.status.failing_since_ns > 0)
        assert f.status.last_error == "queue: cannot be reached"
        await trio.sleep(3600)
        f.queue.problem = None
        f.w.store.foreign_put("a")
        f.queue.tell("a")
        await f.until(lambda: f.w.names() == ["a"], 61)
        assert f.status.failing_since_ns == 0


async def test_while_the_bucket_does_not_answer_nothing_more_is_received(f, autojump_clock):
    async with running(f):
        f.w.store.offline = True
        f.w.store.foreign_put("a")
        f.queue.tell("a")
        await f.until(lambda: f.status.failing_since_ns > 0)
        for number in range(100):
            f.queue.tell(f"x{number}")
        await trio.sleep(600)
        assert (f.status.received <= 30, f.status.applied) == (True, 0)
        f.w.store.offline = False
        await f.until(lambda: f.queue.left == 0)
        assert f.w.names() == ["a"]
        assert f.status.failing_since_ns == 0


async def test_what_the_store_refuses_for_good_is_counted_and_does_not_stop_the_rest(f, autojump_clock):
    async with running(f):
        f.w.store.failures.append(StoreAccessDenied("not allowed", operation="HeadObject", key="a"))
        f.w.store.foreign_put("b")
        f.queue.tell("a")
        await f.until(lambda: f.status.refused == 1)
        f.queue.tell("b")
        await f.until(lambda: f.queue.left == 0)
        assert (f.w.names(), f.status.failing_since_ns) == (["b"], 0)


async def test_messages_that_cannot_be_deleted_come_again_and_are_not_hammered(f, autojump_clock):
    f.queue.refuses_deletion = QueueError("queue: AccessDenied")
    async with running(f):
        f.queue.tell("a")
        await trio.sleep(3600)
        assert f.status.failing_since_ns > 0
        assert f.status.received < 200
        f.queue.refuses_deletion = None
        await f.until(lambda: f.queue.left == 0)
        assert f.status.failing_since_ns == 0


async def test_what_is_in_hand_at_the_end_comes_again_to_the_next(f, autojump_clock):
    async with running(f):
        f.w.store.hang = True
        f.queue.tell("a")
        f.w.store.foreign_put("a")
        await f.until(lambda: f.status.held == 1)
    f.w.store.hang = False
    next_one = Followed(f.w)
    next_one.queue = next_one.following._queue = f.queue
    async with running(next_one):
        await next_one.until(lambda: f.w.names() == ["a"], VISIBILITY_S + 1)
        await next_one.until(lambda: f.queue.left == 0)


async def test_news_below_a_directory_made_here_waits_until_it_is_settled(f, autojump_clock):
    async with running(f):
        ino = f.w.make("d", directory=True)
        f.w.store.foreign_put("d/x")
        f.queue.tell("d/x")
        await trio.sleep(10)
        assert (f.queue.left, f.w.names("d")) == (1, [])
        with f.w.meta.transaction() as tx:
            tx.put(replace(tx.require(ino), dirty_since_ns=0))
        await f.until(lambda: f.w.names("d") == ["x"], 6)
        f.w.make("e", directory=True)
        f.queue.tell("e/x")
        await f.until(lambda: f.queue.left == 0)
        assert f.status.given_up == 1
