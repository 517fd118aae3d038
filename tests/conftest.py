"""What every test may count on, and what the run says at its end.

* The user's own AWS configuration is out of reach: tests see test credentials and no configuration file.
* ``moto_endpoint``, ``bucket`` and ``gateway`` give an S3 server, a fresh bucket on it, and daemons mounted for
  the length of one test (``tests.support``); ``production_endpoint`` a server that people run in earnest.
* A test that mounts needs root and /dev/fuse; elsewhere it is skipped, and the last lines of the run count the skips
  by reason. With GATEWAYFS_REQUIRE_ALL=1, as in CI, a skip is a failure unless the test is marked ``may_skip``.
* Hypothesis judges no example by its time: the machine may be busy. In CI it tries the same examples every time.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.support.gateway import Gateway, Gateways
from tests.support.s3server import TEST_KEY, TEST_SECRET, Bucket, fresh_bucket, production_server

TESTS = Path(__file__).parent
REQUIRE_ALL = os.environ.get("GATEWAYFS_REQUIRE_ALL") == "1"
settings.register_profile("gatewayfs", deadline=None, derandomize=REQUIRE_ALL or settings().derandomize)
settings.load_profile("gatewayfs")

FAILED_KEY = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    if "GATEWAYFS_E2E_ENDPOINT" not in os.environ:
        # A given endpoint comes with its own keys; otherwise nothing here may meet a real account.
        for name in [name for name in os.environ if name.startswith("AWS_") and name != "AWS_CA_BUNDLE"]:
            del os.environ[name]
        os.environ["AWS_ACCESS_KEY_ID"] = TEST_KEY
        os.environ["AWS_SECRET_ACCESS_KEY"] = TEST_SECRET
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"


def why_no_mount() -> str:
    """The reason nothing can be mounted here, or ""."""
    if os.geteuid() != 0:
        return "needs root to mount"
    if not os.path.exists("/dev/fuse"):
        return "needs /dev/fuse"
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        layer = item.path.relative_to(TESTS).parts[0] if item.path.is_relative_to(TESTS) else ""
        if layer == "e2e":
            item.add_marker("e2e")
        if layer == "mount" or "gateway" in getattr(item, "fixturenames", ()):
            item.add_marker("mount")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("mount") and (reason := why_no_mount()):
        pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report: pytest.TestReport = yield  # type: ignore[assignment]
    if report.failed:
        item.stash[FAILED_KEY] = True
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail") and not item.get_closest_marker("may_skip"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which GATEWAYFS_REQUIRE_ALL=1 forbids: {skip_reason(report)}"
    return report  # type: ignore[return-value]


def skip_reason(report: Any) -> str:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return str(reason).removeprefix("Skipped: ")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if not hasattr(report, "wasxfail")]
    if not skipped:
        return
    terminalreporter.section("NOT PROVED in this run", red=True, bold=True)
    for reason, count in Counter(skip_reason(report) for report in skipped).most_common():
        terminalreporter.line(f"{count:5} skipped: {reason}", yellow=True)


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    """URL of a moto server that lives as long as the test run."""
    from tests.support.moto import moto_server  # heavy, and only some layers want it

    with moto_server() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def production_endpoint() -> Iterator[str]:
    """URL of the production S3 server (Ceph, or what GATEWAYFS_E2E_ENDPOINT names), for tests marked ``e2e``."""
    with production_server() as endpoint:
        yield endpoint


@pytest.fixture
def bucket(moto_endpoint: str) -> Iterator[Bucket]:
    """An empty bucket of this test's own on the moto server."""
    with fresh_bucket(moto_endpoint) as made:
        yield made


@pytest.fixture
def gateways(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Gateways]:
    """Daemons of this test, on any bucket; all stopped and unmounted at its end, their logs shown if it failed."""
    with Gateways(tmp_path) as factory:
        yield factory
        if request.node.stash.get(FAILED_KEY, False):
            factory.print_logs()


@pytest.fixture
def gateway(bucket: Bucket, gateways: Gateways) -> Callable[..., Gateway]:
    """``gateway(settings={...}, env={...}) -> Gateway``: mount this test's bucket; see ``Gateways.mount``."""

    def mount(**arguments: Any) -> Gateway:
        return gateways.mount(bucket, **arguments)

    return mount
