"""The crash loop against the production server: same writer, same judge, a store that is not ours.

What only such a store shows: etags and conditions as they are there, real multipart uploads with real times, answers
that arrive after the daemon that asked is dead.
"""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gatewayfs.runtime.failpoints import VARIABLE
from tests.crash.mounting import MountSeries
from tests.crash.series import fast_directory
from tests.crash.zygote import Zygote
from tests.support.gateway import Gateway
from tests.support.s3server import Bucket

ROUNDS = 8
SEEDS = (100, 101)
POINTS = ("upload.put.after", "upload.copy.after", "upload.delete.after", "meta.append.after", "cache.persist.before")
BIG = 12 << 20


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
def test_what_was_acknowledged_survives_kills(seed: int, zygote: Zygote, bucket: Bucket, home: Path) -> None:
    with MountSeries(seed, zygote, bucket, home) as series:
        for _ in range(ROUNDS):
            kill = series.rng.choices((series.kill_at_work, series.kill_at_start, series.kill_at_upload), (5, 1, 4))[0]
            kill()
        series.finish()
        assert series.kills.total() == ROUNDS


@pytest.mark.mount
def test_what_was_acknowledged_survives_kills_at_failpoints(zygote: Zygote, bucket: Bucket, home: Path) -> None:
    with MountSeries(7, zygote, bucket, home) as series:
        reached = [name for name in POINTS if series.kill_at_point(name)]
        series.finish()
        assert len(reached) >= len(POINTS) - 1, f"only {reached} were reached"


@pytest.mark.parametrize("armed", ["upload.create.after", "upload.part.after", "upload.complete.after"])
def test_an_upload_in_parts_leaves_one_object_and_no_fragment(
    armed: str, gateway: Callable[..., Gateway], bucket: Bucket
) -> None:
    share = gateway(settings={"upload.part_size": "5MiB", "upload.settle": "300ms"}, env={VARIABLE: f"{armed}=kill"})
    data = os.urandom(BIG)
    (share.mount_dir / "big").write_bytes(data)
    assert share.wait_exit() == -signal.SIGKILL
    share.env = {}
    share.start()
    share.drain()
    assert bucket.body("big") == data
    assert bucket.keys() == ["big"]
    assert bucket.s3.list_multipart_uploads(Bucket=bucket.name).get("Uploads", []) == []
