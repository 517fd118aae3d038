"""A share of its own for each test."""

import pytest

from tests.component.refresh.harness import World


@pytest.fixture
def worlds(tmp_path):
    """``worlds(prefix=..., deadline_s=...)`` makes a share."""
    made = []

    def make(**arguments):
        made.append(World(tmp_path / f"share{len(made)}", **arguments))
        return made[-1]

    yield make
    for world in made:
        world.close()


@pytest.fixture
def w(worlds):
    return worlds()
