"""When an entry is due, who goes first, and that no entry is ever forgotten."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gatewayfs.errors import StoreUnreachable
from gatewayfs.s3.gate import Gate, backoff_s
from gatewayfs.upload.entries import Aside, Lane, State
from gatewayfs.upload.schedule import ADVANCE_MAX, BLOCKED_CHECK_S, Schedule


def lane_of(target):
    """1000 and up are big, 2000 and up huge."""
    return Lane(min(2, target // 1000)) if isinstance(target, int) else Lane.SMALL


def schedule(**changes):
    arguments = {
        "settle_s": 2.0,
        "settle_max_s": 60.0,
        "workers": {Lane.SMALL: 2, Lane.BIG: 1, Lane.HUGE: 1, Lane.DELETED: 3},
        "lane_of": lane_of,
        "is_open": lambda target: False,
    }
    return Schedule(**arguments | changes)


def due_at(queue, target, *times):
    """When ``target`` is handed out if asked at each of ``times``."""
    for now in times:
        queue.advance(now)
        entry = queue.take(now)
        if entry is not None and entry.target == target:
            return now
    return None


def test_a_change_is_due_when_it_has_settled():
    queue = schedule()
    queue.notice(1, 10.0)
    assert queue.next_due_s() == 12.0
    assert due_at(queue, 1, 11.9, 12.0) == 12.0


def test_each_further_change_postpones_it_but_never_past_the_longest_settle_time():
    queue = schedule()
    for second in range(100):
        queue.notice(1, float(second))
        queue.advance(float(second))
        if (entry := queue.take(float(second))) is not None:
            assert second == 60
            assert entry.target == 1
            return
    pytest.fail("it was never due")


def test_an_open_file_waits_for_the_longest_settle_time_and_for_its_close():
    is_open = True
    queue = schedule(is_open=lambda target: is_open)
    queue.notice(1, 0.0)
    assert due_at(queue, 1, 2.0, 59.9) is None
    is_open = False
    queue.notice(1, 59.9)
    assert due_at(queue, 1, 60.0) == 60.0


def test_hurry_skips_settling_but_not_back_off():
    queue = schedule()
    queue.notice(1, 0.0)
    queue.hurry(1, 0.5)
    queue.advance(0.5)
    entry = queue.take(0.5)
    queue.failed(entry, 0.5, 30.0, "busy")
    queue.hurry(1, 1.0)
    assert queue.next_due_s() == 30.5
    queue.retry(1, 2.0)
    assert queue.next_due_s() <= 2.0


def test_the_oldest_goes_first_in_each_lane():
    queue = schedule()
    for target, first in ((3, 3.0), (1, 1.0), (2, 2.0), (1001, 0.5), (1000, 0.1)):
        queue.notice(target, first)
    queue.advance(100.0)
    taken = [queue.take(100.0).target for _ in range(3)]
    assert taken == [1, 2, 1000]
    assert queue.take(100.0) is None, "every lane is full"


def test_news_while_a_worker_has_it_bring_it_back():
    queue = schedule()
    queue.notice(1, 0.0)
    queue.advance(2.0)
    entry = queue.take(2.0)
    queue.notice(1, 2.5)
    queue.settled(entry, 3.0)
    assert 1 in queue
    assert due_at(queue, 1, 4.4, 4.5) == 4.5


def test_a_blocked_entry_goes_on_when_it_is_called_and_by_itself_in_the_end():
    queue = schedule()
    for target in (1, 2):
        queue.notice(target, 0.0)
    queue.advance(2.0)
    first, second = queue.take(2.0), queue.take(2.0)
    queue.block(first, "key", 2.0)
    queue.block(second, 1, 2.0)
    queue.wake("key")
    assert queue.take(2.0) is first
    queue.advance(2.0 + BLOCKED_CHECK_S)
    assert queue.take(2.0 + BLOCKED_CHECK_S) is second
    assert queue.overlooked == 1


def test_files_that_take_hours_leave_workers_to_those_that_take_minutes():
    queue = schedule()
    for number in range(5):
        queue.notice(2000 + number, 0.0)
    for target in (1000, 1):
        queue.notice(target, 1.0)
    queue.advance(100.0)
    assert {queue.take(100.0).target for _ in range(3)} == {2000, 1000, 1}
    assert queue.take(100.0) is None


@pytest.mark.parametrize("fate", ["put back", "blocked", "failed", "changed while it was sent"])
def test_an_entry_keeps_its_age_until_it_has_arrived(fate):
    queue = schedule()
    queue.notice(1, 0.0)
    queue.advance(2.0)
    first = queue.take(2.0)
    for target in (2, 3):
        queue.notice(target, 3.0)
    if fate == "put back":
        queue.put_back(first)
    elif fate == "blocked":
        queue.block(first, "key", 4.0)
        queue.wake("key")
    elif fate == "failed":
        queue.failed(first, 4.0, 10.0, "busy")
    else:
        queue.later(first, 4.0, 1.0, settle=True)
    queue.advance(100.0)
    assert queue.take(100.0) is first


def test_news_that_came_while_it_was_sent_are_a_new_change_and_nobody_has_asked_to_hurry_it():
    queue = schedule()
    queue.notice(1, 0.0)
    queue.hurry(1, 1.0)
    queue.advance(1.0)
    entry = queue.take(1.0)
    queue.notice(1, 50.0)
    queue.settled(entry, 100.0)
    assert entry.age_s == 100.0
    assert queue.next_due_s() == 52.0


def test_a_million_due_entries_are_made_ready_piece_by_piece():
    queue = schedule()
    for target in range(ADVANCE_MAX + 5):
        queue.notice(f"k{target}", 0.0)
    queue.advance(10.0)
    assert queue.next_due_s() <= 10.0, "there is more: come back at once"
    queue.advance(10.0)
    assert queue.next_due_s() == float("inf")


def test_pauses_grow_have_jitter_and_end():
    rng = random.Random(1)
    for attempts in range(1, 60):
        pauses = [backoff_s(attempts, 300.0, rng) for _ in range(50)]
        assert all(1.0 <= pause <= min(300.0, 2.0**attempts) for pause in pauses)
        assert len(set(pauses)) > 1


def test_failures_of_requests_under_way_do_not_lengthen_the_pause():
    gate = Gate(300.0, random.Random(1))
    for _ in range(16):
        gate.unanswered(10.0, 1, StoreUnreachable("no route"))
    assert gate.probe_at_s <= 12.0
    gate.answered(11.0)
    assert gate.closed is None


@given(
    fates=st.lists(st.sampled_from(["put_back", "block", "failed", "changing", "parked"]), max_size=12),
    lane=st.sampled_from([0, 1000, 2000]),
)
@settings(max_examples=60, deadline=None)
def test_nothing_waits_for_ever_behind_what_comes_later(fates, lane):
    """A stream of new entries that keeps every worker busy, and one that meets with every kind of trouble first."""
    queue = schedule(settle_s=1.0)
    queue.notice(lane, 0.0)
    fates = [*fates, "settled"]
    patience_s = 10 + 60 * len(fates)
    busy, now = [], 0.0
    while lane in queue:
        now += 1.0
        assert now < patience_s, "it is never its turn"
        for number in range(1, 5):
            queue.notice(lane + 1 + int(now) * 4 % 900 + number, now)
        queue.advance(now)
        while (entry := queue.take(now)) is not None:
            if entry.target != lane:
                busy.append(entry)
                continue
            match fates.pop(0):
                case "block":
                    queue.block(entry, "key", now)
                    queue.wake("key")
                case "changing":
                    queue.later(entry, now, 1.0, settle=True)
                case "failed":
                    queue.failed(entry, now, 10.0, "busy")
                case "parked":
                    queue.parked(entry, now, 50.0, "no")
                case "put_back":
                    queue.put_back(entry)
                case "settled":
                    queue.settled(entry, now)
        for entry in busy:
            queue.settled(entry, now)
        busy.clear()


class Random(RuleBasedStateMachine):
    """Any order of calls: an entry is always somewhere, and lanes never overflow."""

    targets = st.sampled_from([1, 2, 3, 1000, 1001, 2000, "k"])

    def __init__(self):
        super().__init__()
        self.queue = schedule()
        self.now = 0.0
        self.taken = []
        self.alive = set()

    @rule(which=targets, hurry=st.booleans())
    def notice(self, which, hurry):
        (self.queue.hurry if hurry else self.queue.notice)(which, self.now)
        self.alive.add(which)

    @rule(seconds=st.sampled_from([0.0, 1.0, 5.0, 400.0]))
    def pass_time(self, seconds):
        self.now += seconds
        self.queue.advance(self.now)

    @rule()
    def take(self):
        ready = [entry for entry in self.queue if entry.state is State.READY]
        entry = self.queue.take(self.now)
        if entry is not None:
            assert entry.age_s == min(other.age_s for other in ready if other.lane is entry.lane), "nobody overtakes"
            self.taken.append(entry)

    @precondition(lambda self: self.taken)
    @rule(
        what=st.sampled_from(["settled", "later", "changing", "failed", "parked", "block", "put_back"]),
        place=st.integers(0, 5),
    )
    def give_back(self, what, place):
        entry = self.taken.pop(place % len(self.taken))
        if what == "settled":
            if not entry.again:
                self.alive.discard(entry.target)
            self.queue.settled(entry, self.now)
        elif what == "later":
            self.queue.later(entry, self.now, 1.0)
        elif what == "changing":
            self.queue.later(entry, self.now, 1.0, settle=True)
        elif what == "put_back":
            self.queue.put_back(entry)
        elif what == "block":
            self.queue.block(entry, "elsewhere", self.now)
        else:
            getattr(self.queue, what)(entry, self.now, 10.0, "why")

    @rule()
    def wake(self):
        self.queue.wake("elsewhere")

    @invariant()
    def nothing_is_forgotten(self):
        assert {entry.target for entry in self.queue} == self.alive
        assert self.queue.taken_count == len(self.taken)

    def teardown(self):
        """Give everything back, let a year pass, and every entry is handed out."""
        for entry in self.taken:
            self.queue.put_back(entry)
        seen = set()
        for _ in range(10 * len(self.alive)):
            self.now += 31_536_000
            self.queue.advance(self.now)
            while (entry := self.queue.take(self.now)) is not None:
                assert entry.state is State.TAKEN
                seen.add(entry.target)
                self.queue.settled(entry, self.now)
        assert seen == self.alive


TestRandom = Random.TestCase
TestRandom.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


def test_whether_it_stays_is_asked_once_more_when_its_turn_comes():
    why = {}
    queue = schedule(stays=why.get)
    queue.notice(1, 0.0)
    queue.advance(2.0)
    why[1] = Aside.HELD
    assert queue.take(2.0) is None
    assert queue.aside_count[Aside.HELD] == 1
    del why[1]
    queue.reconsider(queue.get(1))
    assert due_at(queue, 1, 100.0) == 100.0
