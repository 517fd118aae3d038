"""Retrying, metering and injected faults, over the fake store."""

import inspect
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path

import pytest
import trio
import trio.testing

from gatewayfs.errors import (
    BadResponse,
    ConcurrentRequest,
    ObjectNotFound,
    PreconditionFailed,
    StoreBusy,
    StoreRefused,
    StoreUnreachable,
)
from gatewayfs.runtime.clock import ManualClock
from gatewayfs.s3.metered import MeteredStore
from gatewayfs.s3.retrying import RetryingStore
from gatewayfs.s3.store import Condition, InlineBody, ObjectInfo, ObjectStore
from gatewayfs.s3.wrapping import StoreWrapper
from gatewayfs.types import ETag, ObjectKey
from tests.support.fakestore import FakeObjectStore
from tests.support.faultystore import ANY, FOREVER, FaultyStore

KEY = ObjectKey("key")
BODY = InlineBody(b"data")
LOST = StoreUnreachable("lost")


@pytest.fixture
def faulty() -> FaultyStore:
    return FaultyStore(FakeObjectStore())


@pytest.fixture
def retrying(faulty: FaultyStore, autojump_clock: trio.testing.MockClock) -> RetryingStore:
    return RetryingStore(faulty, lambda: 0.5)


def test_a_wrapper_wraps_every_method_of_the_protocol() -> None:
    methods = {name for name, _ in inspect.getmembers(ObjectStore, inspect.isfunction) if not name.startswith("_")}
    assert len(methods) > 10
    assert methods <= set(vars(StoreWrapper))


async def test_every_call_reaches_the_inner_store_with_its_arguments(faulty: FaultyStore, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"#" * 8)
    put = await faulty.put(KEY, BODY, {"a": "b"}, condition=Condition(absent=True))
    await faulty.fetch(KEY, 1, 2, str(path), 3, if_match=put.etag)
    await faulty.copy(KEY, ObjectKey("other"), source_etag=put.etag, metadata={"c": "d"})
    assert path.read_bytes() == b"###at###"
    assert dict((await faulty.head(ObjectKey("other"))).metadata) == {"c": "d"}
    assert [call.operation for call in faulty.calls] == ["put", "fetch", "copy", "head"]
    assert (faulty.calls[0].bytes_up, faulty.calls[1].bytes_down) == (4, 2)


# --------------------------------------------------------------------------- retrying


@pytest.mark.parametrize("error", [LOST, StoreBusy("slow down"), BadResponse("html")])
async def test_a_transient_error_is_overcome(
    faulty: FaultyStore, retrying: RetryingStore, error: StoreUnreachable
) -> None:
    await faulty.put(KEY, BODY, {})
    faulty.calls.clear()
    faulty.fail("head", error, times=3)
    await retrying.head(KEY)
    assert len(faulty.calls) == 4


async def test_attempts_are_limited(faulty: FaultyStore, retrying: RetryingStore) -> None:
    faulty.fail("head", LOST, times=FOREVER)
    with pytest.raises(StoreUnreachable):
        await retrying.head(KEY)
    assert len(faulty.calls) == 4


async def test_permanent_errors_are_not_retried(faulty: FaultyStore, retrying: RetryingStore) -> None:
    for error in (StoreRefused("no"), ObjectNotFound("gone"), PreconditionFailed("changed")):
        faulty.calls.clear()
        faulty.fail("head", error)
        with pytest.raises(type(error)):
            await retrying.head(KEY)
        assert len(faulty.calls) == 1


@pytest.mark.parametrize("error", [LOST, ConcurrentRequest("409")])
async def test_a_conditional_write_is_never_sent_again(
    faulty: FaultyStore, retrying: RetryingStore, error: StoreUnreachable
) -> None:
    """Its lost first try would make the second one look like somebody else's change."""
    faulty.fail("put", error, after=True)
    with pytest.raises(type(error)):
        await retrying.put(KEY, BODY, {}, condition=Condition(absent=True))
    assert len(faulty.calls) == 1
    assert (await faulty.head(KEY)).size == 4


async def test_what_is_not_repeatable_is_not_repeated(faulty: FaultyStore, retrying: RetryingStore) -> None:
    put = await faulty.put(KEY, BODY, {})
    upload_id = await faulty.create_multipart(KEY, {})
    part = await faulty.upload_part(KEY, upload_id, 1, BODY)
    faulty.fail(ANY, LOST, times=FOREVER)
    faulty.calls.clear()
    attempts: list[Callable[[], Awaitable[object]]] = [
        # Not even without a condition: others may have replaced what a first try wrote, whose answer was lost.
        lambda: retrying.put(KEY, BODY, {}),
        lambda: retrying.copy(KEY, ObjectKey("b"), source_etag=put.etag),
        lambda: retrying.delete(KEY),
        lambda: retrying.create_multipart(KEY, {}),
        lambda: retrying.complete_multipart(KEY, upload_id, [part]),
        lambda: retrying.delete(KEY, condition=Condition(match=put.etag)),
        lambda: retrying.copy(KEY, KEY, source_etag=put.etag, metadata={}),
        lambda: retrying.copy(KEY, ObjectKey("b"), source_etag=None, condition=Condition(match=ETag("e"))),
    ]
    for attempt in attempts:
        with pytest.raises(StoreUnreachable):
            await attempt()
    assert len(faulty.calls) == len(attempts)


async def test_pauses_grow_and_the_deadline_ends_them(
    faulty: FaultyStore, autojump_clock: trio.testing.MockClock
) -> None:
    starts: list[float] = []

    class Timed(StoreWrapper):
        async def head(self, key: ObjectKey) -> ObjectInfo:
            starts.append(trio.current_time())
            return await super().head(key)

    faulty.fail("head", LOST, times=FOREVER)
    store = RetryingStore(Timed(faulty), lambda: 0.999, attempts=100, deadline_s=30)
    began = trio.current_time()
    with pytest.raises(StoreUnreachable):
        await store.head(KEY)
    pauses = [after - before for before, after in pairwise(starts)]
    assert pauses[:4] == pytest.approx([0.2, 0.4, 0.8, 1.6], rel=0.01)
    assert max(pauses) < 8
    assert trio.current_time() - began <= 30


# --------------------------------------------------------------------------- metering


async def test_statistics_count_calls_bytes_and_errors(faulty: FaultyStore, tmp_path: Path) -> None:
    store = MeteredStore(faulty, ManualClock())
    path = tmp_path / "file"
    path.touch()
    await store.put(KEY, BODY, {})
    await store.get(KEY, 0, 3)
    await store.fetch(KEY, 0, 4, str(path), 0)
    with pytest.raises(ObjectNotFound):
        await store.head(ObjectKey("nothing"))
    faulty.fail("put", StoreBusy("slow down"))
    with pytest.raises(StoreBusy):
        await store.put(KEY, BODY, {})
    seen = store.statistics()
    assert (seen.requests, seen.bytes_up, seen.bytes_down, seen.in_flight) == (5, 4, 7, 0)
    assert (seen.operations["put"].requests, seen.operations["put"].errors) == (2, 1)
    assert dict(seen.errors) == {"ObjectNotFound": 1, "StoreBusy": 1}
    assert seen.last_error is not None
    assert (seen.last_error.message, seen.last_error.operation) == ("slow down", "put")


async def test_not_found_is_an_answer_and_no_trouble() -> None:
    store = MeteredStore(FakeObjectStore(), ManualClock())
    with pytest.raises(ObjectNotFound):
        await store.head(KEY)
    assert store.statistics().last_error is None


async def test_unreachable_since_the_first_failure_until_any_answer(faulty: FaultyStore) -> None:
    clock = ManualClock(1_000)
    store = MeteredStore(faulty, clock)
    assert store.statistics().unreachable_since_ns is None
    faulty.unreachable()
    for _ in range(3):
        with pytest.raises(StoreUnreachable):
            await store.head(KEY)
        clock.advance(10)
    since = store.statistics().unreachable_since_ns
    assert since is not None
    assert 1_000 < since < 10_000_000_000
    faulty.heal()
    with pytest.raises(ObjectNotFound):
        await store.head(KEY)
    assert store.statistics().unreachable_since_ns is None


async def test_a_cancelled_call_is_not_in_flight_any_more(faulty: FaultyStore) -> None:
    store = MeteredStore(faulty, ManualClock())
    held = faulty.hold("head")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.head, KEY)
        await held.reached.wait()
        assert store.statistics().in_flight == 1
        nursery.cancel_scope.cancel()
    assert store.statistics().in_flight == 0


# --------------------------------------------------------------------------- faults


async def test_faults_hit_the_call_they_were_set_for(faulty: FaultyStore) -> None:
    faulty.fail("put", LOST, skip=1, times=2)
    outcomes = []
    for number in range(4):
        try:
            await faulty.put(ObjectKey(str(number)), BODY, {})
            outcomes.append("done")
        except StoreUnreachable:
            outcomes.append("lost")
    assert outcomes == ["done", "lost", "lost", "done"]
    assert [info.key for info in (await faulty.list_page("", delimiter=False)).objects] == ["0", "3"]


async def test_a_fault_after_the_effect_leaves_the_effect(faulty: FaultyStore) -> None:
    faulty.fail("put", LOST, after=True)
    with pytest.raises(StoreUnreachable):
        await faulty.put(KEY, BODY, {})
    assert (await faulty.head(KEY)).size == 4


async def test_a_truncated_fetch_writes_half(faulty: FaultyStore, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"####")
    await faulty.put(KEY, BODY, {})
    faulty.truncate()
    with pytest.raises(StoreUnreachable):
        await faulty.fetch(KEY, 0, 4, str(path), 0)
    assert path.read_bytes() == b"da##"
    await faulty.fetch(KEY, 0, 4, str(path), 0)
    assert path.read_bytes() == b"data"


async def test_a_held_call_goes_on_when_released(faulty: FaultyStore) -> None:
    held = faulty.hold("put")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: faulty.put(KEY, BODY, {}))
        await held.reached.wait()
        with pytest.raises(ObjectNotFound):
            await faulty.head(KEY)
        held.release()
    assert (await faulty.head(KEY)).size == 4
