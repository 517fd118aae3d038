"""A client on a server that misbehaves."""

from collections.abc import Iterator

import pytest

from gatewayfs.runtime.clock import SystemClock
from gatewayfs.runtime.offload import Offload
from gatewayfs.runtime.throttle import Throttle
from gatewayfs.s3.client import HttpObjectStore
from gatewayfs.s3.http import Endpoint
from gatewayfs.s3.requests import Connection
from gatewayfs.s3.signing import Credentials
from gatewayfs.s3.transport import Timeouts
from tests.support.badserver import BadServer

SECRET = "wJalrXUtnFEMI-secret"
QUICK = Timeouts(connect_s=4.0, silence_s=1.0, request_s=2.5, work_s=2.0)
"""Tests that wait for one take this long; a busy machine must not take as long to answer at all."""


@pytest.fixture
def server() -> Iterator[BadServer]:
    with BadServer() as running:
        yield running


@pytest.fixture
def store(server: BadServer) -> Iterator[HttpObjectStore]:
    """A client of ``server`` with short timeouts."""
    with_store = client_of(server.port)
    yield with_store
    with_store.close()


def client_of(
    port: int,
    timeouts: Timeouts = QUICK,
    host: str = "127.0.0.1",
    offload: Offload | None = None,
    throttle: Throttle | None = None,
) -> HttpObjectStore:
    connection = Connection(
        "bucket",
        Endpoint(host, port, "/bucket/"),
        "us-east-1",
        lambda: Credentials("AKIAEXAMPLE", SECRET, "session-" + SECRET),
    )
    return HttpObjectStore(connection, offload or Offload(8), SystemClock(), timeouts=timeouts, throttle=throttle)
