"""Worlds for upload tests. Every test here runs on a clock that jumps, so settle times and back-offs cost nothing."""

import inspect
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.component.upload.harness import World, memory_directory

HERE = Path(__file__).parent


def jumping(async_fn, *args, clock=None, **more):
    """``trio.run`` on a clock that jumps to the next deadline whenever everybody sleeps."""
    return trio.run(async_fn, *args, clock=clock or trio.testing.MockClock(autojump_threshold=0), **more)


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.is_relative_to(HERE) and inspect.iscoroutinefunction(getattr(item, "obj", None)):
            item.add_marker(pytest.mark.trio(run=jumping), append=False)


@pytest.fixture
def make_world():
    """``make_world(**settings)``: a share on a bucket of its own; closed at the end."""
    with ExitStack() as opened:

        def make(**settings):
            directory = opened.enter_context(memory_directory())
            world = World(directory, **settings)
            opened.callback(world.close)
            return world

        yield make


@pytest.fixture
def world(make_world):
    return make_world()
