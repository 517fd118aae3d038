"""SIGKILL at every failpoint: before and after each step that makes something durable or visible.

The list is the program's own (``runtime.failpoints.FAILPOINTS``): a new failpoint is visited without a word here, and
one that no writer ever reaches fails its test. docs/recovery.md says for each what is on disk there and what the start
does.
"""

import importlib
import pkgutil
from collections.abc import Iterator

import pytest

import gatewayfs
from gatewayfs.runtime.failpoints import FAILPOINTS
from tests.crash.series import Series
from tests.crash.zygote import Zygote

for module in pkgutil.walk_packages(gatewayfs.__path__, "gatewayfs."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)

TRIES = 4
"""Lives until somebody comes by; nearly always it is the first."""


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote("tests.crash.rig") as made:
        yield made


@pytest.mark.parametrize("name", sorted(FAILPOINTS))
def test_a_kill_at_a_failpoint_loses_nothing(name: str, zygote: Zygote) -> None:
    with Series(sum(name.encode()), zygote) as series:
        reached = any(series.kill_at_point(name) for _ in range(TRIES))
        assert reached, f"nobody ever comes by {name}"
        for hit in (2, 5):
            series.kill_at_point(name, hit, patience_s=1.0)
        series.finish()
