"""One daemon per test module, a directory of its own per test.

Starting a daemon costs a second, most tests of POSIX meaning a millisecond, so ``mounted`` is shared by a module. A
test that breaks it does not break its neighbours: a daemon that died is started again for the next test.

``GATEWAYFS_POSIX_DIRECTORY=/some/dir`` runs the tests of POSIX meaning on that directory instead of a mount: what they
ask for is what Linux does on a local file system, except where docs/semantics.md names a deviation.
"""

import itertools
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import FAILED_KEY
from tests.support.gateway import STUCK_S, Gateway, Gateways
from tests.support.s3server import Bucket, fresh_bucket

_numbers = itertools.count(1)

REFERENCE = os.environ.get("GATEWAYFS_POSIX_DIRECTORY", "")


class LastingGateways(Gateways):
    """Daemons for more than one test; the watchdog is wound up by each."""

    def rewind(self) -> None:
        """Give the next test the whole time before a stuck daemon is killed."""
        self.watchdog.cancel()
        self.watchdog = threading.Timer(STUCK_S, self.abandon_all)
        self.watchdog.daemon = True
        self.watchdog.start()


@pytest.fixture(scope="module")
def shared_bucket(moto_endpoint: str) -> Iterator[Bucket]:
    """A bucket shared by the tests of a module."""
    with fresh_bucket(moto_endpoint) as bucket:
        yield bucket


@pytest.fixture(scope="module")
def daemons() -> Iterator[LastingGateways]:
    """Daemons of a module, in a place other users may reach (pytest's tmp_path is the owner's alone)."""
    with tempfile.TemporaryDirectory(prefix="gwfs-mount-") as name:
        home = Path(name)
        home.chmod(0o755)
        with LastingGateways(home) as factory:
            yield factory


@pytest.fixture(scope="module")
def mounted(shared_bucket: Bucket, daemons: LastingGateways) -> Gateway:
    """That bucket, mounted. (Daemons end before their bucket goes: fixtures end in reverse order.)"""
    return daemons.mount(shared_bucket)


@pytest.fixture
def mount_root(request: pytest.FixtureRequest) -> Path:
    """Where the bucket's root is seen."""
    if REFERENCE:
        return Path(REFERENCE)
    gateway: Gateway = request.getfixturevalue("mounted")
    request.getfixturevalue("daemons").rewind()
    if not gateway.serves():
        gateway.restart()
    return gateway.mount_dir


@pytest.fixture
def work(mount_root: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """An empty directory on the mount, named for the test, writable by everybody."""
    directory = mount_root / f"{request.node.originalname[:100]}-{next(_numbers)}"
    directory.mkdir()
    directory.chmod(0o777)
    yield directory
    if not REFERENCE and request.node.stash.get(FAILED_KEY, False):
        request.getfixturevalue("daemons").print_logs()


@pytest.fixture
def mounted_drain(mounted: Gateway) -> Callable[[], None]:
    """Wait until everything written so far is in the bucket."""
    return mounted.drain
