"""Shares that tell what happens, on a clock that jumps; and the same clock for the wall, so that files grow old."""

import inspect
from pathlib import Path

import pytest

from tests.component.upload.conftest import jumping, make_world

__all__ = ["make_world"]

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    for item in items:
        here = item.path.is_relative_to(HERE) and "real_time" not in item.keywords
        if here and inspect.iscoroutinefunction(getattr(item, "obj", None)):
            item.add_marker(pytest.mark.trio(run=jumping), append=False)
