"""Worlds for upload tests. Every test here runs on a clock that jumps, so settle times and back-offs cost nothing."""

import inspect
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.component.upload.harness import World

HERE = Path(__file__).parent


def jumping(async_fn, *args, clock=None, **more):
    """``trio.run`` on a clock that jumps to the next deadline whenever everybody sleeps."""
    return trio.run(async_fn, *args, clock=clock or trio.testing.MockClock(autojump_threshold=0), **more)


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.is_relative_to(HERE) and inspect.iscoroutinefunction(getattr(item, "obj", None)):
            item.add_marker(pytest.mark.trio(run=jumping), append=False)


@pytest.fixture
def make_world(tmp_path):
    """``make_world(**settings)``: a share on a bucket of its own; closed at the end."""
    worlds = []

    def make(name="share", **settings):
        (tmp_path / name).mkdir(exist_ok=True)
        worlds.append(World(tmp_path / name, **settings))
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()


@pytest.fixture
def world(make_world):
    return make_world()
