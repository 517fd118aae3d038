"""moto's S3 server as a child process: the default store of the test suite."""

import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import boto3
from botocore.config import Config

SERVER = Path(__file__).with_name("motoserver.py")
READY_S_MAX = 30
POLL_S = 0.05


class MotoFailed(Exception):
    """The server ended or never answered; the message carries what it said."""


@contextmanager
def moto_server() -> Iterator[str]:
    """Start a moto server on a free port; yield its URL; end it with the block."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            [sys.executable, "-P", str(SERVER), "-H", "127.0.0.1", "-p", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # Ctrl-C ends its user, who then ends it: a daemon may still have to unmount.
            start_new_session=True,
        )
        try:
            _wait_until_ready(url, child, log)
            yield url
        finally:
            child.terminate()
            try:
                child.wait(5)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def free_port() -> int:
    """Return a TCP port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_bucket(endpoint: str, name: str, *, versioning: bool = False) -> None:
    """Create a bucket through boto3, as an administrator would."""
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}),
    )
    try:
        client.create_bucket(Bucket=name)
        if versioning:
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    finally:
        client.close()


def _wait_until_ready(url: str, child: "subprocess.Popen[bytes]", log: IO[bytes]) -> None:
    deadline = time.monotonic() + READY_S_MAX
    while time.monotonic() < deadline:
        if child.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{url}/moto-api/", timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(POLL_S)
    log.seek(0)
    raise MotoFailed(f"moto server on {url} is not ready: {log.read().decode(errors='replace')[-2000:]}")
