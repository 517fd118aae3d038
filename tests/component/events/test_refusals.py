"""What a target or a full disk refuses is told later: nothing takes its place, and nothing is forgotten."""

import trio

from gatewayfs.errors import NoSpace
from gatewayfs.events import settling
from gatewayfs.events.settings import DeliveryFailed
from tests.component.events.telling import Shelf, TrioClock, going, telling, until


async def test_what_was_refused_keeps_its_place_while_later_ones_are_taken_also_through_a_crash(make_world):
    picky = Shelf("picky", lines_max=1, parallel=4)
    take, refusing_it = picky.deliver, True

    async def deliver(lines):
        if refusing_it and b"f0" in lines[0]:
            raise DeliveryFailed("not this one")
        await take(lines)

    picky.deliver = deliver
    world = make_world(clock=TrioClock(), news=telling([picky]))
    async with going(world):
        for number in range(4):
            await world.put(f"f{number}", b"x")
            await trio.sleep(5)  # told in this order
        await until(lambda: len(picky.lines) >= 3)
        await trio.sleep(5)
    assert sorted(picky.keys) == ["f1", "f2", "f3"]
    world.crash()
    refusing_it = False
    async with going(world):
        await until(lambda: "f0" in picky.keys)


async def test_an_upload_that_settled_while_the_records_were_full_is_told_when_there_is_room(make_world, monkeypatch):
    shelf = Shelf()
    world = make_world(clock=TrioClock(), news=telling([shelf], settle_s=60.0))
    failures = ["no room", "no room"]

    def full(name):
        if name == "events.settle.before" and failures:
            raise NoSpace(failures.pop())

    monkeypatch.setattr(settling, "failpoint", full)
    async with going(world):
        await world.put("a", b"123")
        await until(lambda: shelf.lines)
    assert not failures
    assert shelf.keys == ["a"]
