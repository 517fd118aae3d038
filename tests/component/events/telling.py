"""A share whose events go to takers in memory."""

import json
import random
from contextlib import asynccontextmanager

import trio

from gatewayfs.events.envelope import Origin
from gatewayfs.events.events import Events
from gatewayfs.events.settings import DeliveryFailed, EventSettings

START_NS = 1_700_000_000 * 10**9


class TrioClock:
    """Wall and monotonic clock alike go by trio's clock, which the test makes jump."""

    def time_ns(self):
        return START_NS + int(self.monotonic() * 1e9)

    def monotonic(self):
        try:
            return trio.current_time()
        except RuntimeError:
            return 0.0


class Shelf:
    """Takes events; refuses while ``broken``; ``after`` is called after each batch."""

    def __init__(self, name="shelf", *, lines_max=4, parallel=1):
        self.name, self.lines_max, self.parallel = name, lines_max, parallel
        self.lines = []
        self.broken = False
        self.attempts = 0
        self.after = lambda: None

    async def deliver(self, lines):
        await trio.sleep(0.01)
        self.attempts += 1
        if self.broken:
            raise DeliveryFailed("shelf is broken")
        self.lines += lines
        self.after()

    @property
    def events(self):
        return [json.loads(line) for line in self.lines]

    @property
    def details(self):
        return [event["detail"] for event in self.events]

    @property
    def keys(self):
        return [detail["object-key"] for detail in self.details if detail["event-type"] == "object-upload-complete"]


def telling(takers, **settings):
    """For ``make_world(news=...)``."""

    def make(world):
        return Events(
            meta=world.meta,
            clock=world.clock,
            rng=random.Random(11),
            origin=Origin("share", "host", "bucket", world.prefix),
            settings=EventSettings(**{"settle_s": 0.0, **settings}),
            takers=list(takers),
            arrived=lambda: world.uploader.drain(patient=True),
        )

    return make


@asynccontextmanager
async def going(world):
    """Events and uploads run, as in the daemon."""
    async with trio.open_nursery() as nursery:
        await nursery.start(world.news.run)
        await nursery.start(world.uploader.run)
        yield world.news
        nursery.cancel_scope.cancel()


async def until(condition, within_s=100_000):
    with trio.fail_after(within_s):
        while not condition():
            await trio.sleep(0.25)
