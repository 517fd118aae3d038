"""What is where when a client's COMMIT is answered, with ``upload.fsync = "bucket"``."""

import os
from functools import partial

import pytest

from tests.nfs.conftest import Serve, Served


@pytest.fixture(scope="module")
def served(serve: Serve) -> Served:
    return serve(upload__fsync="bucket", upload__settle="1h", upload__settle_max="1h")


@pytest.mark.semantics("fsync-bucket")
@pytest.mark.parametrize("version", [3, 4])
def test_a_commit_is_answered_when_the_bytes_are_in_the_bucket(served: Served, version: int) -> None:
    gateway, server = served

    client = server.inside(lambda: server.mount("/share", version=version, uid=1000))
    file = server.inside(lambda: client.open(f"/v{version}", os.O_RDWR | os.O_CREAT))

    def commit(number: int) -> None:
        file.write(number, b"%d" % number)
        file.sync()

    for number in range(3):
        server.inside(partial(commit, number))
        assert gateway.bucket.body(f"v{version}") == b"012"[: number + 1]
    server.inside(client.close)
