"""``upload.fsync = "bucket"`` for programs: what is where when close and fsync return, and when there is no bucket."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from tests.support.gateway import Gateway
from tests.support.link import Link
from tests.support.s3server import Bucket
from tests.support.syscalls import fails

TIMEOUT_S = 2
FSYNC = "import os, sys; fd = os.open(sys.argv[1], os.O_RDWR); print(flush=True); os.fsync(fd)"


@pytest.mark.semantics("fsync-bucket", "fsync-bucket-refused", "fsync-bucket-interrupted")
def test_fsync_waits_for_the_bucket_close_does_not_and_a_dead_link_ends_it_in_time(
    gateway: Callable[..., Gateway], bucket: Bucket
) -> None:
    settings = {"upload.fsync": "bucket", "upload.fsync_timeout": f"{TIMEOUT_S}s", "upload.settle_max": "1h"}
    with Link(bucket.endpoint_url) as link:
        share = gateway(endpoint_url=link.url, settings=settings | {"upload.settle": "1h"})
        root = share.mount_dir
        (root / "closed").write_bytes(b"closed")
        with (root / "file").open("wb", buffering=0) as file:
            for content in (b"one", b"two"):
                file.write(content)
                os.fsync(file.fileno())
                assert bucket.body("file").endswith(content)
            assert bucket.keys() == ["file"]
            directory = os.open(root, os.O_DIRECTORY)
            os.rename(root / "closed", root / "renamed")
            os.fsync(directory)
            os.close(directory)
            assert bucket.keys() == ["file", "renamed"]

            link.refuse()
            file.write(b"three")
            begun = time.monotonic()
            waits = threading.Thread(target=lambda: _fails_with_eio(file.fileno()))
            waits.start()
            (root / "meanwhile").write_bytes(b"m")  # nobody else waits for it
            assert (root / "file").stat().st_size == len(b"onetwothree")
            assert time.monotonic() - begun < TIMEOUT_S / 2
            # pyfuse3 passes no interrupts on: a caller that is interrupted goes when its time is up.
            command = [sys.executable, "-c", FSYNC, str(root / "meanwhile")]
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as caller:
                assert caller.stdout is not None
                caller.stdout.readline()
                caller.send_signal(signal.SIGINT)
                assert caller.wait(10 * TIMEOUT_S) != 0
            waits.join()
            assert TIMEOUT_S * 0.9 < time.monotonic() - begun < 10 * TIMEOUT_S
            assert "file is not in the bucket yet" in share.log()

        link.join()
        share.drain()
        assert bucket.body("file") == b"onetwothree"
        assert bucket.body("meanwhile") == b"m"


def _fails_with_eio(descriptor: int) -> None:
    with fails(errno.EIO):
        os.fsync(descriptor)
