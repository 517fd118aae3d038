"""SIGKILL of the real daemon under a real mount, with a production S3 server: as tests/crash, shorter."""

import pytest

from tests.crash.mounting import MountSeries
from tests.crash.test_mount_kills import home, zygote
from tests.crash.zygote import Zygote
from tests.support.s3server import Bucket

__all__ = ["home", "zygote"]

ROUNDS = 12


@pytest.mark.mount
@pytest.mark.parametrize("seed", [100, 101])
def test_what_the_kernel_was_told_survives_kill_9(seed: int, zygote: Zygote, bucket: Bucket, home) -> None:
    with MountSeries(seed, zygote, bucket, home) as series:
        for _ in range(ROUNDS):
            series.rng.choices((series.kill_at_work, series.kill_at_start, series.kill_at_upload), (6, 2, 3))[0]()
        series.finish()
        assert series.kills.total() == ROUNDS
        assert series.ledger.answered > ROUNDS
