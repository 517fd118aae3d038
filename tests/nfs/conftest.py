"""A real nfs-ganesha on a real mount, and clients that reach it over loopback. One server per module.

Where nfs-ganesha cannot be had these tests are skipped, and the last lines of the run say so.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import why_no_mount
from tests.support.gateway import Gateway, Gateways
from tests.support.nfsserver import NfsServer, shared_directory, why_no_nfs
from tests.support.s3server import Bucket, fresh_bucket

Served = tuple[Gateway, NfsServer]
Serve = Callable[..., Served]


@pytest.fixture(scope="module")
def nfs_bucket(moto_endpoint: str) -> Iterator[Bucket]:
    """A bucket for the tests of a module."""
    with fresh_bucket(moto_endpoint) as bucket:
        yield bucket


@pytest.fixture(scope="module")
def serve(nfs_bucket: Bucket) -> Iterator[Serve]:
    """``serve(settings={...})``: a gateway of that bucket, and the NFS server that exports it as /share."""
    if reason := why_no_mount() or why_no_nfs():
        pytest.skip(reason)
    servers: list[NfsServer] = []
    with tempfile.TemporaryDirectory(prefix="gwfs-nfs-") as name, shared_directory(Path(name)) as home:
        home.chmod(0o755)
        with Gateways(home) as gateways:

            def start(*, endpoint_url: str = "", **settings: str) -> Served:
                wanted = {"share.name": "share", "export.enabled": "true", "identity.squash": "root"} | {
                    key.replace("__", "."): value for key, value in settings.items()
                }
                gateway = gateways.mount(nfs_bucket, settings=wanted, endpoint_url=endpoint_url)
                server = NfsServer(gateway.mount_dir.parent / "etc", gateway.runtime_dir)
                servers.append(server)
                server.install(gateway)
                server.start()
                return gateway, server

            try:
                yield start
            finally:
                for server in servers:
                    server.stop()
