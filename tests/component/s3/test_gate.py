"""A store that is away is asked by one, however many want to know; and nobody is told so without having asked."""

import random

import pytest
import trio

from gatewayfs.errors import CredentialsRejected, ObjectNotFound, StoreAccessDenied, StoreUnreachable
from gatewayfs.runtime.clock import ManualClock
from gatewayfs.s3.gate import Gate, GatedStore
from gatewayfs.s3.retrying import RetryingStore
from tests.support.fakestore import FakeObjectStore
from tests.support.faultystore import ANY, FOREVER, FaultyStore


class World:
    def __init__(self):
        self.link = FaultyStore(FakeObjectStore())
        self.gate = Gate(300.0, random.Random(3))
        self.store = GatedStore(self.link, self.gate, ManualClock(), "p/")

    async def ask(self, error=ObjectNotFound):
        with pytest.raises(error):
            await self.store.head("p/x")


@pytest.fixture
def world():
    return World()


async def test_many_who_ask_a_store_that_is_away_share_one_probe_a_second(world, autojump_clock):
    world.link.unreachable()
    await world.ask(StoreUnreachable)
    before = len(world.link.calls)

    async def keep_asking():
        while True:
            await world.ask(StoreUnreachable)
            await trio.sleep(0.2)

    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(keep_asking)
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    probes = world.link.calls[before:]
    assert 30 <= len(probes) <= 125
    assert {(call.operation, call.key) for call in probes} == {("list_page", "p/")}


async def test_whoever_asks_when_it_is_back_gets_an_answer_within_two_seconds(world, autojump_clock):
    world.link.unreachable()
    await world.ask(StoreUnreachable)
    opened = []
    world.gate.opened = lambda: opened.append(trio.current_time())
    await trio.sleep(1000)
    world.link.heal()
    with trio.fail_after(2):
        await world.ask()
    assert len(opened) == 1


async def test_a_refusal_of_the_probe_is_an_answer(world, autojump_clock):
    world.link.fail("head", StoreUnreachable("no route"))
    world.link.fail("list_page", StoreAccessDenied("not yours"), times=FOREVER)
    await world.ask(StoreUnreachable)
    await world.ask()
    assert world.gate.closed is None


async def test_refused_credentials_close_it_for_all_with_their_own_error(world, autojump_clock):
    world.link.fail(ANY, CredentialsRejected("expired", code="ExpiredToken"), times=FOREVER)
    await world.ask(CredentialsRejected)
    with pytest.raises(CredentialsRejected, match="expired") as caught:
        await world.store.list_page("p/", delimiter=True)
    assert caught.value.code == "ExpiredToken"


async def test_who_gives_up_waiting_leaves_the_probe_to_the_others(world, autojump_clock):
    world.link.fail("head", StoreUnreachable("no route"))
    await world.ask(StoreUnreachable)
    held = world.link.hold("list_page")
    async with trio.open_nursery() as nursery:

        async def impatient():
            with trio.move_on_after(5):
                await world.ask()

        nursery.start_soon(impatient)
        await held.reached.wait()
        nursery.start_soon(world.ask)
    assert world.gate.closed is None


async def test_retries_of_one_request_do_not_ask_again_while_it_is_away(world, autojump_clock):
    world.link.unreachable()
    store = RetryingStore(world.store, random.Random(1).random)
    for _ in range(10):
        with pytest.raises(StoreUnreachable):
            await store.head("p/x")
    assert len(world.link.calls) <= 41
    assert sum(call.operation == "head" for call in world.link.calls) == 1
