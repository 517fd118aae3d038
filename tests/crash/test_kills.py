"""SIGKILL below the kernel, a few hundred times: nothing acknowledged is lost, nothing half done stays.

The child is the daemon without FUSE, HTTP and the control socket (``rig``); the bucket lives in the test. The same
through a real mount: test_mount_kills.py.
"""

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.crash.series import Series
from tests.crash.zygote import Zygote

ROUNDS = 24
SEEDS = range(8)
"""8 series of 24 kills at random moments: 192."""

total: Counter[str] = Counter()


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote("tests.crash.rig") as made:
        yield made
    print("kills:", dict(total))


@pytest.mark.parametrize("seed", SEEDS)
def test_what_was_acknowledged_survives_kills_at_random_moments(seed: int, zygote: Zygote) -> None:
    with Series(seed, zygote, settle_s=0.0 if seed % 4 else 0.3) as series:
        for _ in range(ROUNDS):
            kill = series.rng.choices((series.kill_at_work, series.kill_at_start, series.kill_at_drain), (5, 2, 3))[0]
            kill()
        series.finish()
        total.update(series.kills)
        assert series.kills.total() == ROUNDS
        assert series.ledger.answered > ROUNDS
