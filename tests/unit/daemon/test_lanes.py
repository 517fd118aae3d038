"""What runs ahead of need never takes the place of what somebody waits for."""

import pytest

from gatewayfs.config.model import S3Options, UploadOptions
from gatewayfs.daemon.lanes import HEADS_ON_DEMAND, lanes

CONNECTIONS, WORKERS = S3Options().connections, UploadOptions().workers


@pytest.mark.parametrize("connections, workers", [(CONNECTIONS, WORKERS), (32, 16), (24, 16), (1024, 256), (64, 4)])
def test_uploads_and_everything_ahead_leave_places_free(connections, workers):
    given = lanes(connections, workers)
    ahead = given.ranges + given.small_files + given.heads
    assert 6 * ahead <= 5 * (connections - workers)


def test_by_default_a_line_of_20_ms_is_kept_busy():
    given = lanes(CONNECTIONS, WORKERS)
    assert given.ranges >= 8
    assert given.small_files >= 32
    assert given.heads >= 36
    assert CONNECTIONS - WORKERS - given.ranges - given.small_files - given.heads >= HEADS_ON_DEMAND


@pytest.mark.parametrize("connections", [17, 18, 20])
def test_with_hardly_any_place_each_kind_has_one(connections):
    assert min(lanes(connections, 16).ranges, lanes(connections, 16).small_files, lanes(connections, 16).heads) == 1
