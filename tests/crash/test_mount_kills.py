"""SIGKILL of the real daemon under a real mount, while programs write through the kernel.

The same judge as below the kernel (test_kills.py), with boto3 as the witness of what is in the bucket.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.mounting import MountSeries
from tests.crash.series import fast_directory
from tests.crash.zygote import Zygote
from tests.support.s3server import Bucket

ROUNDS = 12
SEEDS = range(4)
"""4 series of 12 kills: 48."""


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote("tests.crash.mounting", "gatewayfs.daemon.run", "gatewayfs.cli.mount") as made:
        yield made


@pytest.fixture
def home() -> Iterator[Path]:
    """Where the share, its cache and the log lie."""
    made = fast_directory()
    yield made
    shutil.rmtree(made)


@pytest.mark.mount
@pytest.mark.parametrize("seed", SEEDS)
def test_what_the_kernel_was_told_survives_kill_9(seed: int, zygote: Zygote, bucket: Bucket, home: Path) -> None:
    with MountSeries(seed, zygote, bucket, home) as series:
        for _ in range(ROUNDS):
            kill = series.rng.choices((series.kill_at_work, series.kill_at_start, series.kill_at_upload), (6, 2, 3))[0]
            kill()
        series.finish()
        assert series.kills.total() == ROUNDS
        assert series.ledger.answered > ROUNDS
